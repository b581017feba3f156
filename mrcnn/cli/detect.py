"""`mrcnn detect`: detections in images, as visualizations and as COCO results."""

import argparse
import logging
import math
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mrcnn import class_names as names_of_classes
from mrcnn import files
from mrcnn.cli import common, detect_images
from mrcnn.cli.detect_images import Found
from mrcnn.cli.results import ResultsFile, is_ours
from mrcnn.data.formats import coco as coco_format
from mrcnn.data.formats import files as texts
from mrcnn.geometry import image_files
from mrcnn.geometry import images as image_math

if TYPE_CHECKING:
    from mrcnn.config import Config
    from mrcnn.mask_rcnn import MaskRCNN

logger = logging.getLogger("mrcnn")

RESULTS = "detections.json"
SHOWN = 5  # number of image names listed in one line


def add_options(command: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    command.add_argument(
        "images",
        nargs="+",
        metavar="IMAGE_OR_DIR",
        help="images, folders with all that is inside, quoted patterns such as 'in/**/*.jpg'",
    )
    command.add_argument(
        "--weights", required=True, help="nuclei, coco, torchvision-v2, last (of ./logs), or a file"
    )
    command.add_argument(
        "--output",
        required=True,
        metavar="DIR",
        help=f"folder for the visualizations and {RESULTS}, which grows image by image",
    )
    command.add_argument(
        "--min-score", type=common.fraction, default=0.5, help="(default: %(default)s)"
    )
    command.add_argument(
        "--annotations",
        metavar="JSON",
        help="a COCO file whose image and category ids the results should use",
    )
    command.add_argument(
        "--overwrite",
        action="store_true",
        help="replace the results of an earlier run in the folder, but no other files",
    )
    common.add_settings(command)


@dataclass
class Tally:
    """Counts of the images processed so far."""

    done: int = 0
    best: float = 0.0  # best score of all detections, shown or not
    failed: list[str] = field(default_factory=list)


def run(options: argparse.Namespace) -> int:
    """Detect objects in images and folders; write visualizations and detections.json."""
    image_files.pixel_limit()  # raises if the environment variable is not a number
    output = Path(options.output)
    found, notes = detect_images.find(options.images, output)
    categories = None
    if options.annotations:
        path = Path(options.annotations)
        content = texts.read_json(path)
        categories = coco_format.category_names(content, path)
        listed = detect_images.with_ids_of(found, coco_format.image_names(content, path))
        names = {each.name for each in found} - {each.name for each in listed}
        if names:
            notes.append(f"not in {options.annotations}, so left out: {_some(sorted(names))}")
        found = listed
    targets = detect_images.targets(found, output, overwrite=options.overwrite)
    _check_results(output, overwrite=options.overwrite)
    for note in notes:
        print(note, file=sys.stderr)
    model = common.load_network(options)
    detector = Detector(model, options.min_score, _categories(model.config, categories))
    files.make_folder(output)
    tally = Tally()
    with ResultsFile(output / RESULTS) as results:
        try:
            for each, target in zip(common.progress(found), targets, strict=True):
                detector.detect(each, target, results, tally)
        finally:  # also after Ctrl-C or on a full disk
            _report(tally, results.count, len(found), options)
    return 1 if tally.failed else 0


class Detector:
    """Detects, draws and writes the objects of images, one at a time.

    Args:
        min_score: minimum score of the objects shown.
        categories: category id of each class in the results, None for classes without one.
    """

    def __init__(self, model: "MaskRCNN", min_score: float, categories: Sequence[Any]) -> None:
        self.model, self.min_score, self.categories = model, min_score, categories
        self.names = model.config.CLASS_NAMES or _numbered(model.config.NUM_CLASSES)
        self.name_of = dict(zip(categories, self.names, strict=False))

    def detect(self, image: Found, target: Path, results: ResultsFile, tally: Tally) -> None:
        """Detect objects in one image; a failure is logged with its name and counted.

        Raises:
            OSError: If the results cannot be written.
        """
        try:
            with _named(image.path):
                drawn, rows, best = self._look_at(image)
        # Decoding errors, settings that do not suit an image, out of memory.
        except (ValueError, RuntimeError, MemoryError) as error:
            reason = image_files.reason(error)
            is_named = str(image.path) in reason
            logger.warning("%s", reason if is_named else f"{image.path}: {reason}")
            tally.failed.append(image.name)
            return
        from mrcnn.drawing import pictures

        pictures.save_image(target, drawn, software=detect_images.SOFTWARE)
        results.add(rows)
        tally.done += 1
        tally.best = max(tally.best, best)

    def _look_at(self, image: Found) -> tuple[Any, list[dict[str, Any]], float]:
        """Return the visualization of an image, its result rows, and the best score."""
        from mrcnn import visualize
        from mrcnn.drawing import pictures
        from mrcnn.evaluation import coco

        config = self.model.config
        pixels = image_math.read_image(image.path, config.IMAGE_CHANNEL_COUNT)
        everything = next(self.model.predict([pixels], masks="rle"))
        shown = common.at_least(everything, self.min_score)
        drawn = visualize.draw_instances(pictures.visible(pixels), shown, self.names)
        if "keypoints" in shown:
            drawn = visualize.draw_keypoints(drawn, shown["keypoints"], config.KEYPOINT_NAMES)
        rows = [
            {**row, "file_name": image.name, "category_name": self.name_of[row["category_id"]]}
            for row in coco.to_results(shown, image.id, self.categories)
        ]
        return drawn, rows, float(everything["scores"].max(initial=0))


def _categories(config: "Config", categories: Mapping[Any, str] | None) -> Sequence[Any]:
    """Return the category id of each class, from the annotations or the training data.

    Args:
        categories: names by category id of the annotations; None without annotations.

    Raises:
        ValueError: If the annotations have none of the classes.
    """
    own = config.CATEGORY_IDS or tuple(range(config.NUM_CLASSES))
    if categories is None or not config.CLASS_NAMES:
        return own
    matched = names_of_classes.matched(categories.values(), config.CLASS_NAMES)
    by_name = {matched[name]: i for i, name in categories.items() if name in matched}
    absent = [name for name in config.CLASS_NAMES[1:] if name not in by_name]
    if len(absent) == len(config.CLASS_NAMES) - 1:
        raise ValueError(
            f"the annotations have none of the network's classes {list(absent)}, but "
            f"{list(categories.values())}"
        )
    if absent:
        logger.warning("not in the annotations, so left out: %s", ", ".join(absent))
    return [None, *(by_name.get(name) for name in config.CLASS_NAMES[1:])]


def _check_results(output: Path, *, overwrite: bool) -> None:
    """Raise ValueError if there is a results file that must not be replaced."""
    path = output / RESULTS
    if not path.exists():
        return
    if not path.is_file() or not is_ours(path):
        raise ValueError(f"{path} was not written by mrcnn detect: move it, or give another folder")
    if not overwrite:
        raise ValueError(detect_images.older(output, RESULTS))


def _report(tally: Tally, count: int, total: int, options: argparse.Namespace) -> None:
    """Print the detections, the failures and what was not processed."""
    found = f"{_counted(count, 'object')} in {_counted(tally.done, 'image')}"
    if tally.done and not count:
        print(f"{found} at a score of {options.min_score:g} or more; {_hint(tally.best)}")
    else:
        print(f"{found}; visualizations and {RESULTS} in {options.output}")
    if tally.failed:
        failed = f"{_counted(len(tally.failed), 'image')} failed: {_some(tally.failed)}"
        print(failed, file=sys.stderr)
    if left := total - tally.done - len(tally.failed):
        print(f"{left} of {_counted(total, 'image')} were not processed", file=sys.stderr)


def _hint(best: float) -> str:
    if not best:
        return "nothing was found at any score: try --set DETECTION_MIN_CONFIDENCE=0.05"
    lower = best * 2 / 3
    step = 10.0 ** math.floor(math.log10(lower))
    rounded = math.floor(lower / step + 1e-9) * step
    return f"the best score was {best:.2g}: try --min-score {rounded:.1g}"


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:SHOWN]) + (f" and {len(names) - SHOWN} more" * (len(names) > SHOWN))


def _counted(count: int, thing: str) -> str:
    return f"{count} {thing}" if count == 1 else f"{count} {thing}s"


@contextmanager
def _named(path: Path) -> Iterator[None]:
    """Prefix log messages about an image with its path."""

    def name(record: logging.LogRecord) -> bool:
        record.msg, record.args = f"{path}: {record.getMessage()}", ()
        return True

    logger.addFilter(name)
    try:
        yield
    finally:
        logger.removeFilter(name)


def _numbered(count: int) -> list[str]:
    return ["BG", *(f"class {index}" for index in range(1, count))]
