"""The `mrcnn` command: demo, check, train, detect, evaluate, convert.

Exit status 0: success; 2: wrong usage or input; 1: failure; 130, 143, 129: ended by Ctrl-C,
SIGTERM, SIGHUP. TensorFlow is imported only when a network is needed.
"""

import argparse
import logging
import os
import sys
import warnings
from collections.abc import Sequence

import mrcnn
from mrcnn.cli import check, common, convert, demo, detect, evaluate, train


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit status."""
    if sys.stderr is None:  # a daemon, or a program without a console
        sys.stderr = open(os.devnull, "w")  # noqa: SIM115 (for the whole run)
    options = _parser().parse_args(arguments)
    logging.basicConfig(format="%(levelname)s: %(message)s", stream=sys.stderr)
    # Decoders log damaged files without their names; the commands name each file.
    logging.getLogger("tifffile").setLevel(logging.CRITICAL)
    warnings.filterwarnings("ignore", module="PIL")
    return common.run_command(options, f"mrcnn {options.command}")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="mrcnn", description="Mask R-CNN: find objects in images, with a mask for each."
    )
    parser.add_argument("--version", action="version", version=f"mrcnn {mrcnn.__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for module in (demo, check, train, detect, evaluate, convert):
        run = module.run
        name = module.__name__.rpartition(".")[2]
        command = commands.add_parser(name, help=run.__doc__, description=run.__doc__)
        command.set_defaults(run=run)
        module.add_options(command)
    return parser
