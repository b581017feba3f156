import inspect
import subprocess
import sys
import types

import matplotlib as mpl
import numpy as np
import pytest

mpl.use("Agg")

from matplotlib import pyplot as plt
from PIL import Image

from mrcnn import visualize
from mrcnn.drawing import figures

NAMES = ["BG", "cat", "dog"]
SIGNATURES = {
    "display_images": "images, titles=None, cols=4, cmap=None, norm=None, interpolation=None",
    "random_colors": "N, bright=True",
    "apply_mask": "image, mask, color, alpha=0.5",
    "display_instances": "image, boxes, masks, class_ids, class_names, scores=None, title='', "
    "figsize=(16, 16), ax=None, show_mask=True, show_bbox=True, colors=None, captions=None",
    "display_differences": "image, gt_box, gt_class_id, gt_mask, pred_box, pred_class_id, "
    "pred_score, pred_mask, class_names, title='', ax=None, show_mask=True, show_box=True, "
    "iou_threshold=0.5, score_threshold=0.5",
    "draw_rois": "image, rois, refined_rois, mask, class_ids, class_names, limit=10",
    "draw_box": "image, box, color",
    "display_top_masks": "image, mask, class_ids, class_names, limit=4",
    "plot_precision_recall": "AP, precisions, recalls",
    "plot_overlaps": "gt_class_ids, pred_class_ids, pred_scores, overlaps, class_names, "
    "threshold=0.5",
    "draw_boxes": "image, boxes=None, refined_boxes=None, masks=None, captions=None, "
    "visibilities=None, title='', ax=None",
    "display_table": "table",
    "display_weight_stats": "model",
}


@pytest.fixture(autouse=True)
def _no_figures():
    plt.close("all")
    yield
    plt.close("all")


def gray(level=100, size=(100, 120)):
    return np.full((*size, 3), level, np.uint8)


def masks_of(boxes, size=(100, 120)):
    masks = np.zeros((*size, len(boxes)), bool)
    for place, (y1, x1, y2, x2) in enumerate(boxes):
        masks[y1:y2, x1:x2, place] = True
    return masks


BOXES = np.array([(10, 10, 40, 50), (50, 60, 90, 110)], np.int32)
MASKS, CLASS_IDS = masks_of(BOXES), np.array([1, 2], np.int32)
SCORES = np.array([0.9, 0.8], np.float32)


def drawn(ax=None):
    """Return the picture in the axes, (h, w, 3), as large as it was drawn."""
    return np.asarray((ax or plt.gca()).images[0].get_array())


def small_axes():
    """Return axes in which 100 x 120 images are drawn pixel by pixel."""
    return plt.figure(figsize=(1.2, 1), dpi=100).add_axes((0, 0, 1, 1))


def texts(ax=None):
    return [text.get_text() for text in (ax or plt.gca()).texts]


@pytest.mark.parametrize("name", SIGNATURES)
def test_signatures_are_those_of_the_original(name):
    parameters = inspect.signature(getattr(visualize, name)).parameters.values()
    plain = [parameter.replace(annotation=inspect.Parameter.empty) for parameter in parameters]
    assert ", ".join(map(str, plain)) == SIGNATURES[name]


def test_import_is_light():
    program = (
        "import sys, mrcnn.visualize; print([name for name in ('matplotlib', 'tensorflow', 'keras',"
        " 'IPython', 'skimage') if name in sys.modules])"
    )
    found = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True)
    assert found.stdout.decode().strip() == "[]"


def test_attributes_of_the_original_are_there():
    names = {name: getattr(visualize, name) for name in visualize.LAZY}
    assert names["plt"] is plt
    assert names["Polygon"].__name__ == "Polygon"
    assert names["patches"].Rectangle
    assert names["lines"].Line2D
    assert len(names["find_contours"](np.pad(np.ones((3, 3)), 1), 0.5)) == 1
    assert isinstance(visualize.ROOT_DIR, str)


def test_star_import_finds_every_name():
    names = {}
    exec("from mrcnn.visualize import *", names)
    assert {*SIGNATURES, "plt", "draw_instances", "save_image"} <= names.keys()


def test_other_attributes_are_an_error():
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = visualize.nothing


# Figures


def test_figures_without_a_window_are_closed_when_there_are_many():
    for _ in range(25):  # matplotlib warns at 21
        visualize.display_images([gray()])
    assert plt.get_fignums() == list(range(26 - figures.MAX_OPEN, 26))


def test_nothing_is_shown_where_there_is_no_window(monkeypatch):
    def warn():
        raise AssertionError("FigureCanvasAgg is non-interactive")

    monkeypatch.setattr(plt, "show", warn)
    visualize.display_images([gray()])
    visualize.display_instances(gray(), BOXES, MASKS, CLASS_IDS, NAMES)


def test_figures_of_others_stay_open():
    other = plt.figure()
    for _ in range(15):
        visualize.display_images([gray()])
    assert other.number in plt.get_fignums()


def test_shown_picture_can_be_saved(tmp_path):
    visualize.display_instances(gray(), BOXES, MASKS, CLASS_IDS, NAMES, SCORES, figsize=(3, 3))
    plt.savefig(tmp_path / "picture.png", dpi=100)
    with Image.open(tmp_path / "picture.png") as picture:
        assert picture.size == (300, 300)
        assert len(picture.convert("RGB").getcolors(90000)) > 20


@pytest.mark.parametrize("ax", [None, "given"])
def test_window_is_shown_only_for_new_axes(ax, monkeypatch):
    shown = []
    monkeypatch.setattr(plt, "get_backend", lambda: "QtAgg")
    monkeypatch.setattr(plt, "show", lambda: shown.append(True))
    ax = small_axes() if ax else None
    result = visualize.display_instances(gray(), BOXES, MASKS, CLASS_IDS, NAMES, SCORES, ax=ax)
    assert result is None
    assert len(shown) == (ax is None)


# Images


def test_images_stand_in_rows_with_their_titles():
    visualize.display_images([gray(10), gray(20), np.eye(5)], titles=["a", "b"], cols=2)
    axes = plt.gcf().axes
    assert [ax.get_title() for ax in axes] == ["a", "b", "", ""]
    assert [len(ax.images) for ax in axes] == [1, 1, 1, 0]
    assert (drawn(axes[1]) == 20).all()


def test_maps_of_any_range_keep_their_values():
    heat = np.linspace(0, 1, 20).reshape(4, 5)
    visualize.display_images(heat[None], cmap="Blues")
    np.testing.assert_array_equal(drawn(plt.gcf().axes[0]), heat)
    assert plt.gcf().axes[0].images[0].get_cmap().name == "Blues"


def test_no_images_make_no_figure():
    visualize.display_images([])
    assert not plt.get_fignums()


# Instances


def test_instances_are_tinted_and_the_rest_is_not():
    visualize.display_instances(
        gray(), BOXES, MASKS, CLASS_IDS, NAMES, ax=small_axes(), captions=["", ""]
    )
    changed = (drawn() != 100).any(axis=-1)
    np.testing.assert_array_equal(changed, MASKS.any(axis=-1))


def test_picture_is_that_of_draw_objects_and_lies_on_the_pixels():
    ax = small_axes()
    visualize.display_instances(
        gray(), BOXES, MASKS, CLASS_IDS, NAMES, title="two", ax=ax, captions=["", ""]
    )
    detections = {"rois": BOXES, "masks": MASKS, "class_ids": CLASS_IDS}
    alone = visualize.draw_instances(gray(), detections, NAMES, show_labels=False)
    np.testing.assert_array_equal(drawn(ax), alone)
    assert (ax.get_xlim(), ax.get_ylim()) == ((-0.5, 119.5), (99.5, -0.5))
    assert ax.get_title() == "two"


def test_small_images_are_enlarged_to_the_axes():
    visualize.display_instances(gray(), BOXES, MASKS, CLASS_IDS, NAMES, figsize=(5, 5))
    assert drawn().shape == (400, 480, 3)
    assert plt.gca().images[0].get_extent() == [-0.5, 119.5, 99.5, -0.5]


@pytest.mark.parametrize("dtype", [np.int32, np.float32])
def test_labels_are_written(dtype):
    bare, labelled = small_axes(), small_axes()
    boxes = BOXES.astype(dtype)
    visualize.display_instances(
        gray(), boxes, MASKS, CLASS_IDS, NAMES, ax=bare, captions=["", None]
    )
    visualize.display_instances(gray(), boxes, MASKS, CLASS_IDS, NAMES, SCORES, ax=labelled)
    assert (drawn(bare) != drawn(labelled)).any(axis=-1).sum() > 300


@pytest.mark.parametrize(
    "colors",
    [
        [(1.0, 0.0, 0.0), (0.0, 0.0, 1.0)],
        np.array([[1.0, 0.0, 0.0, 0.5], [0.0, 0.0, 1.0, 1.0]]),
        np.array([[255, 0, 0], [0, 0, 255]], np.uint8),
        ["red", "#0000ff", "green"],
    ],
)
def test_colors_of_every_notation_are_used(colors):
    visualize.display_instances(
        gray(), BOXES, MASKS, CLASS_IDS, NAMES, ax=small_axes(), colors=colors
    )
    first, second = drawn()[25, 30].astype(int), drawn()[70, 85].astype(int)
    assert first[0] > first[2] + 80
    assert second[2] > second[0] + 80


def test_no_instances_show_the_image(capsys):
    nothing = np.zeros((0, 4)), np.zeros((0, 0, 0)), np.zeros(0)
    visualize.display_instances(gray(), *nothing, NAMES, ax=small_axes())
    assert capsys.readouterr().out == "\n*** No instances to display *** \n\n"
    assert (drawn() == 100).all()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"class_ids": np.array([1, 3])}, r"must include the background"),
        ({"class_ids": np.array([1])}, "equally many"),
        ({"masks": MASKS[..., :1]}, "equally many"),
        ({"masks": MASKS[:56, :56]}, "expand mini-masks"),
        ({"colors": np.ones((1, 3))}, "as many colors"),
        ({"captions": ["a"]}, "1 captions for 2"),
    ],
)
def test_what_does_not_fit_is_an_error(changes, message):
    given = {"boxes": BOXES, "masks": MASKS, "class_ids": CLASS_IDS, **changes}
    with pytest.raises(ValueError, match=message):
        visualize.display_instances(gray(), class_names=NAMES, ax=small_axes(), **given)


@pytest.mark.parametrize("shape", [(100, 120), (100, 120, 1), (100, 120, 4), (100, 120, 7)])
@pytest.mark.parametrize("dtype", [np.uint8, np.float64])
def test_images_of_any_kind_are_drawn(shape, dtype):
    image = np.full(shape, 100, dtype)
    visualize.display_instances(image, BOXES, MASKS, CLASS_IDS, NAMES, ax=small_axes())
    assert (drawn()[99, 0] == 100).all()
    assert (image == 100).all()


def test_axes_may_come_in_an_array():
    _, axes = plt.subplots(1, 1, squeeze=False)
    visualize.display_instances(gray(), BOXES, MASKS, CLASS_IDS, NAMES, ax=axes)
    assert axes[0, 0].images


# Differences


def differences(pred_boxes, scores, gt_boxes=BOXES, **options):
    gt_ids, pred_ids = np.ones(len(gt_boxes), int), np.ones(len(pred_boxes), int)
    seen = {}

    def caught(*_, **given):
        seen.update(given)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(visualize, "display_instances", caught)
        visualize.display_differences(
            gray(),
            gt_boxes,
            gt_ids,
            masks_of(gt_boxes),
            pred_boxes,
            pred_ids,
            np.array(scores),
            masks_of(pred_boxes),
            NAMES,
            **options,
        )
    return seen


def test_captions_belong_to_their_detections_whatever_the_order():
    shifted = BOXES[1] + [0, 10, 0, 10]  # 40 of 60 columns in common
    found = differences(np.array([shifted, BOXES[0]]), [0.7, 0.9])
    assert found["captions"] == ["", "", "0.90 / 1.00", "0.70 / 0.67"]
    assert found["colors"] == [visualize.GREEN] * 2 + [visualize.RED] * 2


def test_padding_has_no_caption():
    padded = np.array([[0, 0, 0, 0], BOXES[0]])
    assert differences(padded, [0.0, 0.9])["captions"] == ["", "", "0.90 / 1.00"]


@pytest.mark.parametrize(("found", "truth"), [(0, 2), (2, 0), (0, 0)])
def test_differences_of_nothing_are_drawn(found, truth):
    ax = small_axes()
    visualize.display_differences(
        gray(),
        BOXES[:truth],
        CLASS_IDS[:truth],
        MASKS[..., :truth],
        BOXES[:found],
        CLASS_IDS[:found],
        SCORES[:found],
        MASKS[..., :found],
        NAMES,
        ax=ax,
        show_mask=False,
        show_box=False,
    )
    assert (drawn(ax) != 100).any() == bool(found or truth)


# Masks, boxes and colours


def test_top_masks_show_the_largest_classes():
    class_ids = np.array([2, 1])
    visualize.display_top_masks(gray(), MASKS, class_ids, NAMES, limit=3)
    axes = plt.gcf().axes
    assert [ax.get_title() for ax in axes] == ["H x W=100x120", "cat", "dog", ""]
    np.testing.assert_array_equal(drawn(axes[1]), MASKS[..., 1])


def test_random_colors_are_different_and_stable():
    found = visualize.random_colors(7)
    assert len(set(found)) == 7
    assert found == visualize.random_colors(7)
    assert all(max(color) == 1 and min(color) == 0 for color in found)
    assert max(visualize.random_colors(1, bright=False)[0]) == 0.7
    assert visualize.random_colors(0) == []


@pytest.mark.parametrize("dtype", [bool, np.uint8, np.float32])
def test_apply_mask_blends_in_place(dtype):
    image = gray()
    result = visualize.apply_mask(image, MASKS[..., 0].astype(dtype), (1.0, 0.0, 0.2), alpha=0.25)
    assert result is image
    assert (image[MASKS[..., 0]] == [138, 75, 87]).all()  # 0.75 * 100 + 0.25 * 255 * color
    assert (image[~MASKS[..., 0]] == 100).all()


def test_draw_box_is_two_pixels_wide_and_in_place():
    image = gray()
    assert visualize.draw_box(image, np.array([10, 20, 40, 60], np.int32), [255, 0, 0]) is image
    expected = np.zeros((100, 120), bool)
    expected[10:42, 20:62] = True
    expected[12:40, 22:60] = False
    expected[40:42, 60:62] = False  # the original leaves the last corner open
    np.testing.assert_array_equal((image == [255, 0, 0]).all(axis=-1), expected)


def test_box_beyond_the_image_is_cut():
    image = gray()
    visualize.draw_box(image, (-5, -5, 120, 130), (0, 0, 0))
    assert (image[0] == 0).all()
    assert (image[50, 60] == 100).all()
    assert (image[-1, 2:] == 100).all()


# Boxes and RoIs


def test_boxes_have_styles_by_visibility():
    boxes = np.array([(5, 5, 20, 20), (30, 30, 50, 50), (60, 60, 90, 90)])
    visualize.draw_boxes(gray(), boxes, visibilities=np.array([0, 1, 2]), title="three")
    found = [(patch.get_linestyle(), patch.get_alpha()) for patch in plt.gca().patches]
    assert found == [("dotted", 0.5), ("dotted", 1), ("solid", 1)]
    assert plt.gca().patches[0].get_bbox().bounds == (5, 5, 15, 15)
    assert plt.gca().get_title() == "three"


def test_refined_boxes_are_joined_to_theirs_and_carry_the_caption():
    visualize.draw_boxes(
        gray(),
        BOXES,
        BOXES + 4.0,
        captions=["a", "b"],
        visibilities=[0, 2],
    )
    ax = plt.gca()
    assert len(ax.patches) == 3
    assert len(ax.lines) == 1
    np.testing.assert_array_equal(ax.lines[0].get_xydata(), [[60, 50], [64, 54]])
    assert texts() == ["a", "b"]
    assert [text.get_position() for text in ax.texts] == [(10, 10), (64, 54)]


def test_refined_boxes_alone_are_drawn():
    visualize.draw_boxes(gray(), refined_boxes=BOXES)
    assert len(plt.gca().patches) == 2


def test_masks_of_boxes_are_tinted():
    ax = small_axes()
    ax.set_position((0, 0, 1, 1))
    visualize.draw_boxes(gray(), BOXES, masks=MASKS, ax=ax)
    np.testing.assert_array_equal((drawn(ax) != 100).any(axis=-1), MASKS.any(axis=-1))


def test_padding_and_empty_lists_of_boxes_are_not_drawn():
    visualize.draw_boxes(gray(), np.zeros((3, 4)))
    visualize.draw_boxes(gray(), np.zeros((0, 4)), ax=plt.gca())
    assert not plt.gca().patches


def test_no_boxes_at_all_are_an_error():
    with pytest.raises(ValueError, match="needs boxes or refined_boxes"):
        visualize.draw_boxes(gray())


def test_rois_show_masks_and_print_their_kinds(capsys):
    rois = np.array([(10, 10, 40, 50), (50, 60, 90, 110)], np.float32)
    visualize.draw_rois(gray(), rois, rois + 2, np.ones((2, 28, 28)), np.array([0, 2]), NAMES)
    assert capsys.readouterr().out == (
        "Positive ROIs:  1\nNegative ROIs:  1\nPositive Ratio: 0.50\n"
    )
    ax = plt.gca()
    assert ax.get_title() == "2 ROIs"
    assert texts() == ["dog"]
    assert len(ax.patches) == 3
    picture = drawn()
    scale = len(picture) // 100
    assert (picture[25 * scale, 30 * scale] == 100).all()
    assert (picture[70 * scale, 85 * scale] != 100).any()


def test_only_some_of_many_rois_are_drawn():
    rois = np.tile(BOXES[:1], (30, 1))
    visualize.draw_rois(gray(), rois, rois, np.zeros((30, 7, 7)), np.zeros(30, int), NAMES, limit=4)
    assert len(plt.gca().patches) == 4
    assert plt.gca().get_title() == "Showing 4 random ROIs out of 30"


# Plots and tables


def test_precision_and_recall_are_plotted():
    visualize.plot_precision_recall(0.75, np.array([1, 0.5]), np.array([0, 1]))
    assert plt.gca().get_title() == "Precision-Recall Curve. AP@50 = 0.750"
    np.testing.assert_array_equal(plt.gca().lines[0].get_xydata(), [[0, 1], [1, 0.5]])


def test_overlaps_say_what_matches():
    overlaps = np.array([[0.9, 0.1], [0.0, 0.6], [0.0, 0.0]])
    visualize.plot_overlaps(
        np.array([1, 2, 0]), np.array([1, 1, 2]), np.array([0.9, 0.8, 0.7]), overlaps, NAMES
    )
    assert texts() == ["0.900\nmatch", "0.100\n", "0.000\n", "0.600\nwrong", "0.000\n", "0.000\n"]
    labels = [label.get_text() for label in plt.gca().get_yticklabels()]
    assert labels == ["cat (0.90)", "cat (0.80)", "dog (0.70)"]


def test_overlaps_of_nothing_are_plotted():
    visualize.plot_overlaps(np.zeros(0), np.zeros(0), np.zeros(0), np.zeros((0, 0)), NAMES)
    assert not texts()


def test_table_is_text_without_a_notebook(capsys):
    visualize.display_table([["name", 1], ["a", None]])
    assert capsys.readouterr().out == "name  1\na     None\n"


def test_table_is_html_in_a_notebook(monkeypatch):
    shown = []
    shell = types.SimpleNamespace(get_ipython=lambda: True)
    display = types.SimpleNamespace(display=lambda bundle, raw: shown.append((bundle, raw)))
    monkeypatch.setitem(sys.modules, "IPython", shell)
    monkeypatch.setitem(sys.modules, "IPython.display", display)
    visualize.display_table([["<b>", 2]])
    ((bundle, raw),) = shown
    assert raw
    assert bundle["text/html"] == "<table><tr><td>&lt;b&gt;</td><td>2</td></tr></table>"
    assert bundle["text/plain"] == "<b>  2"


def test_weights_that_are_constant_huge_or_not_finite_are_marked(capsys):
    weights = {
        "conv1/kernel": np.array([[1.0, 3.0]]),
        "conv1/bias": np.zeros(2),
        "conv2/kernel": np.zeros((2, 2)),
        "conv3/kernel": np.array([1.0, -2000.0]),
        "conv4/kernel": np.array([1.0, np.nan]),
    }
    layer = types.SimpleNamespace(
        weights=[types.SimpleNamespace(path=name, name="weight") for name in weights],
        get_weights=lambda: list(weights.values()),
    )
    visualize.display_weight_stats(types.SimpleNamespace(get_trainable_layers=lambda: [layer]))
    header, *lines = capsys.readouterr().out.splitlines()
    assert header.split() == ["WEIGHT", "NAME", "SHAPE", "MIN", "MAX", "STD"]
    assert lines[0].split() == ["conv1/kernel", "(1,", "2)", "+1.0000", "+3.0000", "+1.0000"]
    assert ["***" in line for line in lines] == [False, False, True, True, True]
    assert "dead?" in lines[2]
    assert "overflow?" in lines[3]
