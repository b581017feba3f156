import numpy as np
import pytest

from mrcnn.geometry.polygons import crosses_itself


def by_all_pairs(points):
    """Return whether any two sides cross: each with each, with whole numbers."""
    points = points[np.any(points != np.roll(points, 1, axis=0), axis=1)]
    ends = np.roll(points, -1, axis=0)

    def side(a, b, c):
        return np.sign((b[0] - a[0]) * (c[1] - a[1]) - (b[1] - a[1]) * (c[0] - a[0]))

    return any(
        side(a, b, c) * side(a, b, d) < 0 and side(c, d, a) * side(c, d, b) < 0
        for a, b in zip(points, ends, strict=True)
        for c, d in zip(points, ends, strict=True)
    )


def test_agrees_with_all_pairs():
    rng = np.random.default_rng(0)
    found = []
    for _ in range(300):
        count = rng.integers(3, 40)
        angles = np.sort(rng.uniform(0, 2 * np.pi, count))
        radii = rng.choice([20, 20, 5], count)
        points = np.round(radii[:, None] * np.stack([np.cos(angles), np.sin(angles)], 1))
        if rng.random() < 0.3:
            points[rng.integers(count)] += rng.integers(-30, 30, 2)
        found.append(crosses_itself(points))
        assert found[-1] == by_all_pairs(points)
    assert 30 < sum(found) < 270


@pytest.mark.parametrize("scale", [1e-3, 1, 1e5])
@pytest.mark.parametrize("turn", [0, 0.3, 2])
def test_does_not_depend_on_scale_place_or_start(scale, turn):
    eight = np.array([(0, 0), (4, 4), (4, 0), (0, 4)], float)
    square = np.array([(0, 0), (4, 0), (4, 4), (0, 4)], float)
    turned = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    for points, crosses in ((eight, True), (square, False)):
        for start in range(4):
            moved = np.roll(points, start, axis=0) @ turned * scale + 7 * scale
            assert crosses_itself(moved) is crosses


def test_a_hundred_thousand_points_are_judged():
    """Each side with each other one would be ten thousand million pairs."""
    steps = np.linspace(0, 2 * np.pi, 100_000, endpoint=False)
    circle = 500 * np.stack([np.cos(steps), np.sin(steps)], axis=1)
    assert not crosses_itself(circle)
    pinched = np.concatenate([circle, [(1000, 1), (-1000, 1.7)]])
    assert crosses_itself(pinched)
    tangle = np.random.default_rng(0).uniform(0, 1000, (100_000, 2))
    assert not crosses_itself(tangle)  # cannot be judged in time
