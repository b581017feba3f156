"""What a network gets right and wrong on a dataset, beyond its average precision, at an IoU of 0.5.

Plain numbers: `mrcnn.report` draws them.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import hotcoco
import numpy as np
from pycocotools.coco import COCO

from mrcnn.evaluation import matches as matching
from mrcnn.evaluation.matches import MIN_IOU, NEAR_IOU, Matches

RECALLS = np.linspace(0, 1, 101)  # at which COCO reads the precision
DEFAULT_SCORE = 0.5  # where no score is best, as nothing is right
NUM_BINS = 10  # of the reliability diagram
BACKGROUND = "background"
# The errors of TIDE, by hotcoco's names, in the order of the paper.
TIDE_ERRORS = {
    "Cls": "classification",
    "Loc": "localisation",
    "Both": "both",
    "Dupe": "duplicate",
    "Bkg": BACKGROUND,
    "Miss": "missed",
}


@dataclass(frozen=True)
class Curve:
    """Precision, recall and F1 of the detections of a score or more, of a class or of all.

    Attributes:
        class_name: "" for all classes.
        num_objects: Without crowds.
        scores: (S,) float64, the different scores of detections, descending.
        precision, recall, f1: (S,) float64, of the detections of that score or more.
        envelope: (101,) float64, the best precision at a recall of 0, 0.01, ... 1 or more, as COCO
            reads it; its mean is the AP50 of the class.
    """

    class_name: str
    num_objects: int
    scores: np.ndarray
    precision: np.ndarray
    recall: np.ndarray
    f1: np.ndarray
    envelope: np.ndarray

    @property
    def best(self) -> int | None:
        """The place of the highest F1, of several the one of the highest score; None for F1 0."""
        return int(np.argmax(self.f1)) if self.f1.any() else None

    @property
    def best_score(self) -> float:
        """The score of the highest F1, or 0.5 if nothing is right."""
        return DEFAULT_SCORE if self.best is None else float(self.scores[self.best])


@dataclass(frozen=True)
class Confusion:
    """What objects are detected as.

    Attributes:
        names: Of the classes, the background last: (K + 1).
        counts: (K + 1, K + 1) int; row: class of the object, column: class of the detection. The
            last column counts objects that are missed, the last row detections of nothing.
    """

    names: Sequence[str]
    counts: np.ndarray


@dataclass(frozen=True)
class Tide:
    """The errors of TIDE (Bolya et al. 2020), in the order of TIDE_ERRORS.

    Attributes:
        ap50: The AP at an IoU of 0.5 that they are measured by.
        delta_ap: (6,) float64, by how much the AP would rise if the errors of a kind were fixed.
        counts: (6,) int, number of errors.
        delta_false_positives, delta_false_negatives: The same if no detection were wrong, or no
            object missed.
    """

    ap50: float
    delta_ap: np.ndarray
    counts: np.ndarray
    delta_false_positives: float
    delta_false_negatives: float


@dataclass(frozen=True)
class Calibration:
    """How often detections of a score are right.

    Attributes:
        edges: (N + 1,) float64, of bins of the score.
        counts: (N,) int, detections in each bin.
        mean_scores, precision: (N,) float64; NaN where there are none.
        error: The expected calibration error (Guo et al. 2017): the mean gap between precision and
            mean score over the detections; None without detections.
    """

    edges: np.ndarray
    counts: np.ndarray
    mean_scores: np.ndarray
    precision: np.ndarray
    error: float | None


@dataclass(frozen=True)
class Tallies:
    """True positives, false positives and false negatives of each image: (I,) int."""

    right: np.ndarray
    wrong: np.ndarray
    missed: np.ndarray

    @property
    def f1(self) -> np.ndarray:
        """F1 of each image, (I,) float64; 1 where there is nothing to find and nothing found."""
        total = 2 * self.right + self.wrong + self.missed
        return np.where(total, 2 * self.right / np.maximum(total, 1), 1.0)

    def best(self, count: int) -> list[int]:
        """Return the images of the highest F1 above 0, of equal ones those with more objects."""
        order = np.lexsort((-self.right, -self.f1))
        return [int(place) for place in order if self.right[place]][:count]

    def worst(self, count: int) -> list[int]:
        """Return the images of the lowest F1 below 1, of equal ones those with more errors."""
        errors = self.wrong + self.missed
        order = np.lexsort((-errors, self.f1))
        return [int(place) for place in order if errors[place]][:count]


@dataclass(frozen=True)
class Analysis:
    """Everything that is known about a network's detections on a dataset.

    Attributes:
        iou_type: What is compared: segm or bbox.
        matches: Which detections are right.
        curves: Of each class that has objects or detections.
        overall: The curve of all classes, their detections pooled.
        confusion, tallies: Of the detections of `min_score` or more.
        tide, calibration: Of all detections.
    """

    iou_type: str
    matches: Matches
    curves: Sequence[Curve]
    overall: Curve
    confusion: Confusion
    tide: Tide
    calibration: Calibration
    tallies: Tallies

    @property
    def min_score(self) -> float:
        """The score of the best F1 over all classes."""
        return self.overall.best_score


def analyse(
    coco_gt: COCO,
    results: Sequence[Mapping[str, Any]],
    iou_type: str,
    *,
    max_detections: int,
    image_ids: Sequence[Any] | None = None,
) -> Analysis:
    """Return what is right and wrong about detections; the arguments are those of `coco.score`.

    Args:
        iou_type: segm or bbox.
    """
    matches, evaluation = matching.match(
        coco_gt, results, iou_type, max_detections=max_detections, image_ids=image_ids
    )
    used = np.union1d(matches.classes, matches.gt_classes)
    overall = curve(matches)
    return Analysis(
        iou_type=iou_type,
        matches=matches,
        curves=[curve(matches, int(number)) for number in used],
        overall=overall,
        confusion=confusion(matches, overall.best_score),
        tide=tide(evaluation),
        calibration=calibration(matches),
        tallies=tallies(matches, overall.best_score),
    )


def curve(matches: Matches, class_number: int | None = None) -> Curve:
    """Return the curve of a class, or of all for None."""
    chosen, num_objects, name = ~matches.ignored, len(matches.gt_classes), ""
    if class_number is not None:
        chosen &= matches.classes == class_number
        num_objects = int(np.count_nonzero(matches.gt_classes == class_number))
        name = matches.class_names[class_number]
    scores, right = matches.scores[chosen], np.cumsum(matches.is_right[chosen])
    count = np.arange(1, len(scores) + 1)
    precision, recall = right / count, right / max(num_objects, 1)
    # Detections of equal scores cannot be told apart by a threshold.
    last = np.flatnonzero(np.diff(scores, append=-np.inf))
    return Curve(
        class_name=name,
        num_objects=num_objects,
        scores=scores[last],
        precision=precision[last],
        recall=recall[last],
        f1=(2 * right / (count + num_objects))[last],
        envelope=_envelope(precision, recall),
    )


def confusion(matches: Matches, min_score: float) -> Confusion:
    """Return the confusion matrix of the detections of a score or more.

    Objects are first matched within their class, as for the AP; a wrong detection that covers an
    object left over, with an IoU of 0.5 or more, counts as that object taken for another class.
    """
    size = len(matches.class_names) + 1
    counts = np.zeros((size, size), np.int64)
    kept = (matches.scores >= min_score) & ~matches.ignored
    shown = np.where(matches.is_right, matches.objects, matches.mistaken_for(min_score))
    rows = np.full(len(shown), size - 1)
    rows[shown >= 0] = matches.gt_classes[shown[shown >= 0]]
    np.add.at(counts, (rows[kept], matches.classes[kept]), 1)
    missed = np.ones(len(matches.gt_classes), bool)
    missed[shown[kept & (shown >= 0)]] = False
    counts[:-1, -1] = np.bincount(matches.gt_classes[missed], minlength=size - 1)
    return Confusion([*matches.class_names, BACKGROUND], counts)


def tide(evaluation: hotcoco.COCOeval) -> Tide:
    """Return the errors of TIDE of an evaluation of `matches.match`."""
    found = evaluation.tide_errors(MIN_IOU, NEAR_IOU)
    delta, counts = found["delta_ap"], found["counts"]
    return Tide(
        ap50=found["ap_base"],
        delta_ap=np.array([delta[name] for name in TIDE_ERRORS], np.float64),
        counts=np.array([counts[name] for name in TIDE_ERRORS], np.int64),
        delta_false_positives=delta["FP"],
        delta_false_negatives=delta["FN"],
    )


def calibration(matches: Matches, num_bins: int = NUM_BINS) -> Calibration:
    """Return how often detections of a score are right, of all classes together."""
    scores, is_right = matches.scores[~matches.ignored], matches.is_right[~matches.ignored]
    bins = np.clip((scores * num_bins).astype(int), 0, num_bins - 1)
    counts = np.bincount(bins, minlength=num_bins)
    known = np.where(counts, counts, np.nan)
    mean_scores = np.bincount(bins, scores, num_bins) / known
    precision = np.bincount(bins, is_right, num_bins) / known
    gaps = np.abs(precision - mean_scores) * counts
    return Calibration(
        edges=np.linspace(0, 1, num_bins + 1),
        counts=counts,
        mean_scores=mean_scores,
        precision=precision,
        error=float(np.nansum(gaps) / len(scores)) if len(scores) else None,
    )


def tallies(matches: Matches, min_score: float) -> Tallies:
    """Return what is right, wrong and missed in each image by detections of a score or more."""
    kept = matches.scores >= min_score
    size = matches.num_images
    return Tallies(
        right=np.bincount(matches.images[kept & matches.is_right], minlength=size),
        wrong=np.bincount(matches.images[kept & matches.is_wrong], minlength=size),
        missed=np.bincount(matches.gt_images[~matches.found(min_score)], minlength=size),
    )


def _envelope(precision: np.ndarray, recall: np.ndarray) -> np.ndarray:
    """Return the precision at each of RECALLS, as COCOeval.accumulate takes it."""
    highest = np.maximum.accumulate(precision[::-1])[::-1]
    places = np.searchsorted(recall, RECALLS, side="left")
    return np.append(highest, 0.0)[np.minimum(places, len(highest))]
