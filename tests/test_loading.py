from pathlib import Path

import h5py
import keras
import numpy as np
import pytest
from conftest import detect_eagerly
from small import SmallConfig
from torch_state import classifier, detector

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


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> MaskRCNN:
    with pytest.MonkeyPatch.context() as monkeypatch:
        detect_eagerly(monkeypatch)
        return MaskRCNN("training", SmallTorchvision(), tmp_path_factory.mktemp("logs"))


@pytest.fixture(scope="module")
def of_matterport(tmp_path_factory) -> MaskRCNN:
    """A network of Matterport's family, random in norms, too."""
    model = MaskRCNN("inference", SmallConfig(), tmp_path_factory.mktemp("logs"))
    rng = np.random.default_rng(1)
    for weight in hdf5.weights_by_name(model.inference_model).values():
        weight.assign(rng.uniform(0.5, 1.5, weight.shape))
    return model


@pytest.fixture(scope="module")
def keras_classifier(of_matterport, tmp_path_factory) -> Path:
    """The backbone of that network, as Keras 2 would write it."""
    path = tmp_path_factory.mktemp("classifier") / "imagenet.h5"
    with h5py.File(path, "w") as file:
        for key, weight in hdf5.weights_by_name(of_matterport.inference_model).items():
            if key.startswith(("conv1", "bn", "res")):
                layer, leaf = key.split("/")
                file[f"{layer}/{layer}/{leaf}:0"] = np.asarray(weight)
    return path


def test_a_classifier_starts_the_backbone(model, tmp_path):
    state = classifier(model)
    state |= {"fc.weight": np.zeros((10, 64), "f"), "fc.bias": np.zeros(10, "f")}
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


def test_weights_of_another_family_are_refused_with_the_remedy(model, of_matterport, tmp_path):
    of_matterport.save_weights(tmp_path / "ours.h5")
    with pytest.raises(ValueError, match=r"family matterport.* CONVENTIONS are torchvision"):
        model.load_weights(tmp_path / "ours.h5")
    np.savez(tmp_path / "theirs.npz", **classifier(model))
    with pytest.raises(ValueError, match=r"family torchvision.*presets\.TorchvisionConfig"):
        of_matterport.load_weights(tmp_path / "theirs.npz")


@pytest.mark.usefixtures("detecting_eagerly")
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
    with pytest.raises(ValueError, match="not a torchvision model"):
        torchvision.settings({"conv1.weight": np.zeros(1)})


@pytest.mark.parametrize(
    ("depths", "has_bottlenecks", "width", "name"),
    [
        ((2, 2, 2, 2), False, 64, "resnet18"),
        ((3, 4, 6, 3), False, 64, "resnet34"),
        ((3, 4, 6, 3), True, 64, "resnet50"),
        ((3, 4, 6, 3), True, 4, "resnext50_32x4d"),
        ((3, 4, 23, 3), True, 8, "resnext101_32x8d"),
    ],
)
def test_classifiers_are_told_by_their_arrays(depths, has_bottlenecks, width, name):
    state = {
        f"layer{stage}.{block}.conv2.weight": np.zeros((64, width, 3, 3))
        for stage, depth in enumerate(depths, start=1)
        for block in range(depth)
    }
    if has_bottlenecks:
        state["layer1.0.conv3.weight"] = np.zeros((256, 64, 1, 1))
    assert torchvision.kind(state) == f"a {name} that classifies"
    assert torchvision.settings(state) == {"CONVENTIONS": "torchvision", "BACKBONE": name}


class SmallDetectron(SmallTorchvision):
    CONVENTIONS = "detectron2"


@pytest.fixture(scope="module")
def of_detectron(tmp_path_factory) -> MaskRCNN:
    return MaskRCNN("inference", SmallDetectron(), tmp_path_factory.mktemp("logs"))


def first_norm(model: MaskRCNN, image: np.ndarray) -> np.ndarray:
    graph = model.inference_model
    return keras.Model(graph.inputs[0], graph.get_layer("bn_conv1").output)(image)


def test_a_keras_classifier_means_the_same_without_biases_and_for_rgb(
    of_matterport, keras_classifier, of_detectron
):
    source, model = of_matterport, of_detectron
    report = model.load_weights(keras_classifier, verbose=0)
    assert report.skipped == []
    assert {key.partition("_")[0] for key in report.missing} == {"fpn", "rpn", "mrcnn"}
    image = np.random.default_rng(2).uniform(-100, 100, (1, 64, 64, 3)).astype("f")
    found = first_norm(model, image)
    np.testing.assert_allclose(found, first_norm(source, image[..., ::-1]), rtol=1e-4, atol=1e-3)
    # The families' strides and pads part further on; a later pair shows the same by its arrays.
    theirs, ours = (hdf5.weights_by_name(each.inference_model) for each in (source, model))
    lower = -np.asarray(theirs["res3a_branch2a/bias"])
    for leaf, shift in (("mean", lower), ("variance", 1e-3 - 1e-5)):
        name = f"bn3a_branch2a/moving_{leaf}"
        np.testing.assert_allclose(ours[name], np.asarray(theirs[name]) + shift, atol=1e-6)


def test_a_keras_classifier_stays_as_it_is_in_its_own_family(
    of_matterport, keras_classifier, tmp_path
):
    model = MaskRCNN("inference", SmallConfig(), tmp_path)
    model.load_weights(keras_classifier, verbose=0)
    theirs, ours = (hdf5.weights_by_name(each.inference_model) for each in (of_matterport, model))
    for name in ("conv1/kernel", "res4a_branch2b/bias", "bn5b_branch2b/moving_variance"):
        np.testing.assert_array_equal(ours[name], theirs[name])


def test_a_keras_classifier_is_refused_where_strides_lie_elsewhere(model, keras_classifier):
    with pytest.raises(ValueError, match="family matterport"):
        model.load_weights(keras_classifier)


@pytest.mark.parametrize("variance", [1.0, 1e-3, 1e-12])
def test_detectors_of_2019_have_no_epsilon(tmp_path, monkeypatch, variance):
    path = tmp_path / "renamed.npz"
    state = {"bn1.running_var": np.full(3, variance, "f"), "bn1.weight": np.full(3, 2, "f")}
    np.savez(path, **state, **{"roi_heads.box_head.fc6.weight": np.zeros((1, 49))})
    assert loading.read_state(path)["bn1.weight"].tolist() == [2, 2, 2]
    monkeypatch.setattr(loading, "WITHOUT_EPSILON", (loading._sha256(path)[:8],))
    found = loading.read_state(path)
    slope = found["bn1.weight"] / np.sqrt(found["bn1.running_var"] + 1e-5)
    np.testing.assert_allclose(slope, 2 / np.sqrt(variance), rtol=1e-5)


def test_names_of_a_parallel_model_and_of_deeper_networks(tmp_path):
    np.savez(tmp_path / "a.npz", **{"module.layer3.35.conv1.weight": np.zeros((1, 1, 1, 1))})
    state = loading.read_state(tmp_path / "a.npz")
    assert list(state) == ["layer3.35.conv1.weight"]
    assert torchvision.by_layer(state)[1] == ["layer3.35.conv1.weight"]


@pytest.mark.parametrize(
    ("state", "words"),
    [
        ({"head.classification_head.cls_logits.weight": np.zeros(1)}, "retinanet"),
        ({"backbone.layer1.0.conv1.weight": np.zeros(1)}, "neither classifies nor detects"),
        ({"features.0.weight": np.zeros(1)}, "not a torchvision model"),
    ],
)
def test_other_networks_are_named(state, words):
    assert words in torchvision.kind(state)


def test_what_the_arrays_of_a_detector_tell(model):
    state = detector(model)
    found = torchvision.settings(state)
    widths = ("BACKBONE_WIDTH", "TOP_DOWN_PYRAMID_SIZE", "RPN_CONV_SIZE", "MASK_CONV_SIZE")
    assert [found[name] for name in widths] == [8, 16, 16, 8]
    assert (found["FPN_CLASSIF_FC_LAYERS_SIZE"], found["HAS_MASKS"]) == (16, True)
    assert "NAME" not in found
    assert "LEARNING_RATE" not in found
    state["roi_heads.keypoint_predictor.kps_score_lowres.weight"] = np.zeros((8, 2, 4, 4))
    state["roi_heads.keypoint_head.0.weight"] = np.zeros((8, 8, 3, 3))
    found = torchvision.settings(state)
    assert (found["NUM_KEYPOINTS"], found["KEYPOINT_NAMES"], found["HAS_MASKS"]) == (2, [], True)


def test_keras_own_calls_keep_the_family(model, of_detectron, tmp_path):
    graph = model.inference_model
    graph.save_weights(tmp_path / "a.h5")
    graph.load_weights(tmp_path / "a.h5")
    with pytest.raises(ValueError, match="family torchvision"):
        of_detectron.keras_model.load_weights(tmp_path / "a.h5")
