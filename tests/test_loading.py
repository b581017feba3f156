import numpy as np
import pytest
from small import SmallConfig

from mrcnn import presets
from mrcnn.model import MaskRCNN
from mrcnn.weights import hdf5, loading, torchvision


class SmallTorchvision(presets.TorchvisionConfig):
    NAME = "small"
    NUM_CLASSES = 3
    BACKBONE = "resnet18"
    BACKBONE_WIDTH = 8
    TOP_DOWN_PYRAMID_SIZE = 16
    RPN_CONV_SIZE = 16
    RPN_ANCHOR_SCALES = (8, 16, 32, 48, 64)
    FPN_CLASSIF_FC_LAYERS_SIZE = 16
    MASK_CONV_SIZE = 8
    IMAGE_MIN_DIM = IMAGE_MAX_DIM = 64
    POST_NMS_ROIS_INFERENCE = 20
    POST_NMS_ROIS_TRAINING = 600
    DETECTION_MAX_INSTANCES = 8


def classifier(model: MaskRCNN) -> dict[str, np.ndarray]:
    """Return the state dict of a ResNet-18 with the shapes of a model's backbone."""
    rng = np.random.default_rng(0)
    names = ["conv1.weight", *(f"bn1.{leaf}" for leaf in LEAVES)]
    for stage in range(1, 5):
        for block in range(2):
            prefix = f"layer{stage}.{block}"
            names += [f"{prefix}.conv{i}.weight" for i in (1, 2)]
            names += [f"{prefix}.bn{i}.{leaf}" for i in (1, 2) for leaf in LEAVES]
        if stage > 1:
            names += [f"layer{stage}.0.downsample.0.weight"]
            names += [f"layer{stage}.0.downsample.1.{leaf}" for leaf in LEAVES]
    shapes = {key: w.shape for key, w in hdf5.weights_by_name(model.inference_model).items()}
    state = {}
    for name in names:
        probe = np.zeros((1, 1, 1, 1) if "conv" in name or ".0.weight" in name else (1,))
        (key,) = torchvision.by_layer({name: probe})[0]
        shape = shapes[key]
        order = (3, 2, 0, 1) if len(shape) == 4 else (0,)
        state[name] = rng.uniform(0.5, 1.5, [shape[axis] for axis in order]).astype("f")
    state["fc.weight"], state["fc.bias"] = np.zeros((10, 64), "f"), np.zeros(10, "f")
    state["bn1.num_batches_tracked"] = np.array(3)
    return state


LEAVES = ("weight", "bias", "running_mean", "running_var")


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> MaskRCNN:
    return MaskRCNN("training", SmallTorchvision(), tmp_path_factory.mktemp("logs"))


def test_a_classifier_starts_the_backbone(model, tmp_path):
    state = classifier(model)
    np.savez(tmp_path / "resnet18.npz", **state)
    report = model.load_weights(tmp_path / "resnet18.npz", verbose=0)
    assert report.skipped == []
    kinds = {key.partition("_")[0] for key in report.missing}
    assert kinds <= {"fpn", "rpn", "mrcnn"}
    weights = hdf5.weights_by_name(model.inference_model)
    np.testing.assert_array_equal(
        weights["res3a_branch2b/kernel"], state["layer2.0.conv2.weight"].transpose(2, 3, 1, 0)
    )
    np.testing.assert_array_equal(
        weights["bn3a_branch1/moving_variance"], state["layer2.0.downsample.1.running_var"]
    )


def test_another_architecture_is_told_by_its_looks(model, tmp_path):
    state = classifier(model)
    state = {key: np.repeat(array, 2, axis=0) for key, array in state.items() if array.ndim}
    np.savez(tmp_path / "wide.npz", **state)
    with pytest.raises(ValueError, match=r"looks like a classifier with \[2, 2, 2, 2\] blocks"):
        model.load_weights(tmp_path / "wide.npz")


def test_names_that_have_no_place_are_reported(model, tmp_path):
    state = classifier(model) | {"extra.weight": np.zeros(3, "f")}
    np.savez(tmp_path / "a.npz", **state)
    assert model.load_weights(tmp_path / "a.npz", verbose=0).skipped == ["extra.weight"]


def test_weights_of_another_family_are_refused_with_the_remedy(model, tmp_path):
    other = MaskRCNN("inference", SmallConfig(), tmp_path)
    other.save_weights(tmp_path / "ours.h5")
    with pytest.raises(ValueError, match=r"family matterport.* CONVENTIONS are torchvision"):
        model.load_weights(tmp_path / "ours.h5")
    np.savez(tmp_path / "theirs.npz", **classifier(model))
    with pytest.raises(ValueError, match=r"family torchvision.*presets\.TorchvisionConfig"):
        other.load_weights(tmp_path / "theirs.npz")


def test_a_checkpoint_carries_its_conventions(model, tmp_path):
    model.save_weights(tmp_path / "a.h5")
    again = MaskRCNN.from_checkpoint(tmp_path / "a.h5", model_dir=tmp_path)
    assert again.config.CONVENTIONS == "torchvision"
    image = np.random.default_rng(0).integers(0, 255, (50, 60, 3), np.uint8)
    (one,), (other,) = model.detect([image]), again.detect([image])
    for name, array in one.items():
        np.testing.assert_array_equal(array, other[name])


def test_pickled_arrays_are_refused(tmp_path, model):
    np.savez(tmp_path / "a.npz", weight=np.array([{}], object))
    with pytest.raises(ValueError, match="pickle"):
        model.load_weights(tmp_path / "a.npz")


def test_settings_of_a_detector_are_told_by_its_arrays():
    state = {
        "roi_heads.box_predictor.cls_score.weight": np.zeros((91, 1024)),
        "roi_heads.box_head.fc6.weight": np.zeros((1024, 12544)),
        "roi_heads.mask_predictor.mask_fcn_logits.weight": np.zeros((91, 256, 1, 1)),
    }
    found = torchvision.settings(state)
    assert (found["NUM_CLASSES"], found["CLASS_NAMES"][18]) == (91, "dog")
    assert torchvision.presets_of(state) is presets.TorchvisionConfig
    keypoints = {"roi_heads.keypoint_head.0.weight": np.zeros((512, 256, 3, 3))}
    assert torchvision.presets_of(keypoints) is presets.TorchvisionKeypointConfig
    with pytest.raises(ValueError, match="no classes to detect"):
        torchvision.settings({"conv1.weight": np.zeros(1)})


def test_detectors_of_2019_have_no_epsilon(tmp_path, monkeypatch):
    path = tmp_path / "a-00000000.npz"
    np.savez(path, **{"bn1.running_var": np.ones(3, "f")})
    assert loading.read_state(path)["bn1.running_var"].tolist() == [1, 1, 1]
    digest = loading._sha256(path)[:8]
    path = path.rename(tmp_path / f"a-{digest}.npz")
    monkeypatch.setattr(loading, "WITHOUT_EPSILON", (digest,))
    np.testing.assert_allclose(loading.read_state(path)["bn1.running_var"], 1 - 1e-5, rtol=1e-7)
