"""`mrcnn evaluate`: COCO scores on annotated images."""

import argparse
import time
from pathlib import Path
from typing import Any

from mrcnn.cli import common, datasets
from mrcnn.data.annotated import AnnotatedDataset
from mrcnn.data.formats import files, load_dataset, registry


def add_options(command: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    command.add_argument("--annotations", required=True, metavar="DATASET", help=datasets.SET)
    command.add_argument("--images", metavar="DIR", help="its images (default: looked for nearby)")
    datasets.add_options(command)
    command.add_argument(
        "--weights", required=True, help="nuclei, coco, torchvision-v2, last (of ./logs), or a file"
    )
    command.add_argument("--json", metavar="OUT", help="also write the scores to this file")
    common.add_settings(command)


def run(options: argparse.Namespace) -> int:
    """Score a network on annotated images."""
    model = common.load_network(options)
    with common.quiet_start():
        from mrcnn.evaluation import coco
    config = model.config
    dataset = load_dataset(
        options.annotations,
        **datasets.reading(options, options.images, config.to_dict()),
    )
    objects, image_ids = _truth(dataset, options.annotations)
    names = config.CLASS_NAMES or tuple(dataset.class_names)
    truth = coco.Truth(objects, image_ids, coco.match_categories(names, objects))
    started = time.perf_counter()
    scores = model.score_against(truth, dataset, progress=common.progress)
    print(coco.format_table(scores))
    print(
        f"{dataset.num_images} images, at most {config.DETECTION_MAX_INSTANCES} detections "
        f"each, {time.perf_counter() - started:.0f} s"
    )
    if options.json:
        common.write_json(Path(options.json), scores)
    return 0


def _truth(dataset: AnnotatedDataset, path: str) -> tuple[Any, list[Any]]:
    """Return the ground truth and its ids of the images.

    A COCO file is its own truth, with the areas that it states. Where its reader has left out or
    turned something, and for all other formats, the truth is what the reader made of it.
    """
    from mrcnn.evaluation import coco

    is_changed = any(finding.severity != "info" for finding in dataset.problems) or any(
        dataset.turn(image_id) != 1 for image_id in dataset.image_ids
    )
    if dataset.format != "coco" or is_changed:
        return coco.ground_truth_of(dataset), dataset.image_ids.tolist()
    content = files.read_json(registry.only_file(Path(path), "coco"))
    return coco.ground_truth(content), [info["id"] for info in dataset.image_info]
