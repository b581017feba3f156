"""Shared by the commands and by `samples/`: exit statuses, argument types, progress."""

import argparse
import json
import math
import signal
import sys
import time
from collections.abc import Iterable, Iterator, Mapping, Sized
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import yaml

from mrcnn import files, terminal
from mrcnn.config import Config
from mrcnn.data.suggest import Advice
from mrcnn.greetings import hidden as quiet_start
from mrcnn.setting_values import parse_setting

__all__ = ["quiet_start"]  # around the first import of what needs TensorFlow
if TYPE_CHECKING:
    from mrcnn.mask_rcnn import MaskRCNN

INTERRUPTED = 128 + signal.SIGINT  # the shells' convention
LARGEST_CONFIG = 2**20  # bytes: settings take a few thousand
LINE_EVERY = 30  # seconds between progress lines without a terminal


def run_command(options: argparse.Namespace, name: str) -> int:
    """Call `options.run(options)` and return its exit status; errors become one line on stderr.

    Args:
        options: with a function `run`, whose None counts as 0.
        name: of the command, for that line.

    Returns:
        2 for wrong usage or input (ValueError, a missing file or folder), 1 for failures
        (RuntimeError, any other OSError), 130 for Ctrl-C. Other exceptions are bugs and are
        raised.
    """
    terminal.make_tolerant()
    try:
        return options.run(options) or 0
    except KeyboardInterrupt:
        print("Interrupted", file=sys.stderr)
        return INTERRUPTED
    except (ValueError, FileNotFoundError, NotADirectoryError) as error:
        print(f"{name}: {_without_number(error)}", file=sys.stderr)
        return 2
    except (RuntimeError, OSError) as error:
        print(f"{name}: {error}", file=sys.stderr)
        return 1


def _without_number(error: Exception) -> str:
    """Return the message of an error without its errno."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror + (f": {error.filename}" if error.filename else "")
    return str(error)


def positive(text: str) -> int:
    """Argument type: an integer of at least 1."""
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"it must be at least 1, got {number}")
    return number


def above_zero(text: str) -> float:
    """Argument type: a number above 0."""
    number = float(text)
    if not 0 < number < math.inf:
        raise argparse.ArgumentTypeError(f"it must be above 0, got {number:g}")
    return number


def fraction(text: str) -> float:
    """Argument type: a number from 0 to 1."""
    number = float(text)
    if not 0 <= number <= 1:
        raise argparse.ArgumentTypeError(f"it must be from 0 to 1, got {number:g}")
    return number


def add_settings(command: argparse.ArgumentParser) -> None:
    """Add the options --config and --set, which `chosen_settings` reads."""
    command.add_argument(
        "--config", metavar="FILE", help="a YAML or JSON file of settings, NAME: VALUE"
    )
    command.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        dest="settings",
        help="change a setting of mrcnn.config.Config; may be repeated",
    )


def stated_settings(
    options: argparse.Namespace, given: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """Return the settings of --config, of options of their own, and of --set; the last one counts.

    Args:
        given: settings that have an option of their own.

    Raises:
        ValueError: If a setting is not written NAME=VALUE, or the file is no mapping.
    """
    path = getattr(options, "config", None)  # programs have parsers of their own
    of_file = _settings_in(Path(path)) if path else {}
    return {**of_file, **(given or {}), **dict(map(parse_setting, options.settings))}


def chosen_settings(
    options: argparse.Namespace, before: dict[str, Any], given: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """Return the stated settings, with pixel settings adapted to the number of channels.

    If they change the number of channels without MEAN_PIXEL (or PIXEL_STD), further channels get
    the mean of the known ones, as do all channels if there are only one or two.

    Args:
        before: settings that are changed, such as those of a checkpoint.
        given: see `stated_settings`.

    Raises:
        ValueError: As `stated_settings`.
    """
    chosen = stated_settings(options, given)
    channels = chosen.get("IMAGE_CHANNEL_COUNT")
    for name in ("MEAN_PIXEL", "PIXEL_STD"):
        values = before.get(name, getattr(Config, name))
        if isinstance(channels, int) and name not in chosen and len(values) not in (1, channels):
            known = [float(value) for value in values] if channels > len(values) else []
            average = round(float(sum(values)) / len(values), 1)
            chosen[name] = known + [average] * (channels - len(known))
    return chosen


def _settings_in(path: Path) -> dict[str, Any]:
    """Return the settings in a YAML or JSON file, which is YAML, too.

    Raises:
        ValueError: If it cannot be read, or is no mapping from names to values.
    """
    if not path.is_file():
        raise ValueError(f"{path}: there is no such file of settings (--config)")
    if path.stat().st_size > LARGEST_CONFIG:
        raise ValueError(f"{path} is too large for a file of settings")
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8-sig"))
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError) as error:
        reason = " ".join(str(error).split())
        raise ValueError(f"{path} is neither YAML nor JSON: {reason}") from error
    if not isinstance(content, dict) or not all(isinstance(name, str) for name in content):
        raise ValueError(f"{path} must have a line NAME: VALUE for each setting")
    return content


def changed(config: type[Config], options: argparse.Namespace, **settings: Any) -> Config:
    """Return an instance with the given settings, overridden by those of --set.

    Raises:
        ValueError: If a name is not a setting.
    """
    before = {"MEAN_PIXEL": config.MEAN_PIXEL, "PIXEL_STD": config.PIXEL_STD}
    chosen = chosen_settings(options, before)
    return config.from_dict({**settings, **chosen})


def load_network(options: argparse.Namespace) -> "MaskRCNN":
    """Return the network for a weights file or name, in inference mode."""
    with quiet_start():
        from mrcnn.mask_rcnn import MaskRCNN
        from mrcnn.weights import catalog
    stored = catalog.settings(options.weights, catalog.resolve(options.weights, "logs"))
    return MaskRCNN.from_checkpoint(options.weights, **chosen_settings(options, stored))


def table(advice: Mapping[str, Advice]) -> list[str]:
    """Return a line for each setting: name, value, reason."""
    values = {name: str(each.value).replace(" ", "") for name, each in advice.items()}
    name_width, width = (max(map(len, column), default=0) for column in (values, values.values()))
    return [
        f"  {name:{name_width}}  {value:{width}}  {advice[name].reason}".rstrip()
        for name, value in values.items()
    ]


def progress(items: Iterable[Any], unit: str = "image", total: int | None = None) -> Iterator[Any]:
    """Yield the items, with a progress bar if stderr is a terminal, else with occasional lines.

    Args:
        total: The number of items, if they have no length.
    """
    if not sys.stderr.isatty():
        total = len(items) if total is None and isinstance(items, Sized) else total
        return _with_lines(items, unit, total)
    from tqdm import tqdm

    return iter(tqdm(items, unit=unit, total=total))


def _with_lines(items: Iterable[Any], unit: str, total: int | None) -> Iterator[Any]:
    started = said = time.monotonic()
    for done, item in enumerate(items):
        now = time.monotonic()
        if now - said >= LINE_EVERY:
            said, of_all = now, f" of {total}" if total is not None else ""
            print(f"{done}{of_all} {unit}s, {now - started:.0f} s", file=sys.stderr, flush=True)
        yield item


def at_least(found: dict[str, Any], score: float) -> dict[str, Any]:
    """Return the detections of one image with at least this score."""
    kept = np.flatnonzero(found["scores"] >= score)
    return {key: _chosen(key, rows, kept) for key, rows in found.items()}


def _chosen(key: str, rows: Any, kept: np.ndarray) -> Any:
    if isinstance(rows, list):  # RLE masks
        return [rows[place] for place in kept]
    return rows[..., kept] if key == "masks" else rows[kept]


def write_json(path: Path, content: Any) -> None:
    """Write a JSON file atomically; missing folders are created."""
    with files.replacing(path) as partial:
        partial.write_text(json.dumps(content, indent=1), encoding="utf-8")
