"""The folder of a training run, and the run's progress."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mrcnn import files
from mrcnn.training.course import Progress
from mrcnn.weights import hdf5, runs


class RunFolder:
    """Where a run writes its checkpoints, and the checkpoint from which it is resumed.

    Args:
        model_dir: Parent folder of the runs' folders, which are named NAME and start time.
        name: NAME of the settings.

    Attributes:
        epoch: number of finished epochs.
        folder: folder of this run.
        checkpoint_path: path of its checkpoints, with the field {epoch:04d}.
        resumed: the checkpoint that the next training resumes from; None for a new run.
        planned: the last epoch planned for the run; None if unknown.
        minutes, rate_factor: see `Progress`; of a run that goes on in the same program.
    """

    def __init__(self, model_dir: Path, name: str) -> None:
        self.model_dir, self.name = model_dir, name.lower()
        self.epoch = 0
        self.resumed: Path | None = None
        self.planned: int | None = None
        self._claimed: Path | None = None
        self.begin()

    def begin(self, checkpoint: Path | None = None) -> None:
        """Begin a new run, or resume a checkpoint's run if its path is in a run folder."""
        self.epoch, self.resumed, self.planned = 0, None, None
        self.minutes, self.rate_factor = 0.0, 1.0
        run = runs.run_of(checkpoint) if checkpoint else None
        if run:
            time, self.epoch = run
            self.folder = self.model_dir / f"{self.name}{time}"
        else:
            self.folder = runs.new_run(self.model_dir, self.name)
        if run and checkpoint and checkpoint.is_file():
            self.resumed, self._claimed = checkpoint, self.folder
        self.checkpoint_path = str(self.folder / f"mask_rcnn_{self.name}_{{epoch:04d}}.h5")

    @property
    def best_path(self) -> Path:
        """Of the best weights so far, without the optimizer's state."""
        return self.folder / runs.BEST

    def write_json(self, contents: Mapping[str, Any]) -> None:
        """Write files into the folder, for people and for later commands: name -> content."""
        for name, content in contents.items():
            files.write_json(self.folder / name, content)

    def claim(self) -> None:
        """Create the folder; a new run takes another name if this one is already in use."""
        while self.epoch == 0 and self.folder != self._claimed:
            try:
                runs.begin(self.folder)
            except FileExistsError:
                self.begin()
            else:
                self._claimed = self.folder
        runs.make_folder(self.folder)

    def progress(self, steps_per_epoch: int) -> Progress:
        """Return the run's progress according to the resumed checkpoint."""
        known = {
            "epochs": self.planned,
            "minutes": self.minutes,
            "rate_factor": self.rate_factor,
        }
        stored = hdf5.read_settings(self.resumed) if self.resumed else known
        return Progress.stored(self.epoch, stored, steps_per_epoch)
