"""`mrcnn detect`: objects in images, as pictures and as COCO results."""

import argparse
import logging
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mrcnn.cli import common
from mrcnn.data.formats import files
from mrcnn.geometry import images as image_math

if TYPE_CHECKING:
    from mrcnn.config import Config

logger = logging.getLogger("mrcnn")


def add_options(command: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    command.add_argument("images", nargs="+", metavar="IMAGE_OR_DIR")
    command.add_argument(
        "--weights", required=True, help="nuclei, coco, torchvision-v2, last (of ./logs), or a file"
    )
    command.add_argument("--output", required=True, metavar="DIR", help="folder for the results")
    command.add_argument(
        "--min-score", type=common.fraction, default=0.5, help="(default: %(default)s)"
    )
    common.add_settings(command)


def run(options: argparse.Namespace) -> int:
    """Detect objects in images and folders; write a picture of each and detections.json."""
    paths = _image_paths(options.images)
    model = common.load_network(options)
    with common.quiet_start():
        from mrcnn import visualize
        from mrcnn.drawing import pictures
        from mrcnn.evaluation import coco
    output = Path(options.output)
    category_ids = _category_ids(model.config)
    results, failed = [], 0
    for path, target in zip(common.progress(paths), _targets(paths, output), strict=True):
        try:
            image = image_math.read_image(path, model.config.IMAGE_CHANNEL_COUNT)
        except ValueError as error:
            logger.warning("%s", error)
            failed += 1
            continue
        found = common.at_least(model.detect([image])[0], options.min_score)
        names = model.config.CLASS_NAMES or _numbered(model.config.NUM_CLASSES)
        drawn = visualize.draw_instances(pictures.visible(image), found, names)
        if "keypoints" in found:
            keypoint_names = model.config.KEYPOINT_NAMES
            drawn = visualize.draw_keypoints(drawn, found["keypoints"], keypoint_names)
        visualize.save_image(target, drawn)
        for row in coco.to_results(found, 0, category_ids):
            results.append({**row, "image_id": _image_id(path), "file_name": path.name})
    common.write_json(output / "detections.json", results)
    print(
        f"{len(results)} objects in {len(paths) - failed} images; pictures and detections.json "
        f"in {output}"
    )
    if failed:
        print(f"{failed} images could not be read", file=sys.stderr)
    return 1 if failed else 0


def _image_paths(arguments: Sequence[str]) -> list[Path]:
    paths: list[Path] = []
    for argument in map(Path, arguments):
        if argument.is_dir():
            inside = files.images_in(argument)
            if not inside:
                raise ValueError(f"{argument}: there are no images in this folder")
            paths += inside
        elif argument.is_file():
            paths.append(argument)
        else:
            raise FileNotFoundError(f"{argument}: there is no such image or folder")
    return paths


def _targets(paths: Sequence[Path], output: Path) -> list[Path]:
    """Return where the picture of each image goes: no image is overwritten, no name used twice."""
    targets: list[Path] = []
    taken = {path.resolve() for path in paths}
    for path in paths:
        target, number = output / f"{path.stem}.png", 1
        while target.resolve() in taken:
            number += 1
            target = output / f"{path.stem}_{number}.png"
        taken.add(target.resolve())
        targets.append(target)
    return targets


def _image_id(path: Path) -> int | str:
    """Return COCO's number where the file is named by it, as in 000000000139.jpg."""
    return int(path.stem) if path.stem.isdecimal() else path.name


def _category_ids(config: "Config") -> Sequence[Any]:
    return config.CATEGORY_IDS or tuple(range(config.NUM_CLASSES))


def _numbered(count: int) -> list[str]:
    return ["BG", *(f"class {index}" for index in range(1, count))]
