"""Closed polygons: whether one crosses itself."""

import numpy as np

LEAF = 8  # sides that are compared with each other at once
MOST_PAIRS = 500_000  # of leaves, after which an outline is too tangled to be judged in time
AT_ONCE = 16_384  # pairs of leaves


def crosses_itself(points: np.ndarray) -> bool:
    """Return whether the sides of a closed polygon (n, 2) cross; touching is no crossing.

    Sides are compared where their bounding boxes meet, which a tree of boxes tells: for outlines
    that people draw, the time grows with n. False for outlines of so many meeting sides that it
    would take minutes.
    """
    distinct = points[np.any(points != np.roll(points, 1, axis=0), axis=1)]
    if len(distinct) < 4:
        return False
    starts, ends = _leaves(distinct), _leaves(np.roll(distinct, -1, axis=0))
    low, high = np.minimum(starts, ends), np.maximum(starts, ends)
    first, second = _meeting_leaves(low, high)
    for place in range(0, len(first), AT_ONCE):
        one, other = first[place : place + AT_ONCE], second[place : place + AT_ONCE]
        rows = [bounds[:, one, :, None] for bounds in (low, high)]
        columns = [bounds[:, other, None] for bounds in (low, high)]
        meets = _meet(*rows, *columns)  # (pairs, 8, 8)
        pair, row, column = np.nonzero(meets)
        side, opposite = (one[pair], row), (other[pair], column)
        if _cross(*(corners[:, *at] for at in (side, opposite) for corners in (starts, ends))):
            return True
    return False


def _leaves(points: np.ndarray) -> np.ndarray:
    """Return points (n, 2) as leaves, a power of two of them, filled with nothing: (2, L, 8)."""
    count = -(-len(points) // LEAF)
    wanted = LEAF << int(count - 1).bit_length()
    padding = ((0, 0), (0, wanted - len(points)))
    # What is no number meets nothing.
    return np.pad(points.T, padding, constant_values=np.nan).reshape(2, -1, LEAF)


def _meeting_leaves(low: np.ndarray, high: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the pairs of leaves whose boxes meet, each with itself too; none where too many do.

    Args:
        low: (2, L, 8) the least x and y of each side. high: the greatest.
    """
    lows, highs = [np.fmin.reduce(low, axis=2)], [np.fmax.reduce(high, axis=2)]
    while lows[-1].shape[1] > 1:
        lows.append(np.fmin(lows[-1][:, ::2], lows[-1][:, 1::2]))
        highs.append(np.fmax(highs[-1][:, ::2], highs[-1][:, 1::2]))
    first: np.ndarray = np.zeros(1, np.int64)
    second: np.ndarray = first
    for low, high in zip(lows[-2::-1], highs[-2::-1], strict=True):
        first = (2 * first[:, None] + [0, 0, 1, 1]).ravel()
        second = (2 * second[:, None] + [0, 1, 0, 1]).ravel()
        meets = _meet(low[:, first], high[:, first], low[:, second], high[:, second])
        kept = (first <= second) & meets
        first, second = first[kept], second[kept]
        if len(first) > MOST_PAIRS:
            return np.zeros(0, np.int64), np.zeros(0, np.int64)
    return first, second


def _meet(
    low: np.ndarray, high: np.ndarray, other_low: np.ndarray, other_high: np.ndarray
) -> np.ndarray:
    """Return which boxes meet; x and y are the first axis."""
    meets = (low[0] <= other_high[0]) & (other_low[0] <= high[0])
    return meets & (low[1] <= other_high[1]) & (other_low[1] <= high[1])


def _cross(a: np.ndarray, b: np.ndarray, c: np.ndarray, d: np.ndarray) -> bool:
    """Return whether a line from a to b crosses the one from c to d: four of (2, n)."""
    is_apart = _side(a, b, c) * _side(a, b, d) < 0
    return bool((is_apart & (_side(c, d, a) * _side(c, d, b) < 0)).any())


def _side(starts: np.ndarray, ends: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Return on which side of each line each point lies: -1, 0 or 1."""
    along, to = ends - starts, points - starts
    return np.sign(along[0] * to[1] - along[1] * to[0])
