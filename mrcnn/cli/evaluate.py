"""`mrcnn evaluate`: COCO scores on annotated images."""

import argparse
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mrcnn.cli import common, datasets, scored
from mrcnn.data.annotated import AnnotatedDataset
from mrcnn.evaluation import tables

if TYPE_CHECKING:
    from mrcnn.mask_rcnn import MaskRCNN


def add_options(command: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    scored.add_options(command)
    datasets.add_options(command)
    command.add_argument(
        "--weights", required=True, help="nuclei, coco, torchvision-v2, last (of ./logs), or a file"
    )
    command.add_argument("--json", metavar="OUT", help="also write the scores to this file")
    command.add_argument(
        "--report", metavar="OUT.html", help="also write a page of figures and pictures"
    )
    common.add_settings(command)


def run(options: argparse.Namespace) -> int:
    """Score a network on annotated images."""
    for option in ("json", "report"):
        given = getattr(options, option)
        if given is not None and (not given or Path(given).is_dir()):
            raise ValueError(f"--{option} needs the name of a file, got {given!r}")
    model = common.load_network(options)
    config = model.config
    names = config.CLASS_NAMES[1:] or None
    dataset = scored.load(options, config.to_dict(), names)
    if dataset.num_classes != config.NUM_CLASSES:
        raise ValueError(
            f"the network has {config.NUM_CLASSES} classes including background, without names, "
            f"but the annotations have {dataset.num_classes}: {dataset.class_names}"
        )
    started = time.perf_counter()
    scores = _scores(model, dataset, options)
    _show(scores)
    print(
        f"{dataset.num_images} images, at most {config.DETECTION_MAX_INSTANCES} detections "
        f"each, {time.perf_counter() - started:.0f} s"
    )
    if options.json:
        common.write_json(Path(options.json), scores)
    if options.report:
        print(f"Wrote {options.report}")
    return 0


def _scores(
    model: "MaskRCNN", dataset: AnnotatedDataset, options: argparse.Namespace
) -> dict[str, dict[str, Any]]:
    """Return the scores on a dataset with the network's classes; write the report if wanted."""
    if options.report:
        with common.quiet_start():
            from mrcnn import report
        path = options.annotations or options.dataset
        about = {"Weights": str(options.weights), "Dataset": str(path)}
        return report.write(options.report, model, dataset, about=about, progress=common.progress)
    with common.quiet_start():
        from mrcnn.evaluation import coco
    truth = coco.truth_of(dataset, dataset.image_ids.tolist(), model.config.NUM_CLASSES)
    return model.score_against(truth, dataset, progress=common.progress)


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
