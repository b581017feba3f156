import pytest

from mrcnn import files


def test_file_takes_its_place_when_written(tmp_path):
    target = tmp_path / "new folder" / "scores.json"
    with files.replacing(target) as partial:
        partial.write_text("whole")
        assert not target.exists()
        assert partial.suffix == ".json"
    assert [path.name for path in target.parent.iterdir()] == ["scores.json"]
    assert target.read_text() == "whole"


def test_failure_leaves_the_older_file_and_nothing_else(tmp_path):
    target = tmp_path / "scores.json"
    target.write_text("old")

    def write():
        with files.replacing(target) as partial:
            partial.write_text("half")
            raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        write()
    assert [path.name for path in tmp_path.iterdir()] == ["scores.json"]
    assert target.read_text() == "old"
