import numpy as np
import pytest

from mrcnn.geometry import anchors

SCALES, RATIOS, STRIDES = (32, 64, 128, 256, 512), [0.5, 1, 2], [4, 8, 16, 32, 64]


def pyramid(scales: tuple, ratios: list, shape: tuple[int, int], strides: list) -> np.ndarray:
    return anchors.pyramid_anchors(scales, ratios, anchors.level_grids(shape, strides), strides)


def centres(boxes: np.ndarray) -> np.ndarray:
    return (boxes[:, :2] + boxes[:, 2:]) / 2


def sizes(boxes: np.ndarray) -> np.ndarray:
    return boxes[:, 2:] - boxes[:, :2]


def test_an_input_of_1024_has_261888_anchors():
    found = pyramid(SCALES, RATIOS, (1024, 1024), STRIDES)
    assert found.shape == (261_888, 4)


def test_anchors_are_centred_on_multiples_of_the_stride():
    found = centres(anchors.level_anchors(32, [1.0], (2, 3), stride=16))
    expected = [[0, 0], [0, 16], [0, 32], [16, 0], [16, 16], [16, 32]]
    np.testing.assert_allclose(found, expected, atol=1e-12)


def test_ratio_is_width_over_height():
    heights, widths = sizes(anchors.cell_anchors(64, [0.5, 1, 2])).T
    np.testing.assert_allclose(widths / heights, [0.5, 1, 2])


def test_every_anchor_of_a_level_has_the_area_of_its_scale():
    found = sizes(anchors.level_anchors(64, RATIOS, (3, 3), stride=8))
    np.testing.assert_allclose(found.prod(axis=1), 64**2)


def test_ratios_run_fastest():
    found = anchors.level_anchors(10, [1, 4], (1, 2), stride=8)
    expected = [[-5, -5, 5, 5], [-2.5, -10, 2.5, 10], [-5, 3, 5, 13], [-2.5, -2, 2.5, 18]]
    np.testing.assert_allclose(found, expected)


def test_anchor_stride_leaves_cells_out():
    found = centres(anchors.level_anchors(32, [1.0], (4, 4), stride=8, anchor_stride=2))
    np.testing.assert_allclose(found, [[0, 0], [0, 16], [16, 0], [16, 16]], atol=1e-12)


def test_grids_round_up_as_convolutions_do():
    assert anchors.level_grids((100, 64), [8, 64]) == [(13, 8), (2, 1)]


def test_oblong_inputs_have_rows_first():
    found = pyramid([32], [1], (64, 128), [32])
    np.testing.assert_allclose(centres(found).max(axis=0), [32, 96])


def test_levels_and_scales_must_be_as_many():
    with pytest.raises(ValueError, match="zip"):
        pyramid([32, 64], [1], (64, 64), [4])


def test_anchors_are_matterports(matterport_network):
    found = pyramid(SCALES, RATIOS, (512, 512), STRIDES)
    np.testing.assert_allclose(found, matterport_network["anchors_px"], atol=1e-3)
