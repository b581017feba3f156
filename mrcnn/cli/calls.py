"""The commands as functions: `mrcnn.train("balloon", minutes=10)`."""

import argparse
import json
from os import PathLike
from typing import TYPE_CHECKING, Any, NoReturn

from mrcnn import setting_values
from mrcnn.cli import train as training

if TYPE_CHECKING:
    from mrcnn.mask_rcnn import MaskRCNN


class _Options(argparse.ArgumentParser):
    """A parser that raises ValueError where the command would print its usage and exit."""

    def error(self, message: str) -> NoReturn:
        raise ValueError(message)


def train(dataset: str | PathLike[str], **options: Any) -> "MaskRCNN":
    """Train on annotated images as `mrcnn train DATASET` does; return the best network.

    Args:
        dataset: A folder or an annotation file; its parts are found, or it is split.
        options: The options of the command, such as `minutes=10` or `weights="coco"`, and settings
            of `mrcnn.config.Config`, such as `IMAGE_MAX_DIM=512`.

    Returns:
        The network with the best weights of the run, whose folder is `run.folder`.

    Raises:
        ValueError: If there is no such option, or a value or the data are wrong.
    """
    parser = _Options(prog="train")
    training.add_options(parser)
    return training.train(parser.parse_args([str(dataset), *_arguments(options)]))


def _arguments(options: dict[str, Any]) -> list[str]:
    """Return keyword arguments as the command's arguments; names in capitals are settings."""
    arguments = []
    for name, value in options.items():
        if name.isupper():
            text = value if isinstance(value, str) else json.dumps(setting_values.plain(value))
            arguments += ["--set", f"{name}={text}"]
        elif value is not None:
            arguments.append(f"--{name.replace('_', '-')}={value}")
    return arguments
