"""`mrcnn evaluate`: COCO scores on annotated images."""

import argparse
import time
from pathlib import Path
from typing import Any

from mrcnn.cli import common, datasets, scored
from mrcnn.evaluation import tables


def add_options(command: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    scored.add_options(command)
    datasets.add_options(command)
    command.add_argument(
        "--weights", required=True, help="nuclei, coco, torchvision-v2, last (of ./logs), or a file"
    )
    command.add_argument("--json", metavar="OUT", help="also write the scores to this file")
    common.add_settings(command)


def run(options: argparse.Namespace) -> int:
    """Score a network on annotated images."""
    if options.json is not None and (not options.json or Path(options.json).is_dir()):
        raise ValueError(f"--json needs the name of a file, got {options.json!r}")
    model = common.load_network(options)
    with common.quiet_start():
        from mrcnn.evaluation import coco
    config = model.config
    names = config.CLASS_NAMES[1:] or None
    dataset = scored.load(options, config.to_dict(), names)
    if dataset.num_classes != config.NUM_CLASSES:
        raise ValueError(
            f"the network has {config.NUM_CLASSES} classes including background, without names, "
            f"but the annotations have {dataset.num_classes}: {dataset.class_names}"
        )
    truth = coco.ground_truth_of(dataset)
    started = time.perf_counter()
    scores = model.score_against(
        coco.Truth(truth, dataset.image_ids.tolist(), range(config.NUM_CLASSES)),
        dataset,
        progress=common.progress,
    )
    _show(scores)
    print(
        f"{dataset.num_images} images, at most {config.DETECTION_MAX_INSTANCES} detections "
        f"each, {time.perf_counter() - started:.0f} s"
    )
    if options.json:
        common.write_json(Path(options.json), scores)
    return 0


def _show(scores: dict[str, dict[str, Any]]) -> None:
    """Print the scores of the annotated classes, and list the classes without objects."""
    first = next(iter(scores.values()))["per_class"]
    absent = [name for name, figures in first.items() if figures["AP"] is None]
    if len(absent) == len(first):
        absent = []
    shown = {
        kind: {
            **figures,
            "per_class": {k: v for k, v in figures["per_class"].items() if k not in absent},
        }
        for kind, figures in scores.items()
    }
    print(tables.format_table(shown))
    if absent:
        print(f"Not scored, since the annotations have no such objects: {', '.join(absent)}")
