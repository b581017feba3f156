"""`mrcnn convert`: converts weights of other programs to a checkpoint of this package."""

import argparse
from pathlib import Path

from mrcnn.cli import common

MOST_NAMES = 8  # number of layers that a message lists


def add_options(command: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    command.add_argument(
        "weights",
        metavar="SRC",
        help="a .pth, .npz or .safetensors file of torchvision, an .h5 file of Matterport, or the "
        "name of published weights, such as torchvision-v2",
    )
    command.add_argument("output", metavar="OUT.h5", help="the checkpoint to write")
    common.add_settings(command)


def run(options: argparse.Namespace) -> int:
    """Convert weights of other programs to a checkpoint that includes its settings."""
    output = Path(options.output)
    if output.suffix != ".h5":
        raise ValueError(f"{output}: a checkpoint is an .h5 file")
    model = common.load_network(options)
    report = model.load_report
    if report.missing:
        lacking = list(dict.fromkeys(name.partition("/")[0] for name in report.missing))
        raise ValueError(
            f"{report.path}: the network would be incomplete, so nothing was written: "
            f"{len(report.missing)} weights are missing from the file, of the layers "
            f"{', '.join(lacking[:MOST_NAMES])}{', ...' if len(lacking) > MOST_NAMES else ''}"
        )
    model.save(output)
    config = model.config
    print(f"Wrote {output}: {len(report.loaded)} weights of the family {config.CONVENTIONS}")
    print(f"{config.BACKBONE}, {config.NUM_CLASSES} classes, including background")
    for name in report.skipped:
        print(f"not part of this network, so left out: {name}")
    return 0
