import pytest

from mrcnn.weights import catalog, runs


def make_run(folder, name: str, *epochs: int):
    """Make the folder of a training run with empty checkpoints; return it."""
    run = folder / name
    run.mkdir(parents=True)
    for epoch in epochs:
        (run / f"mask_rcnn_{name[:-13]}_{epoch:04d}.h5").touch()
    return run


def test_last_is_the_newest_checkpoint_of_the_newest_run(tmp_path):
    make_run(tmp_path, "cells20240101T0000", 1, 2, 30)
    newest = make_run(tmp_path, "cells20240301T0000", 1, 2)
    make_run(tmp_path, "cells20240201T0000", 40)
    assert catalog.resolve("last", tmp_path, "Cells") == newest / "mask_rcnn_cells_0002.h5"


def test_epoch_10000_is_after_epoch_9999(tmp_path):
    run = make_run(tmp_path, "cells20240101T0000", 9999, 10000, 1)
    assert runs.last_checkpoint(tmp_path, "cells") == run / "mask_rcnn_cells_10000.h5"


def test_an_interrupted_epoch_is_after_the_finished_one_before_it(tmp_path):
    run = make_run(tmp_path, "cells20240101T0000", 2, 3)
    interrupted = run / "mask_rcnn_cells_0003_interrupted.h5"
    interrupted.touch()
    assert runs.last_checkpoint(tmp_path, "cells") == interrupted
    (run / "mask_rcnn_cells_0004.h5").touch()
    assert runs.last_checkpoint(tmp_path, "cells").name == "mask_rcnn_cells_0004.h5"


def test_a_name_that_begins_alike_is_another_one(tmp_path):
    run = make_run(tmp_path, "cell20240101T0000", 1)
    make_run(tmp_path, "cells20240301T0000", 5)
    assert runs.last_checkpoint(tmp_path, "cell").parent == run


def test_without_a_name_any_run_counts(tmp_path):
    make_run(tmp_path, "zebras20240101T0000", 1)
    run = make_run(tmp_path, "cells20240301T0000", 5)
    assert runs.last_checkpoint(tmp_path).parent == run


def test_a_run_without_checkpoint_is_skipped(tmp_path):
    run = make_run(tmp_path, "cells20240101T0000", 3)
    make_run(tmp_path, "cells20240301T0000")
    assert runs.last_checkpoint(tmp_path, "cells").parent == run


def test_other_folders_and_files_are_no_runs(tmp_path):
    make_run(tmp_path, "cellsnotes", 3)
    (tmp_path / "cells20240301T0000").touch()
    with pytest.raises(FileNotFoundError, match=r"no run of 'cells' in /.*; run this where"):
        runs.last_checkpoint(tmp_path, "cells")


def test_runs_without_any_checkpoint_are_an_error(tmp_path):
    make_run(tmp_path, "cells20240301T0000")
    with pytest.raises(FileNotFoundError, match=r"no checkpoint in /.*cells20240301T0000"):
        runs.last_checkpoint(tmp_path, "cells")


def test_the_folder_of_a_run_stands_for_its_newest_checkpoint(tmp_path):
    run = make_run(tmp_path, "cells20240101T0000", 3, 12)
    for folder in (run, tmp_path):
        assert catalog.resolve(folder, "elsewhere") == run / "mask_rcnn_cells_0012.h5"


def test_a_folder_without_checkpoint_is_an_error_that_names_it(tmp_path):
    with pytest.raises(FileNotFoundError, match="the folder holds no checkpoint") as error:
        catalog.resolve(tmp_path, "elsewhere")
    assert error.value.filename == str(tmp_path)


def test_a_missing_folder_is_an_error_that_names_it(tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere"):
        runs.last_checkpoint(tmp_path / "nowhere", "cells")
