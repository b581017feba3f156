"""Checks of a dataset, or of a training and validation pair, before time is spent on training."""

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from os import PathLike
from typing import Any

import numpy as np

from mrcnn import class_names
from mrcnn.data import census
from mrcnn.data.annotated import AnnotatedDataset, Annotations
from mrcnn.data.assembly import make_dataset
from mrcnn.data.formats import Source, load_dataset
from mrcnn.data.formats.registry import read
from mrcnn.data.problems import SEVERITIES, Finding, Problems
from mrcnn.data.suggest import (
    LARGEST_SIDE,
    REACH,
    Advice,
    InputSize,
    adapted,
    object_sides,
    suggest,
)
from mrcnn.data.survey import ImageSurvey, Progress, survey

MIXED = (0.1, 0.9)  # a fraction of rectangles in between means mixed boxes and outlines
ENOUGH = 10  # minimum number of objects for that
LISTED = 8  # maximum number of names shown
QUICK = 500  # number of images examined in a quick check
SUGGESTION = "suggestion"


@dataclass(frozen=True)
class Limits:
    """Limits of the network: the settings of the same names, and the largest side to advise."""

    input_size: InputSize = field(default_factory=InputSize)
    smallest_anchor: float = 32
    max_instances: int = 100
    largest_side: int = LARGEST_SIDE

    def adapted(self, advice: Mapping[str, Advice]) -> "Limits":
        """Return the limits of a network that follows the advice."""
        scales = advice.get("RPN_ANCHOR_SCALES")
        room = advice.get("MAX_GT_INSTANCES")
        return Limits(
            adapted(self.input_size, advice),
            min(scales.value) if scales else self.smallest_anchor,
            room.value if room else self.max_instances,
            self.largest_side,
        )


def load_for_check(
    path: str | PathLike, **options: Any
) -> tuple[AnnotatedDataset | None, list[Finding]]:
    """Return a dataset with its reader's findings; None and a finding if it cannot be read.

    Args:
        path: see `load_dataset`.
        options: of `load_dataset`.
    """
    problems = Problems(strict=False)
    try:
        dataset = load_dataset(path, problems=problems, **options)
    except ValueError as error:
        return None, _why_unread(problems, error)
    return dataset, dataset.problems


def load_parts_for_check(
    sources: Mapping[str, Source],
) -> tuple[dict[str, AnnotatedDataset], list[Finding]]:
    """Return the parts of a dataset that can be read, and findings on why the others cannot.

    Args:
        sources: of each part. Whether a class is only a title is decided from all parts together.
    """
    reports = {part: Problems(strict=False) for part in sources}
    annotations: dict[str, Annotations] = {}
    findings: list[Finding] = []
    for part, source in sources.items():
        try:
            annotations[part] = read(source, reports[part])
        except ValueError as error:
            findings += _why_unread(reports[part], error)
    used = {name for each in annotations.values() for name in each.used_names()}
    return {
        part: make_dataset(each, reports[part], channels=sources[part].channels, used_names=used)
        for part, each in annotations.items()
    }, findings


def _why_unread(problems: Problems, error: ValueError) -> list[Finding]:
    """Return a reader's findings before it gave up, and its error."""
    return [*problems.found, Finding("error", "unreadable-annotations", str(error))]


def check(
    dataset: AnnotatedDataset,
    validation: AnnotatedDataset | None = None,
    limits: Limits = Limits(),
    *,
    fixed: Collection[str] | None = None,
    surveys: Mapping[str, list[ImageSurvey]] | None = None,
    thorough: bool = True,
    progress: Progress = iter,
) -> list[Finding]:
    """Return the faults of a dataset and its validation set, most severe first.

    Args:
        dataset: from `load_for_check`, which finds more than a strict reader lets through.
        validation: likewise.
        limits: limits of the network to be trained.
        fixed: names of the settings that are decided: the limits follow the advice on the others,
            which is among the findings. None: there is no advice.
        surveys: of "training" or "validation", if they have been made.
        thorough: decode every image. Else only the headers of some hundred are read: damage inside
            the files, duplicate images and the mean pixel are not found.
        progress: called with the image ids of a dataset, yields them.
    """
    sets = {"training": dataset, **({"validation": validation} if validation else {})}
    made = dict(surveys or {})
    for part, each in sets.items():
        if part not in made:
            image_ids = _chosen(each.num_images, None if thorough else QUICK)
            made[part] = survey(each, image_ids, read_pixels=thorough, progress=progress)
    findings = []
    if fixed is not None:
        advice = advise(dataset, made["training"], limits, fixed)
        limits = limits.adapted(advice)
        for name, (value, reason) in advice.items():
            findings.append(Finding("info", SUGGESTION, f"{name}={value}", remedy=reason))
    for part, each in sets.items():
        found = [
            *each.problems,
            *_of_set(each, made[part], limits, part),
            *_of_census(each, limits, part),
        ]
        named = part if validation is not None else None
        findings += [replace(finding, part=named) for finding in found]
    if validation is not None:
        findings += _of_pair(made["training"], made["validation"])
        findings += _of_classes(dataset, validation)
    return sorted(findings, key=lambda finding: SEVERITIES.index(finding.severity))


def advise(
    dataset: AnnotatedDataset,
    surveys: Sequence[ImageSurvey],
    limits: Limits,
    fixed: Collection[str] = (),
) -> dict[str, Advice]:
    """Return advice on settings by name, from the same sample however many images were surveyed.

    Args:
        surveys: of all images of the dataset, or those that `survey_quickly` returns.
        limits: of the network without advice.
        fixed: names of the settings that are decided.
    """
    if len(surveys) == dataset.num_images:
        surveys = [surveys[number] for number in _chosen(dataset.num_images, QUICK)]
    most = max((len(dataset.annotated(i).objects) for i in dataset.image_ids), default=0)
    largest = limits.largest_side
    return suggest(surveys, limits.input_size, fixed, largest=largest, most_objects=most)


def survey_quickly(
    dataset: AnnotatedDataset, *, read_pixels: bool = False, progress: Progress = iter
) -> list[ImageSurvey]:
    """Return the surveys of at most QUICK images, evenly spaced."""
    image_ids = _chosen(dataset.num_images, QUICK)
    return survey(dataset, image_ids, read_pixels=read_pixels, progress=progress)


def _chosen(count: int, most: int | None) -> list[int]:
    """Return the images to examine, evenly spaced if there are too many."""
    if most is None or count <= most:
        return list(range(count))
    return np.linspace(0, count - 1, most).astype(int).tolist()


def _of_census(dataset: AnnotatedDataset, limits: Limits, part: str) -> list[Finding]:
    """Return findings on the number of objects that are left for training, or scoring."""
    problems = Problems(strict=False)
    counted = census.take(dataset, limits.input_size, limits.max_instances)
    census.report(counted, problems, is_scored=part == "validation")
    return problems.found


def _of_set(
    dataset: AnnotatedDataset, surveys: list[ImageSurvey], limits: Limits, part: str
) -> list[Finding]:
    problems = Problems(strict=False)
    problems.found += [finding for each in surveys for finding in each.findings]
    _check_classes(dataset, problems)
    _check_counts(surveys, limits, part, problems)
    _check_rectangles(surveys, problems)
    for names in _same([(each.digest, each.name) for each in surveys]):
        problems.warning(
            "same-image",
            f"the same image occurs {len(names)} times: {_few(names)}",
            image=names[0],
            remedy="keep one of them, with the objects of all",
        )
    return problems.found


def _check_classes(dataset: AnnotatedDataset, problems: Problems) -> None:
    used = _used_names(dataset)
    unused = [name for name in dataset.class_names[1:] if name not in used]
    if unused:
        problems.warning(
            "unused-class",
            f"{len(unused)} of {dataset.num_classes - 1} classes have no objects: {_few(unused)}",
            remedy="they cannot be learned; remove them unless they are intended",
        )
    ids = sorted(info["id"] for info in dataset.class_info[1:] if isinstance(info["id"], int))
    if ids and ids[-1] - ids[0] + 1 > len(ids):
        problems.info(
            "id-gaps",
            f"the class ids have gaps ({ids[0]} to {ids[-1]} for {len(ids)} classes); "
            f"the network numbers them from 1 to {len(ids)}",
        )
    for names in _same([(_normal(name), name) for name in dataset.class_names[1:]]):
        problems.warning(
            "similar-classes",
            f"the classes {_few(names)} differ only in spelling",
            remedy="give them the same name if they are the same class",
        )


def _check_counts(
    surveys: list[ImageSurvey], limits: Limits, part: str, problems: Problems
) -> None:
    empty = [each.name for each in surveys if not len(each.class_ids)]
    if empty:
        problems.info(
            "no-objects-in-image",
            f"{len(empty)} images have no objects, and are "
            f"{'scored' if part == 'validation' else 'trained'} as background: {_few(empty)}",
        )
    for each in surveys:
        if len(each.class_ids) > limits.max_instances:
            problems.warning(
                "too-many-objects",
                f"it has {len(each.class_ids)} objects, but MAX_GT_INSTANCES is "
                f"{limits.max_instances}: a random subset is trained on",
                image=each.name,
                remedy="raise MAX_GT_INSTANCES",
            )
    sides = object_sides(surveys, limits.input_size)
    least = limits.smallest_anchor / REACH
    small = int(np.sum(sides < least))
    if small:
        note = problems.warning if small > len(sides) / 20 else problems.info
        note(
            "small-objects",
            f"{small} of {len(sides)} objects are smaller than {least:.3g} pixels of the input, "
            f"too small for the smallest anchor ({limits.smallest_anchor:g} pixels)",
            remedy="enlarge the images (IMAGE_MIN_DIM and IMAGE_MAX_DIM), or cut them into tiles",
        )


def _check_rectangles(surveys: list[ImageSurvey], problems: Problems) -> None:
    rectangles = sum(each.num_rectangles for each in surveys)
    total = rectangles + sum(each.num_polygons for each in surveys)
    if total >= ENOUGH and MIXED[0] <= rectangles / total <= MIXED[1]:
        problems.warning(
            "mixed-boxes",
            f"{rectangles} of {total} objects are outlined by boxes, the others by polygons: "
            "the model will learn box-shaped masks",
            remedy="outline all objects with polygons",
        )


def _of_pair(training: list[ImageSurvey], validation: list[ImageSurvey]) -> list[Finding]:
    """Return findings on images that two datasets share."""
    problems = Problems(strict=False)
    digests = {each.digest: each.name for each in training if each.digest}
    names = {each.name: each.digest for each in training}
    for each in validation:
        if each.digest in digests:
            problems.warning(
                "image-in-both-sets",
                f"the same image is in the training set ({digests[each.digest]}): scores on it "
                "are meaningless",
                image=each.name,
                remedy="remove it from one of the sets",
            )
        elif each.name in names:
            different = each.digest and names[each.name]
            problems.info(
                "name-in-both-sets",
                "an image of the training set has the same name"
                + (", but different content" if different else ""),
                image=each.name,
            )
    return problems.found


def _of_classes(dataset: AnnotatedDataset, validation: AnnotatedDataset) -> list[Finding]:
    """Return findings on classes that differ between two datasets."""
    problems = Problems(strict=False)
    known, others = dataset.class_names[1:], validation.class_names[1:]
    if (validation.is_unnamed and len(known) == 1) or (dataset.is_unnamed and len(others) == 1):
        return []
    near = {_normal(name): name for name in known}
    used = _used_names(validation)
    matched = class_names.matched(others, known)
    for name in others:
        if name in matched or name not in used:
            continue
        twin = near.get(_normal(name))
        hint = f"; the training set has {twin!r}" if twin else ""
        problems.error(
            "class-mismatch",
            f"the class {name!r} of the validation set is not in the training set{hint}",
            remedy="use the same name in both",
        )
    unlearned = sorted((_used_names(validation) & set(known)) - _used_names(dataset))
    if unlearned:
        problems.warning(
            "class-only-in-validation",
            f"classes with objects only in the validation set cannot be learned: {_few(unlearned)}",
            remedy="re-split the dataset",
        )
    missing = [name for name in known if name not in used]
    if missing:
        problems.info(
            "class-only-in-training",
            f"{'classes' if len(missing) > 1 else 'class'} {', '.join(map(repr, missing[:LISTED]))}"
            f"{', ...' if len(missing) > LISTED else ''} "
            f"{'have' if len(missing) > 1 else 'has'} no objects in the validation set",
        )
    return problems.found


def _used_names(dataset: AnnotatedDataset) -> set[str]:
    if any(dataset.annotated(image_id).label_image for image_id in dataset.image_ids):
        return set(dataset.class_names[1:])  # counting would read all files
    used = {
        dataset.class_id_of(item)
        for image_id in dataset.image_ids
        for item in dataset.objects(image_id)
        if not item.is_ignored
    }
    return {dataset.class_names[abs(class_id)] for class_id in used}


def _normal(name: str) -> str:
    """Normalize a name's spelling variants."""
    return "".join(letter for letter in name.casefold() if letter.isalnum())


def _same(pairs: Sequence[tuple[str | None, str]]) -> list[list[str]]:
    """Return the names that share a key, for every key with several names."""
    groups = defaultdict(list)
    for key, name in pairs:
        if key:
            groups[key].append(name)
    return [names for names in groups.values() if len(names) > 1]


def _few(names: Sequence[str]) -> str:
    return ", ".join(names[:LISTED]) + (", ..." if len(names) > LISTED else "")
