"""Ends trainings by signals at random moments, and compares what comes of them with unbroken ones.

    python tests/ends.py 60
    python tests/ends.py 8 compiled     # by tf.function, whose tracing takes most of the time

A process of `mrcnn train` gets SIGKILL, SIGTERM, SIGINT or SIGHUP, some of them while it writes a
checkpoint, and `--weights last` goes on in a new process, until the run is at its end; then the
next run begins, until there were so many ends. Every loss of every step must be that of a run that
nothing ended, to the last bit, and so must the weights; the status must be that of the signal; and
one folder is left, without partial files, whose table is the same but for the minutes.
"""

import os
import random
import signal
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf
from test_cli import small_settings, write_set

from mrcnn import cli, files, mask_rcnn
from mrcnn.cli import train_results
from mrcnn.network import backbones
from mrcnn.network.backbones import resnet
from mrcnn.training import distribution, results, training_model
from mrcnn.weights import hdf5

EPOCHS, STEPS = 4, 5
SIGNALS = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
STATUSES = {
    signal.SIGKILL: -signal.SIGKILL,
    signal.SIGTERM: 143,
    signal.SIGINT: 130,
    signal.SIGHUP: 129,
}
LINES = "lines.txt"  # what the processes of a run saw, one line a step or epoch


def train(lines: Path, pause: float, mode: str, arguments: list[str]) -> int:
    """Run the command in one thread, slowly, with a line for every step; return its status."""
    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    replace = os.replace

    def replace_slowly(old: str, new: str) -> None:
        if str(new).endswith(".h5"):
            time.sleep(5 * pause)
        replace(old, new)

    files.os.replace = replace_slowly
    backbones.BACKBONES["resnet18"] = resnet.ResNet((1, 1, 1, 1), resnet.basic_block)
    compile_model = training_model.TrainingModel.compile
    if mode == "eager":
        training_model.TrainingModel.compile = lambda self, *args, **options: compile_model(
            self, *args, run_eagerly=True, **options
        )
    distribution.loggers = lambda _: [Lines(lines, pause)]
    # Whether an epoch is scored depends on the time, which is not repeated.
    mask_rcnn.MaskRCNN._scorer = lambda *_: None
    train_results.finish = lambda *_: None
    return cli.main(arguments)


class Lines(keras.callbacks.Callback):
    """Writes a line for every step and every epoch, with the rate and the losses."""

    def __init__(self, path: Path, pause: float) -> None:
        super().__init__()
        self.path, self.pause = path, pause

    def on_epoch_begin(self, epoch, logs=None):
        del logs
        self.epoch = epoch

    def on_train_batch_end(self, batch, logs=None):
        self.write(f"step {self.epoch * STEPS + batch}", logs)

    def on_epoch_end(self, epoch, logs=None):
        self.write(f"epoch {epoch}", logs)

    def write(self, what: str, logs: dict[str, float]) -> None:
        rate = float(keras.ops.convert_to_numpy(self.model.optimizer.learning_rate))
        values = [f"{name}={value!r}" for name, value in sorted(logs.items())]
        with open(self.path, "a") as file:
            file.write(f"{what} | rate={rate!r} {' '.join(values)}\n")
        time.sleep(self.pause)


class Process:
    """A copy of this process, which has imported TensorFlow but not used it yet.

    Args:
        run: What it does; it returns the status.
        output: Where its output goes.
    """

    def __init__(self, run: Callable[[], int], output: Path) -> None:
        self.status: int | None = None
        self.pid = os.fork()
        if self.pid:
            return
        # Shells let what runs in the background ignore them.
        signal.signal(signal.SIGINT, signal.default_int_handler)
        signal.signal(signal.SIGHUP, signal.SIG_DFL)
        status = 70  # an exception, whose traceback is in the output
        try:
            for stream in (1, 2):
                os.dup2(os.open(output, os.O_WRONLY | os.O_CREAT | os.O_APPEND), stream)
            status = run()
        except SystemExit as error:
            status = int(error.code or 0)
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            os._exit(status)

    def poll(self) -> int | None:
        """Return the status of a process that has ended, negative where a signal killed it."""
        if self.status is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            self.status = os.waitstatus_to_exitcode(status) if pid else None
        return self.status

    def wait(self) -> int:
        """Wait for the end and return the status."""
        while self.poll() is None:
            time.sleep(0.01)
        return self.status

    def kill(self, number: signal.Signals) -> None:
        """Send a signal, unless the process has ended."""
        if self.poll() is None:
            os.kill(self.pid, number)


@dataclass
class Run:
    """A run in a folder of logs, and the ends of its processes."""

    folder: Path
    annotations: Path
    mode: str  # "eager" or "compiled"
    pause: float
    ends: Counter = field(default_factory=Counter)

    @property
    def logs(self) -> Path:
        return self.folder / "logs"

    def checkpoints(self) -> list[Path]:
        return list(self.logs.rglob("mask_rcnn_*.h5"))

    def partials(self) -> set[Path]:
        return set(self.logs.rglob(".mrcnn-*.h5"))

    def lines(self) -> list[str]:
        path = self.folder / LINES
        return path.read_text().splitlines() if path.exists() else []

    def start(self) -> Process:
        """Start a process that begins the run, or goes on with it."""
        self.folder.mkdir(parents=True, exist_ok=True)
        images = self.annotations.parent / "images"
        weights = "last" if self.checkpoints() else "none"
        options = ["--train", self.annotations, "--images", images]
        options += ["--val", self.annotations, "--val-images", images, "--logs", self.logs]
        options += ["--weights", weights, "--epochs", EPOCHS, "--steps", STEPS]
        options += [*small_settings(), "--set", "WORKERS=1", "--set", "LEARNING_RATE_DROPS=[2]"]
        options += ["--set", "WARMUP_STEPS=5", "--set", "IMAGES_PER_GPU=2"]
        options += ["--set", "CHECKPOINT_STEPS=3", "--keep", "all"]
        arguments = [str(option) for option in ["train", *options]]
        return Process(
            lambda: train(self.folder / LINES, self.pause, self.mode, arguments),
            self.folder / "output.txt",
        )

    def end(self, chance: random.Random, number: signal.Signals) -> bool:
        """Start a process and end it by a signal; return whether the run came to its end before."""
        if not self.checkpoints() and self.logs.exists():  # killed in the first epoch
            for path in self.logs.iterdir():
                path.rename(self.folder / f"abandoned-{len(list(self.folder.iterdir()))}")
        abandoned = self.partials()  # by a process that was killed
        process = self.start()
        moment = "while writing" if chance.random() < 0.3 else "in a step"
        known, steps = len(self.lines()), chance.randint(1, STEPS - 1)
        while process.poll() is None:
            is_writing = bool(self.partials() - abandoned)
            has_run = len(self.lines()) >= known + steps
            if is_writing if moment == "while writing" else has_run:
                break
            time.sleep(0.005)
        time.sleep(chance.uniform(0, 2 * self.pause))
        process.kill(number)
        if number != signal.SIGKILL and chance.random() < 0.3:
            time.sleep(chance.uniform(0, self.pause))
            process.kill(number)  # of someone who cannot wait
            moment += ", twice"
        status = process.wait()
        if status == 0:
            return True
        assert status == STATUSES[number], f"{status} after {number.name} {moment}"
        self.ends[f"{number.name} {moment}"] += 1
        return False


def check(run: Run, unbroken: Run) -> int:
    """Compare a run that is at its end with an unbroken one; return how many lines were equal."""
    expected = dict(line.split(" | ") for line in unbroken.lines())
    seen = [line.split(" | ") for line in run.lines()]
    for name, values in seen:
        assert values == expected[name], f"{name}: {values} instead of {expected[name]}"
    assert {name for name, _ in seen if name.startswith("step")} == {
        name for name in expected if name.startswith("step")
    }
    (folder,) = run.logs.iterdir()
    names = sorted(path.name for path in folder.rglob("*") if path.is_file())
    checkpoints = [f"mask_rcnn_small_{epoch:04d}.h5" for epoch in range(1, EPOCHS + 1)]
    assert names == [".started", "config.json", *checkpoints, "results.csv"], names
    rows, expected_rows = (
        {row.pop("epoch"): row for row in results.read(path)}
        for path in (folder, next(unbroken.logs.iterdir()))
    )
    assert rows.keys() == expected_rows.keys()
    for epoch, row in rows.items():  # without losses, if its validation was interrupted
        del row["minutes"]
        assert row.items() <= expected_rows[epoch].items()
    last, of_unbroken = (max(each.checkpoints()) for each in (run, unbroken))
    for read in (hdf5.read, hdf5.read_optimizer):
        found, wanted = read(last), read(of_unbroken)
        assert found.keys() == wanted.keys()
        assert all(np.array_equal(found[key], wanted[key]) for key in found)
    return len(seen)


def finish(run: Run) -> None:
    """Let a run come to its end."""
    status = run.start().wait()
    assert status == 0, (run.folder / "output.txt").read_text()


def main(
    count: int, folder: Path, mode: str = "eager", seed: int = 0, pause: float = 0.1
) -> dict[str, int]:
    """End trainings `count` times; return how often which signal came when."""
    chance = random.Random(seed)
    annotations = write_set(folder / "set")
    unbroken = Run(folder / "unbroken", annotations, mode, 0)
    finish(unbroken)
    total: Counter = Counter()
    while total["ends"] < count:
        run = Run(folder / f"run{total['runs']}", annotations, mode, pause)
        is_done = False
        while not is_done and total["ends"] + run.ends.total() < count:
            is_done = run.end(chance, SIGNALS[(total["ends"] + run.ends.total()) % len(SIGNALS)])
        if not is_done:
            finish(run)
        total["lines that are equal"] += check(run, unbroken)
        total.update(run.ends, ends=run.ends.total(), runs=1)
        print(dict(total), flush=True)
    return dict(total)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as temporary:
        main(int(sys.argv[1]), Path(temporary), *sys.argv[2:3])
