"""What `mrcnn train` leaves in the folder of a run when it has ended."""

import math
from typing import TYPE_CHECKING

from mrcnn.cli import common, datasets

if TYPE_CHECKING:
    from mrcnn.mask_rcnn import MaskRCNN

REPORT = "report.html"


def finish(model: "MaskRCNN", data: datasets.Loaded) -> None:
    """Take the best weights, write the report, and print where everything is.

    The weights of the last epoch stay where they are, in their checkpoint.
    """
    run = model.run
    last = run.checkpoint_path.format(epoch=run.epoch)
    print(f"\nCheckpoint: {last}")
    if data.validation is None:
        return
    if run.best_path.is_file():
        _take_best(model)
    with common.quiet_start():
        from mrcnn import report
    path = run.folder / REPORT
    report.write(
        path,
        model,
        data.validation,
        training=data.training,
        run_folder=run.folder,
        about={"Run": str(run.folder)},
        progress=common.progress,
    )
    print(f"Report: {path}")


def _take_best(model: "MaskRCNN") -> None:
    """Load the best weights of the run into its network, and print their scores."""
    from mrcnn.weights import hdf5

    path = model.run.best_path
    hdf5.load(path, model.network.inference)
    stored = hdf5.read_settings(path)
    scores = stored.get("scores") or {}
    figures = ", ".join(
        f"{name} {value:.3f}"
        for name, value in scores.items()
        if isinstance(value, float) and math.isfinite(value)
    )
    print(f"Best: {path} (epoch {stored.get('epoch')}: {figures})")
