"""Loads weight files that nobody should have written: HDF5, .npz, .safetensors, PyTorch's.

    python hostile_weights.py [COUNT [SEED]]

writes at most COUNT of them (all) into a new folder, loads each in one process whose memory is
limited, and says which were not refused in one line; what is read of other files; how much memory
was taken. Exit status 1 where anything was.
"""

import contextlib
import io
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import hostile_arrays
import hostile_hdf5
import hostile_pickles
import numpy as np
import sets

SECRET = b"the secret of another file, which no weight file may lead to"
MOST_MEMORY = 1 << 30  # bytes above those of the process
MOST_TIME = 20.0  # seconds of computing for a file
# A group that contains itself has nothing more in it; what a file lacks is reported.
HARMLESS = ("cycle.h5", "group for numbers.h5")
# What is wrong with these is in a layer that a training on other classes starts anew.
NOT_READ_BY_TRAIN = " for numbers.h5"


def prepare(folder: Path, model: Any, seed: int = 0) -> dict[str, Callable[[Path], None]]:
    """Write what the files are made of, with a network's weights; return what writes each."""
    from mrcnn.weights import hdf5

    canary, secret, good = folder / "canary.bin", folder / "canary.h5", folder / "good.h5"
    canary.write_bytes(SECRET * 100)
    with h5py.File(secret, "w") as file:
        file["secret"] = np.frombuffer((SECRET * 4)[:192], "<f4").reshape(16, 3)
    settings = {"config": model.config.to_dict(), "epoch": 1}
    state = {"iterations": np.array(1), "conv1.kernel:SGD.momentum": np.ones((7, 7, 3, 8), "f")}
    hdf5.save(good, model.inference_model, settings, state)
    (folder / "files").mkdir()
    rng = np.random.default_rng(seed)
    return {
        **dict(hostile_hdf5.files(good, canary, secret, rng)),
        **dict(hostile_arrays.npz_files(rng)),
        **dict(hostile_arrays.safetensors_files()),
        **dict(hostile_pickles.files(rng)),
    }


def load(path: Path, model: Any) -> dict[str, np.ndarray]:
    """Read all that this package can read of a file; return what the network has then."""
    from mrcnn.config import Config
    from mrcnn.weights import catalog, hdf5, loading

    config = Config.from_dict({"NAME": "hostile", **catalog.settings(path, path)})
    config.check()
    loading.recipe(path)
    loading.load(path, model.inference_model, config=model.config)
    state = hdf5.read_optimizer(path) if path.suffix == ".h5" else {}
    weights = hdf5.weights_by_name(model.inference_model)
    return {**state, **{key: np.asarray(weight) for key, weight in weights.items()}}


def _peak() -> int:
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) << 10


def _outcome(path: Path, call: Callable[[], Any], opened: list[str]) -> dict[str, Any]:
    """Call, and return what came of it, how long it took, and how much memory."""
    opened.clear()
    Path("/proc/self/clear_refs").write_text("5")
    before, start = _peak(), time.process_time()
    found: dict[str, Any] = {"name": path.name}
    try:
        arrays = call()
        found["kind"] = "loaded"
        held = (np.asarray(array).tobytes() for array in arrays.values())
        found["leaks"] = any(SECRET[:16] in content for content in held)
    except (ValueError, FileNotFoundError) as error:
        found |= {"kind": "refused", "text": str(error)}
    except BaseException as error:
        found |= {"kind": "fault", "text": f"{type(error).__name__}: {error}"}
    places = (path, path.parents[1] / "work", path.parents[1] / "set", Path(__file__).parents[1])
    allowed = (*map(str, places), sys.prefix, sys.base_prefix, "/usr", "/proc", "/dev/null")
    # The second names temporary files; the third says how much memory the container has.
    allowed = (*allowed, "/etc/machine-id", "/sys/fs/cgroup")
    found["others"] = [
        name for name in opened if not name.startswith(allowed) and not os.path.isdir(name)
    ]
    return found | {"memory": _peak() - before, "seconds": time.process_time() - start}


def _command(words: list[str]) -> dict[str, np.ndarray]:
    """Run the command; raise what tells how it ended."""
    from mrcnn import cli

    shown = io.StringIO()
    with contextlib.redirect_stderr(shown), contextlib.redirect_stdout(io.StringIO()):
        status = cli.main(words)
    lines = shown.getvalue().strip().splitlines()
    if status == 2 and len(lines) == 1:
        raise ValueError(lines[0])
    if status:
        raise RuntimeError(f"status {status}, {lines[:3]}")
    return {}


def work(folder: Path) -> None:
    """Load every file of a folder in this process, and print an outcome a line, as JSON."""
    from small import SmallConfig
    from test_loading import SmallTorchvision

    from mrcnn.model import MaskRCNN

    ours, theirs = (
        MaskRCNN("inference", config(), folder / "logs")
        for config in (SmallConfig, SmallTorchvision)
    )
    opened: list[str] = []

    def note(event: str, arguments: tuple) -> None:
        if event == "open" and isinstance(arguments[0], str | bytes):
            opened.append(os.fsdecode(arguments[0]))

    sys.addaudithook(note)
    size = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (size + 4 * MOST_MEMORY,) * 2)
    os.chdir(folder / "work")
    for place, path in enumerate(sorted((folder / "files").iterdir())):
        model = ours if path.suffix == ".h5" else theirs
        print(json.dumps({"name": path.name, "kind": "begun"}), flush=True)
        print(json.dumps(_outcome(path, lambda p=path, m=model: load(p, m), opened)), flush=True)
        words = _verb(place, str(path), folder)
        found = _outcome(path, lambda w=words: _command(w), opened)
        print(json.dumps({**found, "command": words[0]}), flush=True)


def _verb(place: int, path: str, folder: Path) -> list[str]:
    """Return a command that loads a file, each in its turn."""
    work, annotations = folder / "work", str(folder / "set" / "a.json")
    verbs = (
        ["convert", path, str(work / "out.h5")],
        ["evaluate", "--annotations", annotations, "--weights", path],
        ["detect", str(folder / "set" / "a.png"), "--weights", path, "--output", str(work / "out")],
        ["train", "--train", annotations, "--weights", path, "--logs", str(work / "logs")]
        + ["--epochs", "1", "--steps", "1"],
    )
    return verbs[place % len(verbs)]


def problems(outcomes: list[dict[str, Any]]) -> list[str]:
    """Return what is wrong with outcomes, in words."""
    wrong = []
    finished = {each["name"] for each in outcomes if each["kind"] != "begun"}
    for each in outcomes:
        name, text = each["name"], each.get("text", "")
        if each["kind"] == "begun":
            if name not in finished:
                wrong.append(f"{name}: the process ended")
            continue
        what = f"{name}{' by ' + each['command'] if 'command' in each else ''}"
        is_allowed = name in HARMLESS or (
            each.get("command") == "train" and name.endswith(NOT_READ_BY_TRAIN)
        )
        if each["kind"] == "fault" or (each["kind"] == "loaded" and not is_allowed):
            wrong.append(f"{what}: {each['kind']} {text:.200}")
        if "\n" in text or len(text) > 2_000 or "\x1b" in text:
            wrong.append(f"{what}: no single line: {text!r:.200}")
        if each.get("leaks") or each.get("others"):
            wrong.append(f"{what}: read {each.get('others') or 'the secret'}")
        if each["memory"] > MOST_MEMORY or each["seconds"] > MOST_TIME:
            wrong.append(f"{what}: {each['memory'] >> 20} MB, {each['seconds']:.1f} s")
    return wrong


def run(folder: Path, count: int | None = None, seed: int = 0) -> tuple[list[dict], list[str]]:
    """Write files and load them in a process of its own; return outcomes and problems."""
    from small import SmallConfig

    from mrcnn.model import MaskRCNN

    made = prepare(folder, MaskRCNN("inference", SmallConfig(), folder / "logs"), seed)
    chosen = np.random.default_rng(seed).permutation(sorted(made))[:count]
    for name in chosen:
        made[name](folder / "files" / name)
    (folder / "work").mkdir()
    (folder / "set").mkdir()
    sets.coco(folder / "set" / "a.json")
    sets.picture(folder / "set" / "a.png")
    here = Path(__file__).parent
    environment = {**os.environ, "PYTHONPATH": f"{here.parent}:{here}", "TF_CPP_MIN_LOG_LEVEL": "3"}
    command = [sys.executable, __file__, "--work", str(folder)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    outcomes = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    wrong = problems(outcomes)
    if done.returncode:
        wrong.append(f"the process ended with {done.returncode}: {done.stderr[-2_000:]}")
    made = {path.name for path in folder.rglob("*") if "files" not in path.parts}
    if left := sorted(made & {"RAN", "evil"} | {name for name in made if "evil" in name}):
        wrong.append(f"files were made: {left}")
    if len({each["name"] for each in outcomes}) < len(chosen):
        wrong.append(f"{len(chosen)} files were made, {len(outcomes)} lines came back")
    return outcomes, wrong


if __name__ == "__main__":
    if sys.argv[1:2] == ["--work"]:
        work(Path(sys.argv[2]))
        sys.exit()
    numbers = [int(word) for word in sys.argv[1:]]
    with tempfile.TemporaryDirectory() as name:
        outcomes, wrong = run(Path(name), *numbers)
    loads = [each for each in outcomes if each["kind"] != "begun" and not each.get("command")]
    refused = sum(each["kind"] == "refused" for each in loads)
    memory = max(each["memory"] for each in loads) >> 20
    print(
        f"{len(loads)} files, {refused} refused; at most {memory} MB, "
        f"{max(each['seconds'] for each in loads):.1f} s for one"
    )
    print("\n".join(wrong) or "nothing wrong")
    sys.exit(bool(wrong))
