"""Writing the report: detect once, analyse, draw, write the page."""

import datetime
from collections.abc import Callable, Iterable, Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import Any

import jinja2
import keras
import numpy as np

import mrcnn
from mrcnn import class_agreement, files
from mrcnn.config import Config
from mrcnn.data.dataset import Dataset
from mrcnn.evaluation import analysis, coco, contents
from mrcnn.evaluation.contents import Contents
from mrcnn.mask_rcnn import MaskRCNN
from mrcnn.report import examples, history, inputs, quality
from mrcnn.report.blocks import Gallery, Section, shortened

TEMPLATE = "page.html"
MOST_COUNTED = 1000  # images of a training set whose objects are counted


def write(
    path: str | PathLike[str],
    model: MaskRCNN,
    dataset: Dataset,
    *,
    training: Dataset | None = None,
    run_folder: str | PathLike[str] | None = None,
    about: Mapping[str, str] | None = None,
    progress: Callable[[Sequence[Any]], Iterable[Any]] = iter,
) -> dict[str, dict[str, Any]]:
    """Write a page on a network's results on a dataset; return the scores, as `MaskRCNN.evaluate`.

    The page is one HTML file that loads nothing from elsewhere: scores, precision and recall,
    confusions, kinds of errors, calibration, and images. The network detects once in every image.

    Args:
        path: The file, replaced when the page is complete.
        model: The network.
        dataset: What it is scored on, prepared; classes are matched by name.
        training: What it was trained on: its objects are counted, and the first training samples
            shown.
        run_folder: The folder of a training run: its `results.csv` is drawn, where there is one.
        about: Further lines for the head of the page: title -> text.
        progress: Wraps the list of images being iterated.

    Raises:
        OSError: If the file cannot be written; found out before anything is detected.
        RuntimeError: If more than a tenth of the images cannot be read.
    """
    config = model.config
    with files.replacing(path) as partial:
        dataset = class_agreement.by_name(config, dataset)
        image_ids = dataset.image_ids.tolist()
        truth = coco.truth_of(dataset, image_ids, config.NUM_CLASSES)
        detected = model.detect_dataset(truth, dataset, progress=progress)
        options: dict[str, Any] = {
            "max_detections": config.DETECTION_MAX_INSTANCES,
            "image_ids": detected.truth_ids,
        }
        kinds = config.iou_types
        scores = coco.score(truth.coco, detected.results, iou_types=kinds, **options)
        found = analysis.analyse(
            truth.coco, detected.results, "segm" if "segm" in kinds else "bbox", **options
        )
        results = examples.Results(dataset, truth, detected, found)
        if training is not None:
            training = class_agreement.by_name(config, training)
        sections = _sections(results, scores, training, run_folder, config)
        facts = {**_facts(model, dataset, len(detected.image_ids)), **(about or {})}
        page = render(f"{config.NAME}: results", facts, sections)
        partial.write_text(page, encoding="utf-8")
    return scores


def render(title: str, facts: Mapping[str, str], sections: Sequence[Section]) -> str:
    """Return the page; all texts are escaped."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["shortened"] = shortened
    template = environment.get_template(TEMPLATE)
    return template.render(title=title, facts=facts, sections=sections, version=mrcnn.__version__)


def _sections(
    results: examples.Results,
    scores: Mapping[str, Mapping[str, Any]],
    training: Dataset | None,
    run_folder: str | PathLike[str] | None,
    config: Config,
) -> list[Section]:
    """Return the sections that there are figures for, in order."""
    course = None if run_folder is None else history.read(Path(run_folder))
    parts = {"evaluation": contents.of_truth(results.truth.coco, results.detected.truth_ids)}
    notes, gallery = "", None
    if training is not None:
        counted, notes = _counted(training)
        parts = {"training": counted, **parts}
        gallery = examples.samples(training, config)
    sections = [
        quality.scores_table(scores),
        None if course is None else inputs.training(course),
        _with_gallery(inputs.data(parts, notes), gallery),
        quality.classes(scores),
        quality.precision_recall(results.found),
        quality.confusion(results.found),
        quality.tide(results.found),
        quality.calibration(results.found),
        examples.images(results),
    ]
    return [section for section in sections if section is not None]


def _with_gallery(section: Section, gallery: Gallery | None) -> Section:
    if gallery is None:
        return section
    return Section(section.anchor, section.title, section.text, [*section.blocks, gallery])


def _counted(training: Dataset) -> tuple[Contents, str]:
    """Return the contents of a training set, and what is to be said of images left out."""
    image_ids = training.image_ids
    notes = []
    if len(image_ids) > MOST_COUNTED:
        places = np.linspace(0, len(image_ids) - 1, MOST_COUNTED).astype(int)
        notes.append(
            f"Counted are {MOST_COUNTED} of the {len(image_ids)} training images, evenly spread."
        )
        image_ids = image_ids[places]
    counted, num_bad = contents.of_dataset(training, image_ids.tolist())
    if num_bad:
        notes.append(f"{num_bad} training images have annotations that cannot be read.")
    return counted, " ".join(notes)


def _facts(model: MaskRCNN, dataset: Dataset, num_read: int) -> dict[str, str]:
    """Return what the head of the page says about network and dataset.

    Args:
        num_read: Number of images that could be read.
    """
    config = model.config
    backbone = config.BACKBONE if isinstance(config.BACKBONE, str) else "of its own"
    num_classes = config.NUM_CLASSES - 1
    classes = f"{num_classes} class{'es' if num_classes > 1 else ''}"
    is_bad = num_read < dataset.num_images
    bad = f" of {dataset.num_images} (the others could not be read)" if is_bad else ""
    now = datetime.datetime.now().astimezone()
    epoch = f", epoch {model.run.epoch}" if model.run.epoch else ""
    height, width = (int(side) for side in config.IMAGE_SHAPE[:2])
    return {
        "Network": f"{config.NAME}: {backbone}, {classes}{epoch}",
        "Input": f"{width} x {height} pixels ({config.IMAGE_RESIZE_MODE})",
        "Images": f"{num_read}{bad}",
        "Detections": f"at most {config.DETECTION_MAX_INSTANCES} per image, of a score of "
        f"{config.DETECTION_MIN_CONFIDENCE:g} or more",
        "Written": f"{now:%Y-%m-%d %H:%M %Z}",
        "Versions": f"mrcnn {mrcnn.__version__}, Keras {keras.__version__} "
        f"({keras.backend.backend()})",
    }
