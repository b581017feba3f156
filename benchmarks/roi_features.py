"""RoIAlign against RoIPool and Matterport's form, from the same start on the same images.

    python benchmarks/roi_features.py DATASET LOGS

DATASET is the folder that samples/nucleus/bundled.py trains on. Every form trains as many steps,
on the same crops in the same order, and is scored on the validation images (the paper's tables 2c
and 2d). A form that has its row in LOGS/roi_features.json is not trained again.
"""

import argparse
import dataclasses
import json
import os
import sys
import time
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

from mrcnn import conventions, files
from mrcnn.config import Config

ROOT = Path(__file__).resolve().parents[1]
sys.path.append(str(ROOT / "samples" / "nucleus"))

# Matterport's features are sampled from corner to corner, and so are its boxes, targets and masks.
CORNERS = dataclasses.replace(
    conventions.DETECTRON2,
    name="corners",
    roi_features="corners",
    inclusive_frame=True,
    paste="whole",
)
POOL = dataclasses.replace(conventions.DETECTRON2, name="pool", roi_features="pool")
FORMS = {"aligned": conventions.DETECTRON2, "pool": POOL, "corners": CORNERS}
EPOCHS, STEPS = 10, 100


def settings(form: str) -> Config:
    """Return the settings of the bundled network under detectron2's conventions, but for a form."""
    from bundled import BundledConfig

    family = FORMS[form]
    conventions.FAMILIES[family.name] = family
    return BundledConfig().replace(
        CONVENTIONS=family.name,
        NAME=form,
        PRE_NMS_LIMIT_TRAINING=1000,
        DETECTION_NMS_THRESHOLD=0.3,
        STEPS_PER_EPOCH=STEPS,
        VALIDATION_STEPS=0,
        LEARNING_RATE_DROPS=(8,),
    )


def measure(form: str, dataset: str, logs: str) -> dict[str, float]:
    """Train and score a form; return its row."""
    import bundled

    from mrcnn.model import MaskRCNN

    model = MaskRCNN("training", settings(form), logs)
    train, val = bundled.load(dataset, "train"), bundled.load(dataset, "val")
    started = time.perf_counter()
    model.train(train, None, model.config.LEARNING_RATE, EPOCHS, "all")
    minutes = (time.perf_counter() - started) / 60
    scores = model.evaluate(val)
    row = {"minutes": round(minutes, 1)}
    for kind in ("segm", "bbox"):
        for score in ("AP", "AP50", "AP75"):
            row[f"{kind} {score}"] = round(float(scores[kind][score]), 3)
    return row


def main() -> None:
    """Measure every form and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("dataset")
    parser.add_argument("logs")
    options = parser.parse_args()
    path = Path(options.logs) / "roi_features.json"
    rows = json.loads(path.read_text()) if path.exists() else {}
    for form in FORMS:
        if form not in rows:
            rows[form] = measure(form, options.dataset, options.logs)
            with files.replacing(path) as partial:
                partial.write_text(json.dumps(rows, indent=1))
    print(f"{EPOCHS} epochs of {STEPS} steps")
    names = list(next(iter(rows.values())))
    print("| form | " + " | ".join(names) + " |")
    print("| --- |" + " --- |" * len(names))
    for form, row in rows.items():
        print(f"| {form} | " + " | ".join(str(row[name]) for name in names) + " |")


if __name__ == "__main__":
    main()
