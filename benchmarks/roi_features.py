"""Forms of features and of losses, from the same start on the same images.

    python benchmarks/roi_features.py DATASET LOGS [--only ROW ...]

DATASET is the folder that samples/nucleus/bundled.py trains on. Every row trains as many steps, on
the same crops in the same order, and is scored on the validation images: the paper's tables 2c and
2d, and the box losses of detectron2 against those of Matterport, with three seeds. A row that
LOGS/roi_features.json has is not trained again.
"""

import argparse
import dataclasses
import json
import os
import sys
import time
from collections.abc import Mapping
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np

from mrcnn import conventions, files
from mrcnn.config import Config

ROOT = Path(__file__).resolve().parents[1]
sys.path.append(str(ROOT / "samples" / "nucleus"))


def _changed(name: str, **fields: object) -> conventions.Conventions:
    return dataclasses.replace(conventions.DETECTRON2, name=name, **fields)


# Matterport's features are sampled from corner to corner, and so are its boxes, targets and masks.
CORNERS = _changed(
    "corners",
    roi_features="corners",
    inclusive_frame=True,
    mask_targets="corners",
    paste="whole",
)
FEATURES = {
    "aligned": conventions.DETECTRON2,
    "corners": CORNERS,
    **{
        form: _changed(form, roi_features=form)
        for form in ("aligned_max", "warp", "warp_max", "pool")
    },
}
MEANS = _changed(
    "means",
    box_loss_beta=conventions.MATTERPORT.box_loss_beta,
    box_loss_divisor=conventions.MATTERPORT.box_loss_divisor,
)
SEEDS = (0, 1, 2)
# Rows of a name: family and seed.
ROWS = {
    **{f"sampled {seed}": (conventions.DETECTRON2, seed) for seed in SEEDS},
    **{f"means {seed}": (MEANS, seed) for seed in SEEDS},
    **{form: (family, 0) for form, family in FEATURES.items() if form != "aligned"},
}
EPOCHS, STEPS = 10, 100


def settings(family: conventions.Conventions, seed: int) -> Config:
    """Return the settings of a smaller bundled network under other conventions."""
    from bundled import BundledConfig

    conventions.FAMILIES[family.name] = family
    return BundledConfig().replace(
        CONVENTIONS=family.name,
        NAME=family.name,
        SEED=seed,
        BACKBONE_WIDTH=16,
        TOP_DOWN_PYRAMID_SIZE=32,
        RPN_CONV_SIZE=32,
        MASK_CONV_SIZE=32,
        FPN_CLASSIF_FC_LAYERS_SIZE=128,
        IMAGES_PER_GPU=2,
        IMAGE_MIN_DIM=128,
        IMAGE_MAX_DIM=128,
        MAX_GT_INSTANCES=40,
        RPN_ANCHOR_SCALES=(12, 24, 48, 96, 128),
        LEARNING_RATE=0.01,
        PRE_NMS_LIMIT_TRAINING=500,
        POST_NMS_ROIS_TRAINING=300,
        DETECTION_NMS_THRESHOLD=0.3,
        STEPS_PER_EPOCH=STEPS,
        VALIDATION_STEPS=0,
        LEARNING_RATE_DROPS=(8,),
    )


def measure(name: str, dataset: str, logs: str) -> dict[str, float]:
    """Train and score a row; return its figures."""
    import bundled

    from mrcnn.mask_rcnn import MaskRCNN
    from mrcnn.training.options import Options

    model = MaskRCNN(settings(*ROWS[name]), logs)
    train, val = bundled.load(dataset, "train"), bundled.load(dataset, "val")
    started = time.perf_counter()
    model.train(train, None, Options(model.config.LEARNING_RATE, EPOCHS))
    minutes = (time.perf_counter() - started) / 60
    scores = model.evaluate(val)
    row = {"minutes": round(minutes, 1)}
    for kind in ("segm", "bbox"):
        for score in ("AP", "AP50", "AP75"):
            row[f"{kind} {score}"] = round(float(scores[kind][score]), 3)
    return row


def show(rows: Mapping[str, Mapping[str, float]]) -> None:
    """Print the table, with mean and deviation of the rows that have several seeds."""
    print(f"{EPOCHS} epochs of {STEPS} steps of two images")
    names = list(next(iter(rows.values())))
    print("| row | " + " | ".join(names) + " |")
    print("| --- |" + " --- |" * len(names))
    for form, row in rows.items():
        print(f"| {form} | " + " | ".join(str(row[name]) for name in names) + " |")
    for kind in ("sampled", "means"):
        found = [rows[f"{kind} {seed}"] for seed in SEEDS if f"{kind} {seed}" in rows]
        if len(found) == len(SEEDS):
            columns = [np.array([row[name] for row in found]) for name in names]
            cells = [f"{each.mean():.3f} +- {each.std(ddof=1):.3f}" for each in columns]
            print(f"| {kind}, mean | " + " | ".join(cells) + " |")


def main() -> None:
    """Measure every row and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("dataset")
    parser.add_argument("logs")
    parser.add_argument("--only", nargs="+", choices=list(ROWS), default=list(ROWS))
    options = parser.parse_args()
    path = Path(options.logs) / "roi_features.json"
    rows = json.loads(path.read_text()) if path.exists() else {}
    for name in options.only:
        if name not in rows:
            rows[name] = measure(name, options.dataset, options.logs)
            with files.replacing(path) as partial:
                partial.write_text(json.dumps(rows, indent=1))
    show(rows)


if __name__ == "__main__":
    main()
