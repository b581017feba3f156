"""The sections on what came out: scores, and what is right and wrong about the detections."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from mrcnn.evaluation.analysis import BACKGROUND, TIDE_ERRORS, Analysis, Confusion, Curve
from mrcnn.evaluation.tables import FIGURES
from mrcnn.report import figures
from mrcnn.report.blocks import FIGURE_WIDTH, KINDS, NOTHING, Block, Figure, Section, Table, number

MOST_CONFUSED = 20  # classes in the matrix
MOST_PAIRS = 10  # confusions in the table
MEANINGS = {
    "Cls": "right place, wrong class",
    "Loc": "right class, but an IoU of only 0.1 to 0.5",
    "Both": "wrong class and an IoU of only 0.1 to 0.5",
    "Dupe": "an object that a higher-scoring detection has already matched",
    "Bkg": "an IoU below 0.1 with every object",
    "Miss": "an object that was not detected at all",
}

Scores = Mapping[str, Mapping[str, Any]]


def scores_table(scores: Scores) -> Section:
    """Return the average precisions of everything that is compared."""
    rows = [
        [KINDS[kind], *(number(figures_of[name]) for name in FIGURES)]
        for kind, figures_of in scores.items()
    ]
    return Section(
        "scores",
        "Average precision",
        "COCO's figures, from 0 to 1; higher is better. AP is the mean over IoU thresholds from "
        "0.50 to 0.95; AP50 and AP75 are the values at 0.50 and 0.75. APs, APm and APl count only "
        "small (below 32 x 32 pixels), medium (up to 96 x 96) and large objects. AR is the share "
        "of objects found, averaged over the same IoU thresholds.",
        [Table(["", *FIGURES], rows)],
    )


def classes(scores: Scores) -> Section | None:
    """Return the AP of each class with objects; None if there is but one."""
    kinds = list(scores)
    known = [
        name for name, found in scores[kinds[0]]["per_class"].items() if found["AP"] is not None
    ]
    if len(known) < 2:
        return None
    known.sort(key=lambda name: -scores[kinds[0]]["per_class"][name]["AP"])
    shown, note = known, ""
    if len(known) > figures.MOST_BARS:
        half = figures.MOST_BARS // 2
        shown, note = (
            known[:half] + known[-half:],
            f" Shown: the {half} best and the {half} worst classes.",
        )
    bars = {
        KINDS[kind]: [scores[kind]["per_class"][name]["AP"] or 0.0 for name in shown]
        for kind in kinds
    }
    columns = [(kind, figure) for kind in kinds for figure in ("AP", "AP50")]
    rows = [
        [name, *(number(scores[kind]["per_class"][name][figure]) for kind, figure in columns)]
        for name in known
    ]
    head = ["class", *(f"{KINDS[kind]} {figure}" for kind, figure in columns)]
    return Section(
        "classes",
        "Average precision per class",
        "",
        [
            Figure(
                figures.class_precisions(shown, bars),
                "Longer is better. Masks that score far below boxes suggest outlines that are hard "
                f"to follow or roughly annotated.{note}",
            ),
            Table(head, rows, folded=len(rows) > figures.MOST_BARS),
        ],
    )


def precision_recall(found: Analysis) -> Section:
    """Return precision, recall and F1, and the scores that are best for F1."""
    chosen = _most_frequent(found.curves) if len(found.curves) > 1 else []
    areas = " In brackets: the area under the curve, which is the AP50." if chosen else ""
    if chosen and len(chosen) < sum(each.num_objects > 0 for each in found.curves):
        areas += f" Shown: the {len(chosen)} classes with the most objects."
    blocks: list[Block] = [
        Figure(
            figures.precision_recall(chosen, found.overall),
            "Each point corresponds to a score threshold: the lower it is, the more objects are "
            "found (recall), but the more detections are wrong (precision). The closer a curve "
            f"comes to the top right corner, the better.{areas}",
        ),
        Figure(
            figures.against_score(found.overall),
            "Precision, recall and F1 when detections below a score threshold are dropped. F1, the "
            f"harmonic mean of precision and recall, peaks at {found.min_score:.2f}: a good "
            "--min-score for mrcnn detect."
            if found.overall.best is not None
            else "No detection is correct, so no score threshold is best.",
        ),
    ]
    if chosen:
        blocks.append(
            Figure(
                figures.f1_of_classes(chosen, found.overall),
                "F1 of each class against the score threshold. If the peaks are far apart, use a "
                "separate threshold per class.",
            )
        )
    blocks.append(_best_scores(found))
    return Section(
        "precision-recall",
        "Precision and recall",
        f"A detection is correct if its {_shape(found)} has an IoU of at least 0.5 with an object "
        "of its class that no higher-scoring detection has matched. Detections on crowds are "
        "ignored.",
        blocks,
    )


def confusion(found: Analysis) -> Section:
    """Return the confusion matrix, and the most frequent confusions."""
    used = _used(found.confusion)
    shown = _merged(used)
    names, counts = found.confusion.names, found.confusion.counts.copy()
    np.fill_diagonal(counts, 0)
    order = np.argsort(-counts, axis=None, kind="stable")[:MOST_PAIRS]
    places = [np.unravel_index(place, counts.shape) for place in order]
    totals = found.confusion.counts.sum(axis=1)
    rows = [
        [
            _annotated(names[row], is_last=row == len(names) - 1),
            _detected(names[column], is_last=column == len(names) - 1),
            str(counts[row, column]),
            NOTHING if row == len(names) - 1 else f"{counts[row, column] / totals[row]:.0%}",
        ]
        for row, column in places
        if counts[row, column]
    ]
    cells = [
        [name, *map(str, values)] for name, values in zip(shown.names, shown.counts, strict=True)
    ]
    note = ""
    if shown.names[:-1] != used.names[:-1]:
        note = (
            f" Shown: the {MOST_CONFUSED} most frequent classes; the others are merged, so that "
            "their cell on the diagonal includes confusions among them."
        )
    blocks: list[Block] = [
        Figure(
            figures.confusion(shown),
            "Rows: annotated class; columns: detected class; darker means a larger share of the "
            "row. Correct detections are on the diagonal (blue). The last column counts missed "
            f"objects, the last row detections where nothing is annotated.{note}",
            width=max(FIGURE_WIDTH, int(100 * figures.matrix_side(len(shown.names)))),
        )
    ]
    if rows:
        head = ["annotated", "detected", "times", "share"]
        blocks.append(Table(head, rows, "Most frequent confusions", words=[2]))
    blocks.append(Table(["annotated as", *shown.names], cells, "The whole matrix", folded=True))
    return Section(
        "confusion",
        "Confusion matrix",
        f"Detections with a score of at least {found.min_score:.2f} (the best for F1), matched at "
        f"a {_shape(found)} IoU of 0.5. Objects are matched within their class first; a wrong "
        "detection that covers one of the remaining objects counts as a confusion of the two "
        "classes.",
        blocks,
    )


def tide(found: Analysis) -> Section:
    """Return TIDE's errors."""
    errors = found.tide
    rows = [
        [title, str(count), number(delta), MEANINGS[name]]
        for (name, title), count, delta in zip(
            TIDE_ERRORS.items(), errors.counts, errors.delta_ap, strict=True
        )
    ]
    rows += [
        [
            "all false positives",
            NOTHING,
            number(errors.delta_false_positives),
            "perfect precision",
        ],
        ["all false negatives", NOTHING, number(errors.delta_false_negatives), "perfect recall"],
    ]
    return Section(
        "errors",
        "Error types",
        f"After TIDE (Bolya et al. 2020): {_shape(found)}s at an IoU of 0.5, where the AP is "
        f"{errors.ap50:.3f}. All detections count, whatever their score.",
        [
            Figure(
                figures.tide(errors),
                "How much AP50 would rise if all errors of one type were fixed. The longest bar is "
                "where an improvement pays most. The bars need not add up to 1 - AP50.",
            ),
            Table(["error", "count", "dAP", "meaning"], rows, words=[4]),
        ],
    )


def calibration(found: Analysis) -> Section:
    """Return the reliability diagram."""
    each = found.calibration
    rows = [
        [f"{low:.1f} to {high:.1f}", str(count), number(score), number(precision)]
        for low, high, count, score, precision in zip(
            each.edges, each.edges[1:], each.counts, each.mean_scores, each.precision, strict=False
        )
    ]
    return Section(
        "calibration",
        "Calibration",
        "Can a score be read as a probability? The expected calibration error, the mean gap "
        "between score and precision weighted by the number of detections, is "
        f"{number(each.error)} (0 is perfect).",
        [
            Figure(
                figures.calibration(each),
                "Precision of the detections in each score bin. Bars below the dashed line: the "
                "network is overconfident; above it: underconfident. Bins with few detections "
                "(lower panel) say little.",
            ),
            Table(
                ["score", "detections", "mean score", "precision"], rows, "All bins", folded=True
            ),
        ],
    )


def _shape(found: Analysis) -> str:
    return "mask" if found.iou_type == "segm" else "box"


def _most_frequent(curves: Sequence[Curve]) -> list[Curve]:
    """Return the curves of the classes with the most objects, in the order of the classes."""
    known = [each for each in curves if each.num_objects]
    order = sorted(range(len(known)), key=lambda place: -known[place].num_objects)
    return [known[place] for place in sorted(order[: figures.MOST_LINES])]


def _best_scores(found: Analysis) -> Table:
    """Return the score of the best F1 of each class, and what it leads to."""
    curves = [*found.curves, found.overall] if len(found.curves) > 1 else [found.overall]
    rows = []
    for each in curves:
        place = each.best
        figures_there = (
            [NOTHING] * 4
            if place is None
            else [
                number(float(values[place]))
                for values in (each.scores, each.precision, each.recall, each.f1)
            ]
        )
        rows.append([each.class_name or "all classes", str(each.num_objects), *figures_there])
    head = ["class", "objects", "best score", "precision", "recall", "F1"]
    return Table(head, rows, "The score that is best for F1", folded=len(rows) > figures.MOST_BARS)


def _used(found: Confusion) -> Confusion:
    """Return the matrix without the classes that are neither annotated nor detected."""
    used = (found.counts.sum(axis=0) + found.counts.sum(axis=1)) > 0
    used[-1] = True
    places = np.flatnonzero(used)
    return Confusion(
        [found.names[int(place)] for place in places], found.counts[np.ix_(places, places)]
    )


def _merged(found: Confusion) -> Confusion:
    """Return the matrix with all but the most frequent classes as one."""
    count = len(found.names) - 1
    if count <= MOST_CONFUSED:
        return found
    order = np.argsort(-found.counts[:-1].sum(axis=1), kind="stable")
    group = np.full(count + 1, MOST_CONFUSED)
    group[-1] = MOST_CONFUSED + 1
    kept = np.sort(order[:MOST_CONFUSED])
    group[kept] = np.arange(MOST_CONFUSED)
    counts = np.zeros((MOST_CONFUSED + 2,) * 2, found.counts.dtype)
    np.add.at(counts, (group[:, None], group[None, :]), found.counts)
    others = f"{count - MOST_CONFUSED} other classes"
    return Confusion([*(found.names[place] for place in kept), others, BACKGROUND], counts)


def _annotated(name: str, *, is_last: bool) -> str:
    return "(nothing)" if is_last else name


def _detected(name: str, *, is_last: bool) -> str:
    return "(missed)" if is_last else name
