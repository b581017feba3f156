"""Counts how many annotated objects will be trained on, and why the others will not.

The same count serves `mrcnn check` and training, before the first step.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from mrcnn.data import outlines
from mrcnn.data.annotated import AnnotatedDataset
from mrcnn.data.dataset import Dataset
from mrcnn.data.outlines import AnnotatedObject, Polygon
from mrcnn.data.problems import (
    CROWD,
    CUT_OFF,
    NO_AREA,
    OF_BACKGROUND,
    POINTS,
    TOO_MANY,
    TOO_SMALL,
    Loss,
    Problems,
)
from mrcnn.data.suggest import InputSize, scale_of

MANY = 0.1  # fraction of lost objects that triggers a warning
LABEL_IMAGES = 200  # maximum number of label images that are read and counted
GLANCE = 8  # number of images examined of a custom dataset
LISTED = 5
CODES = ("nothing-to-learn", "class-lost", "objects-lost", "image-lost")  # codes of `report`


@dataclass
class Census:
    """Which objects of a dataset are trained on.

    Attributes:
        annotated: number of objects per class name.
        losses: the objects that are not trained on.
        lost_images: names of images that lose all their objects, and have no crowd.
    """

    annotated: Counter = field(default_factory=Counter)
    losses: list[Loss] = field(default_factory=list)
    lost_images: list[str] = field(default_factory=list)

    def reasons(self, class_name: str | None = None) -> Counter:
        """Return the number of lost objects per reason, for one class or for all."""
        counts: Counter = Counter()
        for loss in self.losses:
            if class_name in (None, loss.class_name):
                counts[loss.reason] += loss.count
        return counts


def take(dataset: AnnotatedDataset, input_size: InputSize, max_instances: int) -> Census:
    """Return the census of a dataset.

    Args:
        dataset: prepared.
        input_size: how its images are resized.
        max_instances: MAX_GT_INSTANCES.
    """
    census = Census(losses=list(dataset.losses))
    for loss in dataset.losses:
        if loss.reason != OF_BACKGROUND:
            census.annotated[loss.class_name] += loss.count
    # Readers name an image after its file, or after its annotation file.
    dropped = {Path(loss.image).stem for loss in dataset.losses if loss.image}
    for image_id in _counted(dataset):
        _count_image(census, dataset, image_id, (input_size, max_instances, dropped))
    return census


def report(census: Census, problems: Problems, *, is_scored: bool = False) -> None:
    """Report lost objects: all of the dataset or of a class as an error, a tenth as a warning.

    Args:
        is_scored: the dataset is for validation, where a class may be missing.
    """
    total, reasons = sum(census.annotated.values()), census.reasons()
    lost = sum(reasons.values()) - reasons[OF_BACKGROUND]
    if total and lost - reasons[TOO_MANY] >= total:
        problems.error(
            "nothing-to-learn",
            f"none of the {total} objects can be learned: {_listed(reasons)}",
            remedy="fix the annotations; mrcnn check names each of them",
        )
        return
    if total and lost >= MANY * total:
        problems.warning(
            "objects-lost",
            f"{lost} of {total} objects will not be learned: {_listed(reasons)}",
            remedy="raise MAX_GT_INSTANCES"
            if 2 * reasons[TOO_MANY] > lost
            else "fix the annotations; mrcnn check names each of them",
        )
    _report_classes(census, problems, is_scored=is_scored, is_told=lost >= MANY * total)
    if census.lost_images:
        more = ", ..." if len(census.lost_images) > LISTED else ""
        problems.warning(
            "image-lost",
            f"{len(census.lost_images)} images lose all their objects, and are trained as "
            f"background: {', '.join(census.lost_images[:LISTED])}{more}",
            remedy="fix their annotations, or remove the images",
        )


def _report_classes(census: Census, problems: Problems, *, is_scored: bool, is_told: bool) -> None:
    """Report classes that lose all objects, or a tenth unless reported for the whole dataset."""
    remedy = "fix the annotations, or remove the class"
    for name, count in census.annotated.items():
        of_class = census.reasons(name) if name is not None else Counter()
        gone = sum(of_class.values())
        if gone >= count:
            # Points and lines next to outlines are not meant to be learned.
            is_meant = is_scored or set(of_class) == {POINTS}
            note = problems.warning if is_meant else problems.error
            note(
                "class-lost",
                f"none of the {count} objects of the class {name!r} can be learned: "
                f"{_listed(of_class)}",
                remedy=remedy,
            )
        elif gone >= MANY * count and not is_told:
            problems.warning(
                "objects-lost",
                f"{gone} of {count} objects of the class {name!r} will not be learned: "
                f"{_listed(of_class)}",
                remedy=remedy,
            )


def check_training(
    dataset: Dataset,
    input_size: InputSize,
    max_instances: int,
    *,
    is_scored: bool = False,
) -> None:
    """Log which objects of a dataset are lost for training.

    Args:
        dataset: prepared; of a custom dataset, only a few images are examined.
        input_size, max_instances: see `take`.
        is_scored: see `report`.

    Raises:
        ValueError: If no objects of the dataset or of a class are left to train on.
    """
    problems = Problems()
    if isinstance(dataset, AnnotatedDataset):
        report(take(dataset, input_size, max_instances), problems, is_scored=is_scored)
    else:
        _glance(dataset, problems)
    problems.log()


def _counted(dataset: AnnotatedDataset) -> list[int]:
    """Return the images to count: all whose objects are not in separate mask files."""
    outlined = [i for i in dataset.image_ids.tolist() if dataset.annotated(i).label_image is None]
    labelled = dataset.num_images - len(outlined)
    if labelled <= LABEL_IMAGES:
        return dataset.image_ids.tolist()
    step = labelled // LABEL_IMAGES
    rest = [i for i in dataset.image_ids.tolist() if dataset.annotated(i).label_image is not None]
    return sorted([*outlined, *rest[::step]])


def _count_image(
    census: Census,
    dataset: AnnotatedDataset,
    image_id: int,
    limits: tuple[InputSize, int, set[str]],
) -> None:
    name = Path(dataset.image_info[image_id]["path"]).name
    try:
        objects = [item for item in dataset.objects(image_id) if not item.is_ignored]
        if not objects:
            if Path(name).stem in limits[2]:
                census.lost_images.append(name)
            return
        size = dataset.object_size(image_id)
        reasons = _reasons(objects, size, limits[0])
    except ValueError:  # an unreadable image or mask, which is reported elsewhere
        return
    class_names = [dataset.class_names[abs(dataset.class_id_of(item))] for item in objects]
    census.annotated.update(class_names)
    lost = Counter(
        (class_name, reason)
        for class_name, reason in zip(class_names, reasons, strict=True)
        if reason
    )
    census.losses += [Loss(name_, why, name, count) for (name_, why), count in lost.items()]
    kept = sum(reason in ("", CROWD) for reason in reasons)
    # The objects in a random crop vary.
    if kept > limits[1] and limits[0].mode != "crop":
        census.losses.append(Loss(None, TOO_MANY, name, kept - limits[1]))
    if not kept:
        census.lost_images.append(name)


def _reasons(
    objects: Sequence[AnnotatedObject], size: tuple[int, int], input_size: InputSize
) -> list[str]:
    """Return why each object is not trained on; "" for those that are."""
    covered = outlines.covers(objects, size)
    scale = scale_of(size, input_size)
    reasons = []
    for item, has_pixel in zip(objects, covered.tolist(), strict=True):
        if not has_pixel:
            reasons.append(CUT_OFF if _is_outside(item, size) else NO_AREA)
        elif item.is_crowd:
            reasons.append(CROWD)
        else:
            reasons.append(TOO_SMALL if scale < 1 and _vanishes(item, size, scale) else "")
    return reasons


def _is_outside(item: AnnotatedObject, size: tuple[int, int]) -> bool:
    bounds = _bounds(item, size)
    if bounds is None:
        return False
    low, high = bounds
    return bool((high <= 0).any() or (low >= np.array(size[::-1])).any())


def _vanishes(item: AnnotatedObject, size: tuple[int, int], scale: float) -> bool:
    """Return whether an object vanishes when resized, judging by its bounding box."""
    bounds = _bounds(item, size)
    if bounds is None or (bounds[1] - bounds[0]).min() * scale >= 1:
        return False
    for low, high in zip(*bounds, strict=True):
        # Input pixel i shows image pixel (i + 0.5) / scale.
        first = np.ceil(max(low, 0) * scale - 0.5)
        if (first + 0.5) / scale >= high:
            return True
    return False


def _bounds(item: AnnotatedObject, size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray] | None:
    """Return minimum and maximum x, y of an object's polygons; None if it has other shapes."""
    if not all(isinstance(shape, Polygon) for shape in item.shapes):
        return None
    parts = [shape.pixels(size) for shape in item.shapes if isinstance(shape, Polygon)]
    points = np.concatenate(parts)
    return points.min(axis=0), points.max(axis=0)


def _glance(dataset: Dataset, problems: Problems) -> None:
    """Examine some images of a custom dataset for objects that can be trained on."""
    count = len(dataset.image_ids)
    places = np.unique(np.linspace(0, count - 1, min(count, GLANCE)).astype(int))
    census, looked_at = Census(), 0
    for image_id in dataset.image_ids[places].tolist():
        try:
            masks, listed = dataset.load_mask(image_id)
            class_ids = np.asarray(listed, np.int64).reshape(-1)
            has_pixel = np.zeros(0, bool)
            if len(class_ids):
                has_pixel = np.atleast_1d(np.asarray(masks).any(axis=(0, 1)))
            _count_drawn(census, dataset, class_ids, has_pixel)
        except Exception:  # any error of a custom dataset: training skips the image, and says so
            continue
        looked_at += 1
        _check_source(dataset, image_id, class_ids, problems)
    if looked_at and not census.annotated:
        problems.warning(
            "no-objects",
            f"none of the {looked_at} images examined, of {count}, has an object: "
            f"{type(dataset).__name__}.load_mask returns none",
        )
    if looked_at == count:
        report(census, problems)
        return
    of_some = Problems(strict=False)
    report(census, of_some)
    for finding in of_some.found:
        message = f"in {looked_at} images examined, of {count}: {finding.message}"
        problems.warning(finding.code, message, remedy=finding.remedy)


def _count_drawn(
    census: Census, dataset: Dataset, class_ids: np.ndarray, has_pixel: np.ndarray
) -> None:
    """Count the objects of an image as returned by `load_mask`."""
    for class_id, is_drawn in zip(class_ids.tolist(), has_pixel.tolist(), strict=True):
        name = dataset.class_names[abs(class_id)]
        census.annotated[name] += 1
        if class_id < 0 or not is_drawn:
            census.losses.append(Loss(name, CROWD if is_drawn else NO_AREA, None))


def _check_source(
    dataset: Dataset, image_id: int, class_ids: np.ndarray, problems: Problems
) -> None:
    """Reject objects of a class that the source of their image does not have."""
    source = dataset.image_info[image_id]["source"]
    known = set(dataset.source_class_ids.get(source, [0]))
    strange = [i for i in np.unique(np.abs(class_ids)).tolist() if i not in known]
    strange = [i for i in strange if i < dataset.num_classes]  # the others are rejected by number
    if strange:
        names = [dataset.class_names[i] for i in strange]
        sources = sorted({dataset.class_info[i]["source"] for i in strange})
        problems.error(
            "unknown-class",
            f"image {image_id} is from the source {source!r} but has objects of the classes "
            f"{names} of {sources}: they would not be learned",
            remedy="pass the same source to add_class and add_image",
        )


def _listed(reasons: Counter) -> str:
    return ", ".join(f"{count} {reason}" for reason, count in reasons.most_common())
