"""Label images: one number per object; distinguished from photographs and smoothed masks."""

import numpy as np

MOST_COLOURS = 4096  # photographs have more
FEW_BLENDS = 2  # so many values between others may be borders of their own
MOST_BLENDED = 0.5  # of the steps from one value to the next: smoothed masks have hardly others
OFTEN = 1.1  # in how many places a blend occurs, on average; a small object lies in one
# Opposite neighbours of a pixel, (row, column) of one of the two.
DIRECTIONS = ((0, 1), (1, 0), (1, 1), (1, -1))
REMEDY = "save masks as PNG, without smoothing: whole numbers or one colour for each object"


def numbered(values: np.ndarray) -> np.ndarray:
    """Return colours (H, W, 3 or 4) as one number each, 0 for black: (H, W); alpha is dropped.

    Single channels (H, W) or (H, W, 1 or 2) are kept.
    """
    if values.ndim == 2:
        return values
    colours = values[..., : 3 if values.shape[-1] > 2 else 1]
    return colours.astype(np.int64) @ 256 ** np.arange(colours.shape[-1])[::-1]


def fault_of(values: np.ndarray, labels: np.ndarray, *, is_lossy: bool = False) -> str | None:
    """Return why values are no label image, None where they may be one.

    In a smoothed mask, values pass from one object to the next through others, nearly wherever
    they change, and the same ones in many places. Objects of a pixel may lie between two others
    too, but each is in one place.

    Args:
        values: (H, W) or (H, W, C), as stored.
        labels: (H, W), what `numbered` makes of them.
        is_lossy: whether the format of the file does not keep values as they are.
    """
    count = _count(labels)
    if is_lossy and count > 2:
        return f"it has {count} values, as JPEG changes them along edges; {REMEDY}"
    if values.ndim == 3 and count > MOST_COLOURS:
        return f"it has {count} colours, as a photograph; {REMEDY}"
    if count <= FEW_BLENDS + 2 or min(labels.shape) < 3:
        return None
    blends = _blends(values, labels)
    distinct = len(np.unique(labels.ravel()[blends]))
    if distinct <= FEW_BLENDS or _places(labels, blends) < OFTEN * distinct:
        return None
    if _share_of_steps(labels, blends) < MOST_BLENDED:
        return None
    return (
        f"{distinct} of its {count} values lie between two others along edges, as in smoothed "
        f"masks; {REMEDY}"
    )


def _count(labels: np.ndarray) -> int:
    if labels.dtype not in (np.uint8, np.uint16):
        return len(np.unique(labels))
    is_there = np.zeros(2**16, bool)  # a tenth of the time of sorting
    is_there[labels.ravel()] = True
    return int(is_there.sum())


def _blends(values: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Return the places, in the flat image, of pixels between two opposite neighbours."""
    changes = np.zeros(labels.shape, bool)  # none at the border: a pixel there has no two
    inner = labels[1:-1, 1:-1]
    changes[1:-1, 1:-1] = (inner != labels[1:-1, 2:]) | (inner != labels[2:, 1:-1])
    places = np.flatnonzero(changes)
    channels = values.reshape(labels.size, -1)
    own = channels[places].astype(np.int64)
    is_blend = np.zeros(len(places), bool)
    for row, column in DIRECTIONS:
        step = row * labels.shape[1] + column
        one, other = channels[places - step].astype(np.int64), channels[places + step]
        is_inside = (np.minimum(one, other) <= own) & (own <= np.maximum(one, other))
        is_other = (own != one).any(axis=1) & (own != other).any(axis=1)
        is_blend |= is_inside.all(axis=1) & is_other
    return places[is_blend]


def _places(labels: np.ndarray, blends: np.ndarray) -> int:
    """Return in about how many places of its own the value of a blend occurs."""
    flat, width = labels.ravel(), labels.shape[1]
    is_first = np.ones(len(blends), bool)
    for step in (1, width - 1, width, width + 1):
        is_first &= flat[blends] != flat[blends - step]
    return int(is_first.sum())


def _share_of_steps(labels: np.ndarray, blends: np.ndarray) -> float:
    """Return the share of the changes between neighbours that a blend is part of."""
    is_blend = np.zeros(labels.shape, bool)
    is_blend.ravel()[blends] = True
    changed = blended = 0
    for first, second in (
        (np.s_[:, 1:], np.s_[:, :-1]),
        (np.s_[1:], np.s_[:-1]),
    ):
        is_step = labels[first] != labels[second]
        changed += int(is_step.sum())
        blended += int((is_step & (is_blend[first] | is_blend[second])).sum())
    return blended / max(changed, 1)
