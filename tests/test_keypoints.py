import json

import numpy as np
import PIL.Image
import pytest
from keras import ops

from mrcnn.data import augment
from mrcnn.data.dataset import BadSample, Dataset
from mrcnn.data.formats.coco import load_coco
from mrcnn.evaluation import coco
from mrcnn.geometry import image_files, keypoints
from mrcnn.geometry import placement as placements
from mrcnn.network.ops import reductions
from mrcnn.network.roi_heads import keypoint as keypoint_head
from mrcnn.network.roi_heads.keypoint import KeypointTargetLayer

NAMES = ("nose", "left_hand", "right_hand")


def test_the_highest_cell_is_found_at_its_centre():
    heatmaps = np.zeros((1, 8, 8, 2), np.float32)
    heatmaps[0, 2, 5, 0] = heatmaps[0, 7, 0, 1] = 4.0
    found = keypoints.decode(heatmaps, np.array([[10.0, 20.0, 18.0, 28.0]]))
    np.testing.assert_allclose(found, [[[12.5, 25.5, 4], [17.5, 20.5, 4]]])


def test_cells_lead_back_to_the_points():
    rng = np.random.default_rng(0)
    rois = np.array([[[8.0, 4.0, 40.0, 36.0]]], np.float32)
    points = rng.uniform([8, 4], [40, 36], (1, 1, 17, 2)).astype("f")
    visible = np.full((1, 1, 17, 1), 2, np.float32)
    cells, weights = keypoint_head.targets(
        ops.convert_to_tensor(rois),
        ops.convert_to_tensor(np.concatenate([points, visible], -1)),
        56,
    )
    assert np.asarray(weights).all()
    heatmaps = np.eye(56 * 56, dtype=np.float32)[np.asarray(cells)[0, 0]].reshape(17, 56, 56)
    found = keypoints.decode(np.moveaxis(heatmaps, 0, -1)[None], rois[0])
    assert np.abs(found[0, :, :2] - points[0, 0]).max() <= 1.0


def test_targets_by_hand():
    rois = [[[0.0, 0.0, 8.0, 8.0]]]
    points = [[0, 0, 2], [7.9, 3, 1], [8, 8, 2], [3, 3, 0], [9, 3, 2], [-1, 3, 2]]
    cells, weights = keypoint_head.targets(
        ops.convert_to_tensor(rois), ops.convert_to_tensor([[points]], "float32"), 4
    )
    assert np.asarray(weights)[0, 0].tolist() == [1, 1, 1, 0, 0, 0]
    assert np.asarray(cells)[0, 0, :3].tolist() == [0, 13, 15]


def test_loss_is_the_entropy_of_the_cells_that_are_there():
    logits = np.zeros((1, 2, 4, 4, 3), np.float32)
    logits[0, 0, 1, 2, 0] = 3.0
    cells = np.array([[[6, 0, 0], [0, 0, 0]]], np.int32)
    weights = np.array([[[1, 1, 0], [0, 0, 0]]], np.float32)
    loss = keypoint_head.keypoint_loss(
        *map(ops.convert_to_tensor, (cells, weights, logits)), reductions.on_one_device
    )
    expected = (np.log(15 + np.exp(3)) - 3 + np.log(16)) / 2
    assert float(loss) == pytest.approx(expected, rel=1e-5)
    nothing = ops.zeros_like(ops.convert_to_tensor(weights))
    assert float(keypoint_head.keypoint_loss(cells, nothing, logits, reductions.on_one_device)) == 0


def marked(height, width):
    """Return an image in which one pixel is set, its mask, and its centre as a keypoint."""
    image = np.zeros((height, width, 3), np.uint8)
    image[2, 5] = 255
    mask = image[..., :1] > 0
    return image, mask, np.array([[[2.5, 5.5, 2], [0.5, 0.5, 1], [1.5, 1.5, 0]]], np.float32)


@pytest.mark.parametrize("name", ["flip_left_right", "flip_up_down", "rotate_quarter"])
def test_keypoints_move_with_their_pixels(name):
    turns = set()
    for seed in range(20):
        image, mask, points = marked(7, 9)
        moved, mask, points = augment.apply(
            [augment.by_name(name)], image, mask, points, ((1, 2),), np.random.default_rng(seed)
        )
        np.testing.assert_array_equal(np.argwhere(mask[..., 0])[0] + 0.5, points[0, 0, :2])
        assert points[0, 0, 2] == 2
        turns.add((moved.shape[:2], tuple(points[0, 0])))
    assert len(turns) == (4 if name == "rotate_quarter" else 2)


def test_left_and_right_change_names_in_a_mirror():
    image, mask, points = marked(7, 9)
    for seed in range(10):
        moved, _, found = augment.apply(
            [augment.flip_left_right], image, mask, points, ((1, 2),), np.random.default_rng(seed)
        )
        is_mirrored = not np.array_equal(moved, image)
        assert found[0, 1, 2] == (0 if is_mirrored else 1)
        assert found[0, 2, 2] == (1 if is_mirrored else 0)


def test_pairs_are_told_by_names():
    assert augment.mirror_pairs(NAMES) == ((1, 2),)
    assert augment.mirror_pairs(["left_eye", "tail"]) == ()


@pytest.mark.parametrize(
    ("left", "right"),
    [
        ("left_eye", "right_eye"),
        ("LEFT_EYE", "RIGHT_EYE"),
        ("Left Eye", "Right Eye"),
        ("eye_left", "eye_right"),
        ("eyeLeft", "eyeRight"),
        ("l_eye", "r_eye"),
        ("L-Eye", "R-Eye"),
        ("LEye", "REye"),
        ("eyeL", "eyeR"),
        ("eye.l", "eye.r"),
        ("lefteye", "righteye"),
        ("eyeleft", "eyeright"),
        ("lshoulder", "rshoulder"),
        ("left-shoulder", "right-shoulder"),
        ("left_eye", "RightEye"),
        ("left1", "right1"),
        ("left_eye_right_corner", "right_eye_left_corner"),
        ("Auge_links_left", "Auge_links_right"),
    ],
)
def test_sides_are_told_in_any_spelling(left, right):
    for names in (["nose", right, "tail", left], ["nose", left, "tail", right]):
        pairs = augment.mirror_pairs(names)
        assert pairs == ((names.index(left), names.index(right)),)
        assert augment.without_partner(names, pairs) == []


@pytest.mark.parametrize("names", [["nose", "tail"], ["bright", "dark"], ["L1", "L2", "T1"], ["l"]])
def test_names_without_sides_have_no_pairs_and_may_be_mirrored(names, caplog):
    assert augment.mirror_pairs(names) == ()
    flips = [augment.flip_left_right]
    assert augment.without_mirrors(flips, names, ()) == flips
    assert not caplog.messages


@pytest.mark.parametrize("names", [["left_eye", "right_ear"], ["L-Eye", "nose"], ["eyeR", "tail"]])
def test_sides_without_partner_are_not_mirrored(names, caplog):
    pairs = augment.mirror_pairs(names)
    chosen = [augment.flip_left_right, augment.jitter_colour, augment.flip_up_down]
    assert augment.without_mirrors(chosen, names, pairs) == [augment.jitter_colour]
    assert "images are not flipped" in caplog.text
    assert names[0] in caplog.text
    assert augment.without_mirrors(chosen, names, ((0, 1),)) == chosen


def test_two_names_for_one_side_have_no_partner():
    names = ["left_eye", "l_eye", "right_eye"]
    assert augment.mirror_pairs(names) == ()
    assert augment.without_partner(names, ()) == names


def test_keypoints_without_names_are_not_mirrored_unless_pairs_are_known(caplog):
    flips = [augment.flip_left_right]
    assert augment.without_mirrors(flips, (), ((0, 1),)) == flips
    assert not caplog.messages
    assert augment.without_mirrors(flips, (), ()) == []
    assert "KEYPOINT_NAMES and KEYPOINT_PAIRS do not say" in caplog.text


def test_an_augmentation_that_cannot_move_keypoints_is_named():
    def smudge(image, masks, rng):  # noqa: ARG001
        return image, masks

    arguments = (*marked(7, 9), (), np.random.default_rng(0))
    with pytest.raises(ValueError, match="'smudge' cannot move keypoints"):
        augment.apply([smudge], *arguments)


def test_placement_moves_points_as_it_moves_pixels():
    placement = placements.place((10, 20), 0, 64, mode="square")
    points = np.array([[[5.0, 10, 2], [0, 0, 1], [10, 20, 2], [11, 3, 2]]])
    found = placement.move_keypoints(points)
    top = placement.window[0]
    np.testing.assert_allclose(found[0, :, 0] - top, points[0, :, 0] * placement.scale)
    assert found[0, :, 2].tolist() == [2, 1, 2, 0]
    crop = placements.place((20, 20), 8, 8, min_scale=1, mode="crop")
    y, x, _, _ = crop.crop
    np.testing.assert_allclose(
        crop.move_keypoints(np.array([[y + 1.0, x + 2.0, 2]])), [[1, 2, 2]], atol=1e-6
    )


@pytest.mark.parametrize("orientation", range(1, 9))
def test_points_turn_with_their_picture(orientation):
    picture = np.zeros((4, 7), bool)
    picture[1, 5] = True
    turned = image_files.turned(picture, orientation)
    point = image_files.turned_points(np.array([1.5, 5.5]), (4, 7), orientation)
    np.testing.assert_array_equal(np.argwhere(turned)[0] + 0.5, point)


@pytest.fixture
def dataset(tmp_path):
    PIL.Image.new("RGB", (30, 20)).save(tmp_path / "a.png")
    objects = [
        {
            "id": number,
            "image_id": 1,
            "category_id": 1,
            "segmentation": [[2, 2, 12, 2, 12, 16, 2, 16]],
            "keypoints": points,
        }
        for number, points in enumerate([[3, 4, 2, 9, 8, 1, 0, 0, 0], [0] * 9], start=1)
    ]
    content = {
        "images": [{"id": 1, "file_name": "a.png", "width": 30, "height": 20}],
        "categories": [{"id": 1, "name": "person", "keypoints": list(NAMES)}],
        "annotations": objects,
    }
    (tmp_path / "a.json").write_text(json.dumps(content))
    return load_coco(tmp_path / "a.json", tmp_path)


def test_keypoints_of_coco_are_centres_of_pixels(dataset):
    assert tuple(dataset.keypoint_names) == NAMES
    expected = [[[4.5, 3.5, 2], [8.5, 9.5, 1], [0, 0, 0]], np.zeros((3, 3))]
    np.testing.assert_array_equal(dataset.load_keypoints(0), expected)


def test_the_truth_finds_itself(dataset):
    truth = coco.ground_truth_of(dataset)
    masks, class_ids = dataset.load_mask(0)
    found = {
        "rois": np.array([[2, 2, 16, 12]] * 2),
        "class_ids": class_ids,
        "scores": np.array([0.9, 0.8]),
        "masks": masks,
        "keypoints": dataset.load_keypoints(0),
    }
    results = coco.to_results(found, 0, [None, 1])
    assert results[0]["keypoints"][:3] == [3, 4, 2]
    scores = coco.score(truth, results, iou_types=("segm", "bbox", "keypoints"))
    assert scores["keypoints"]["AP"] == pytest.approx(1)
    assert scores["keypoints"]["APs"] is None


def test_negative_rois_learn_no_keypoints():
    # All three are near the object, which has its keypoints in each of them.
    rois = np.array([[[0.1, 0.1, 0.5, 0.5], [0.1, 0.1, 0.5, 0.5], [0.0, 0.0, 1.0, 1.0]]], "f")
    record = np.zeros((1, 15), "f")
    record[:, 4:6] = 100
    points = np.array([[[[20, 20, 2], [30, 30, 1], [20, 30, 0]]]], "f")
    layer = KeypointTargetLayer(56, inclusive=False)
    class_ids, matched = np.array([[1, 0, 0]], "int32"), np.zeros((1, 3), "int32")
    _, weights = layer([rois, class_ids, record, matched, points])
    np.testing.assert_array_equal(weights[0], [[1, 1, 0], [0, 0, 0], [0, 0, 0]])


def test_objects_without_the_entry_and_renamed_classes(tmp_path, dataset):
    content = json.loads((tmp_path / "a.json").read_text())
    del content["annotations"][1]["keypoints"]
    (tmp_path / "a.json").write_text(json.dumps(content))
    again = load_coco(tmp_path / "a.json", tmp_path, class_names=["person"])
    np.testing.assert_array_equal(again.load_keypoints(0), dataset.load_keypoints(0))
    for truth in (coco.ground_truth(content), coco.ground_truth_of(again)):
        assert [item["num_keypoints"] for item in truth.dataset["annotations"]] == [2, 0]
        assert len(truth.dataset["annotations"][1]["keypoints"]) == 9


def test_keypoints_that_are_no_triples_drop_the_object(tmp_path, dataset):
    content = json.loads((tmp_path / "a.json").read_text())
    content["annotations"][0]["keypoints"] = [1, 2, 2, 3]
    (tmp_path / "a.json").write_text(json.dumps(content))
    again = load_coco(tmp_path / "a.json", tmp_path)
    assert again.num_objects == dataset.num_objects - 1
    assert any("1" in str(finding) for finding in again.problems)


def test_keypoints_of_another_number_are_named(tmp_path, dataset):
    content = json.loads((tmp_path / "a.json").read_text())
    content["annotations"][0]["keypoints"] = [1, 2, 2]
    (tmp_path / "a.json").write_text(json.dumps(content))
    again = load_coco(tmp_path / "a.json", tmp_path)
    with pytest.raises(BadSample, match="has 1 keypoints, its categories name 3"):
        again.load_keypoints(0)
    assert dataset.load_keypoints(0).shape == (2, 3, 3)


def test_keypoints_travel_into_a_combined_set(dataset):
    both = Dataset()
    both.add_dataset("persons", dataset)
    both.prepare()
    assert tuple(both.keypoint_names) == NAMES
    np.testing.assert_array_equal(both.load_keypoints(0), dataset.load_keypoints(0))
    truth = coco.ground_truth_of(both)
    assert [item["num_keypoints"] for item in truth.dataset["annotations"]] == [2, 0]
