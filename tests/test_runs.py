import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import h5py
import numpy as np
import pytest

from mrcnn.weights import catalog, hdf5_content, runs


def make_run(folder, name: str, *epochs: int):
    """Make the folder of a training run with small checkpoints; return it."""
    run = folder / name
    run.mkdir(parents=True)
    for epoch in epochs:
        write_checkpoint(run / f"mask_rcnn_{name[:-13]}_{epoch:04d}.h5")
    return run


def write_checkpoint(path):
    with h5py.File(path, "w") as file:
        file["conv1/conv1/kernel:0"] = np.arange(2000.0)
    return path


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
    write_checkpoint(interrupted)
    assert runs.last_checkpoint(tmp_path, "cells") == interrupted
    write_checkpoint(run / "mask_rcnn_cells_0004.h5")
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
    with pytest.raises(
        FileNotFoundError, match=r"no checkpoint that can be read in /.*cells20240301T0000"
    ):
        runs.last_checkpoint(tmp_path, "cells")


def test_the_folder_of_a_run_stands_for_its_newest_checkpoint(tmp_path):
    run = make_run(tmp_path, "cells20240101T0000", 3, 12)
    for folder in (run, tmp_path):
        assert catalog.resolve(folder, "elsewhere") == run / "mask_rcnn_cells_0012.h5"


def test_a_folder_without_checkpoint_is_an_error_that_names_it(tmp_path):
    with pytest.raises(FileNotFoundError, match="the folder has no checkpoint") as error:
        catalog.resolve(tmp_path, "elsewhere")
    assert error.value.filename == str(tmp_path)


def test_a_missing_folder_is_an_error_that_names_it(tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere"):
        runs.last_checkpoint(tmp_path / "nowhere", "cells")


def test_a_run_is_held_by_one_training(tmp_path):
    with runs.locked(tmp_path):
        second = runs.locked(tmp_path)
        with pytest.raises(runs.RunInUse, match="another training is writing to") as error:
            second.__enter__()
        assert str(tmp_path) in str(error.value)
        assert "another --logs" in str(error.value)
        with runs.locked(tmp_path.parent):
            pass
    with runs.locked(tmp_path):
        pass


def test_a_lock_dies_with_its_process(tmp_path):
    program = (
        "import sys, time; from pathlib import Path; from mrcnn.weights import runs\n"
        "with runs.locked(Path(sys.argv[1])):\n    print('locked', flush=True); time.sleep(60)"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program, tmp_path], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout.readline() == "locked\n"
        with pytest.raises(runs.RunInUse), runs.locked(tmp_path):
            pass
        process.kill()
    with runs.locked(tmp_path):
        pass


def test_threads_of_one_process_hold_runs_apart(tmp_path):
    with runs.locked(tmp_path), ThreadPoolExecutor(1) as executor:
        held = executor.submit(runs.locked(tmp_path).__enter__)
        with pytest.raises(runs.RunInUse):
            held.result()


def damage(path, how: str) -> None:
    content = path.read_bytes()
    contents = {
        "cut off": content[: len(content) // 2],
        "empty": b"",
        "of text": b"<html>404</html>",
    }
    path.write_bytes(contents[how])


@pytest.mark.parametrize("how", ["cut off", "empty", "of text"])
def test_last_passes_over_damaged_checkpoints_and_says_so(tmp_path, caplog, how):
    run = make_run(tmp_path, "cells20240101T0000", 1, 2, 3)
    damage(run / "mask_rcnn_cells_0003.h5", how)
    newest = run / "mask_rcnn_cells_0002.h5"
    assert runs.last_checkpoint(tmp_path, "cells") == newest
    assert catalog.resolve(run, "elsewhere") == newest
    assert len(caplog.messages) == 2
    assert (
        f"skipped a checkpoint that cannot be read: {run / 'mask_rcnn_cells_0003.h5'}"
        in caplog.text
    )


def test_weights_that_are_not_what_was_written_are_passed_over(tmp_path):
    run = make_run(tmp_path, "cells20240101T0000", 1, 2)
    path = run / "mask_rcnn_cells_0002.h5"
    with h5py.File(path, "a") as file:
        hdf5_content.seal(file)
        offset = file["conv1/conv1/kernel:0"].id.get_offset()
    assert runs.last_checkpoint(tmp_path) == path
    with open(path, "r+b") as file:
        file.seek(offset + 100)
        file.write(b"?")
    assert runs.last_checkpoint(tmp_path) == run / "mask_rcnn_cells_0001.h5"


def test_a_run_whose_checkpoints_are_all_damaged_is_passed_over(tmp_path):
    older = make_run(tmp_path, "cells20240101T0000", 1)
    run = make_run(tmp_path, "cells20240201T0000", 7)
    damage(run / "mask_rcnn_cells_0007.h5", "empty")
    assert runs.last_checkpoint(tmp_path).parent == older
