import tempfile
from pathlib import Path

import keras
import pytest
from small import SmallConfig

from mrcnn.network import network as networks
from mrcnn.weights import catalog, complete, download, hdf5


@pytest.fixture(autouse=True)
def own_cache(monkeypatch, tmp_path):
    monkeypatch.setenv("MRCNN_HOME", str(tmp_path / "cache"))


def test_published_names_are_downloaded_into_the_cache(monkeypatch, tmp_path):
    fetched = []
    monkeypatch.setattr(download, "fetch", lambda *arguments: fetched.append(arguments))
    catalog.resolve("imagenet", tmp_path)
    ((url, path, expected),) = fetched
    assert path == tmp_path / "cache" / url.rpartition("/")[2]
    assert expected.md5 == catalog.PUBLISHED["imagenet"].md5


@pytest.mark.parametrize(
    ("variables", "folder"),
    [
        ({"MRCNN_HOME": "/mine", "XDG_CACHE_HOME": "/shared"}, "/mine"),
        ({"XDG_CACHE_HOME": "/shared"}, "/shared/mrcnn"),
        ({"XDG_CACHE_HOME": "relative", "HOME": "/home/me"}, "/home/me/.cache/mrcnn"),
        ({"XDG_CACHE_HOME": "", "HOME": "/home/me"}, "/home/me/.cache/mrcnn"),
        ({"MRCNN_HOME": "~/weights", "HOME": "/home/me"}, "/home/me/weights"),
    ],
)
def test_the_cache_is_where_the_user_says(monkeypatch, variables, folder):
    for name in ("MRCNN_HOME", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert catalog.cache() == Path(folder)


def test_files_without_a_checksum_are_checked_layer_by_layer(tmp_path):
    config = SmallConfig.from_dict({"NAME": "published"})
    model = networks.Network(config).inference
    path = tmp_path / "weights.h5"
    hdf5.save(path, model, {})
    complete.check_layers(path, config)
    with pytest.raises(ValueError, match=r"other shapes.* mrcnn_bbox_fc/kernel, \(16, 12\), not"):
        complete.check_layers(path, config.replace(NUM_CLASSES=4, CLASS_NAMES=()))
    heads = keras.Model(model.inputs, model.get_layer("rpn_class").output)
    hdf5.save(tmp_path / "first_stage.h5", heads, {})
    with pytest.raises(ValueError, match=r"\d+ weights are missing, mrcnn_"):
        complete.check_layers(tmp_path / "first_stage.h5", config)
    (tmp_path / "cut.h5").write_bytes(path.read_bytes()[:5000])
    with pytest.raises(ValueError, match="cannot be read"):
        complete.check_layers(tmp_path / "cut.h5", config)
    assert catalog.PUBLISHED["coco"].expected.check.keywords["config"].NUM_CLASSES == 81


def test_published_files_can_be_checked():
    published = catalog.PUBLISHED.values()
    assert all(source.size or source.md5 or source.sha256 for source in published)


def test_bundled_names_stand_for_files_of_the_package(tmp_path):
    assert catalog.resolve("nuclei", tmp_path) == catalog.ASSETS / "mask_rcnn_nuclei.h5"


def test_paths_stand_for_themselves(tmp_path):
    path = tmp_path / "mine.h5"
    path.touch()
    assert catalog.resolve(path, tmp_path) == path
    assert catalog.resolve(str(path), tmp_path) == path


def test_an_unknown_word_is_answered_with_the_known_ones(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"nuclei, coco, imagenet, .*last.*nothing\.h5"):
        catalog.resolve("nothing.h5", tmp_path)


def test_a_user_without_a_folder_downloads_to_that_of_temporary_files(monkeypatch):
    def fail():
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(catalog.Path, "home", fail)
    assert str(catalog._home()) == tempfile.gettempdir()


def test_weights_for_coco_come_with_its_81_classes(tmp_path):
    settings = catalog.settings("coco", tmp_path / "unread.h5")
    names, ids = settings["CLASS_NAMES"], settings["CATEGORY_IDS"]
    assert settings["NUM_CLASSES"] == len(names) == len(ids) == 81
    assert (names[0], names[1], names[80]) == ("BG", "person", "toothbrush")
    assert (ids[0], ids[1], ids[80]) == (0, 1, 90)
