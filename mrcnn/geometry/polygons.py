"""Closed polygons: whether one crosses itself."""

import numpy as np

LEAF = 8  # sides that are compared with each other at once
MOST_PAIRS = 500_000  # of leaves, after which an outline is too tangled to be judged in time
AT_ONCE = 16_384


def crosses_itself(points: np.ndarray) -> bool:
    """Tell whether the sides of a closed polygon (n, 2) cross; touching is no crossing.

    Sides are compared where their bounding boxes meet, which a tree of boxes tells: for outlines
    that people draw, the time grows with n. False for outlines of so many meeting sides that it
    would take minutes.
    """
    distinct = points[np.any(points != np.roll(points, 1, axis=0), axis=1)]
    if len(distinct) < 4:
        return False
    starts, ends = _padded(distinct), _padded(np.roll(distinct, -1, axis=0))
    first, second = _meeting_leaves(np.minimum(starts, ends), np.maximum(starts, ends))
    for place in range(0, len(first), AT_ONCE):
        pair = first[place : place + AT_ONCE], second[place : place + AT_ONCE]
        if _leaves_cross(starts, ends, *pair):
            return True
    return False


def _padded(points: np.ndarray) -> np.ndarray:
    """Return points (n, 2) as a power of two of leaves (L, 8, 2), the last point repeated."""
    count = -(-len(points) // LEAF)
    wanted = LEAF << int(count - 1).bit_length()
    return np.pad(points, ((0, wanted - len(points)), (0, 0)), "edge").reshape(-1, LEAF, 2)


def _meeting_leaves(low: np.ndarray, high: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the pairs of leaves whose boxes meet, each with itself too; none where too many do.

    Args:
        low: (L, 8, 2) the least x and y of each side. high: the greatest.
    """
    lows, highs = [low.min(axis=1)], [high.max(axis=1)]
    while len(lows[-1]) > 1:
        lows.append(np.minimum(lows[-1][::2], lows[-1][1::2]))
        highs.append(np.maximum(highs[-1][::2], highs[-1][1::2]))
    first: np.ndarray = np.zeros(1, np.int64)
    second: np.ndarray = first
    for low, high in zip(lows[-2::-1], highs[-2::-1], strict=True):
        first = (2 * first[:, None] + [0, 0, 1, 1]).ravel()
        second = (2 * second[:, None] + [0, 1, 0, 1]).ravel()
        meets = (low[first] <= high[second]) & (low[second] <= high[first])
        kept = (first <= second) & meets.all(axis=1)
        first, second = first[kept], second[kept]
        if len(first) > MOST_PAIRS:
            return np.zeros(0, np.int64), np.zeros(0, np.int64)
    return first, second


def _leaves_cross(
    starts: np.ndarray, ends: np.ndarray, first: np.ndarray, second: np.ndarray
) -> bool:
    """Tell whether a side of one leaf crosses a side of its partner."""
    low, high = np.minimum(starts, ends), np.maximum(starts, ends)
    meets = (low[first][:, :, None] <= high[second][:, None]).all(axis=-1)  # (pairs, 8, 8)
    meets &= (low[second][:, None] <= high[first][:, :, None]).all(axis=-1)
    pair, one, other = np.nonzero(meets)
    a, b = starts[first[pair], one], ends[first[pair], one]
    c, d = starts[second[pair], other], ends[second[pair], other]
    is_apart = _side(a, b, c) * _side(a, b, d) < 0
    return bool((is_apart & (_side(c, d, a) * _side(c, d, b) < 0)).any())


def _side(starts: np.ndarray, ends: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Return on which side of each line each point lies: -1, 0 or 1."""
    along, to = ends - starts, points - starts
    return np.sign(along[..., 0] * to[..., 1] - along[..., 1] * to[..., 0])
