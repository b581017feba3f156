"""`mrcnn check`: a report on an annotated dataset, as text or JSON."""

import argparse
import json
import sys
import textwrap
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mrcnn import presets
from mrcnn.cli import check_pictures, common, datasets, train_settings
from mrcnn.data import check as doctor
from mrcnn.data.annotated import AnnotatedDataset
from mrcnn.data.problems import SEVERITIES, Finding
from mrcnn.data.suggest import Advice
from mrcnn.setting_values import parse_setting

SHOWN = 3  # cases shown per kind; --json has all of them
WIDTH = 100
TITLES = {"error": "ERRORS", "warning": "WARNINGS", "info": "GOOD TO KNOW"}


def add_options(command: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    command.add_argument("dataset", metavar="DATASET", help=datasets.WITH_PARTS)
    command.add_argument("--images", metavar="DIR", help="its images (default: looked for nearby)")
    command.add_argument("--val", metavar="DATASET", help="the validation set, if not in DATASET")
    command.add_argument("--val-images", metavar="DIR", help="images of the validation set")
    command.add_argument(
        "--pictures", metavar="OUT", help="folder for pictures of the images, the worst first"
    )
    command.add_argument(
        "--most",
        type=common.positive,
        default=check_pictures.MOST,
        metavar="N",
        help="the number of pictures (default: %(default)s)",
    )
    command.add_argument("--json", action="store_true", help="print the report as JSON")
    datasets.add_options(command)
    train_settings.add_preset(command)
    common.add_settings(command)


def run(options: argparse.Namespace) -> int:
    """Check an annotated dataset for faults, and suggest settings."""
    settings = common.chosen_settings(options, {})
    recipe = presets.NAMED.get(options.preset, presets.ModernConfig)
    config = recipe.from_dict({"NAME": "mrcnn", **settings})
    loaded, findings = _load(options, settings)
    if "training" in loaded:
        findings += doctor.check(
            loaded["training"],
            loaded.get("validation"),
            train_settings.limits(config, options.preset),
            fixed=common.stated_settings(options).keys(),
            progress=common.progress,
        )
    if options.pictures:
        seed = settings.get("SEED", 0)
        count = check_pictures.write(Path(options.pictures), loaded, findings, options.most, seed)
        page = Path(options.pictures) / check_pictures.INDEX
        print(f"{_number(count, 'picture')}: see {page}", file=sys.stderr)
    if options.json:
        print(json.dumps(_content(loaded, findings), indent=1, default=str))
    else:
        print(_report(loaded, findings))
    return int(any(finding.severity == "error" for finding in findings))


def summary(findings: Sequence[Finding]) -> list[str]:
    """Return one line per kind of error or warning."""
    kinds = _kinds([finding for finding in findings if finding.severity != "info"])
    return [f"{each[0]}{_more(each, 1)}" for each in kinds]


def _load(
    options: argparse.Namespace, settings: dict[str, Any]
) -> tuple[dict[str, AnnotatedDataset], list[Finding]]:
    """Return the datasets that can be read, and findings on why the others cannot."""
    if options.val_images and not options.val:
        raise ValueError("--val-images needs --val")
    for path in filter(None, (options.dataset, options.val)):
        if not Path(path).exists():
            raise FileNotFoundError(f"{path}: there is no such file or folder")
    found = datasets.parts_of(options, settings)
    if len(found) == 1:  # whatever part it is, it can be looked at
        found = {"train": next(iter(found.values()))}
    sources = {"training": datasets.chosen_part(found, "train", options.dataset)}
    if options.val:
        sources["validation"] = datasets.source(
            options, options.val, options.val_images, settings, "val"
        )
    elif "val" in found:
        sources["validation"] = found["val"]
    return doctor.load_parts_for_check(sources)


def _report(loaded: dict[str, AnnotatedDataset], findings: list[Finding]) -> str:
    lines = [_summary(dataset, part) for part, dataset in loaded.items()]
    settings = [finding for finding in findings if finding.code == doctor.SUGGESTION]
    for severity in SEVERITIES:
        found = [each for each in findings if each.severity == severity and each not in settings]
        if found:
            lines += ["", TITLES[severity]]
        for each in _kinds(found):
            lines += _entry(each)
    if settings:
        lines += ["", "SETTINGS THAT mrcnn train CHOOSES (--set changes them)"]
        advice = {
            name: Advice(value, finding.remedy)
            for finding in settings
            for name, value in [parse_setting(finding.message)]
        }
        lines += common.table(advice)
    counts = Counter(finding.severity for finding in findings)
    lines += ["", f"{_number(counts['error'], 'error')}, {_number(counts['warning'], 'warning')}"]
    return "\n".join(lines).lstrip("\n")


def _summary(dataset: AnnotatedDataset, part: str) -> str:
    names = dataset.class_names[1:]
    shown = ", ".join(names[: doctor.LISTED]) + (", ..." if len(names) > doctor.LISTED else "")
    return (
        f"{part}: {_number(dataset.num_images, 'image')}, {_num_objects(dataset)} objects, "
        f"{_number(len(names), 'class', 'classes')} ({shown}), read as {dataset.format}"
    )


def _number(count: int, one: str, many: str = "") -> str:
    return f"{count} {one if count == 1 else many or one + 's'}"


def _num_objects(dataset: AnnotatedDataset) -> int | str:
    try:
        return dataset.num_objects
    except ValueError:
        return "?"


def _kinds(findings: Sequence[Finding]) -> list[list[Finding]]:
    """Return findings grouped by kind, and by dataset if there are two."""
    kinds: dict[Any, list[Finding]] = {}
    for finding in findings:
        kinds.setdefault((finding.part, finding.severity, finding.code), []).append(finding)
    return list(kinds.values())


def _entry(findings: list[Finding]) -> list[str]:
    first = findings[0]
    part = f", {first.part}" if first.part else ""
    count = f" ({len(findings)}{part})" if len(findings) > 1 or part else ""
    lines = [f"  {first.code}{count}"]
    for finding in findings[:SHOWN]:
        lines += textwrap.wrap(
            str(finding),
            WIDTH,
            initial_indent="    ",
            subsequent_indent="      ",
            break_long_words=False,
            break_on_hyphens=False,
        )
    if len(findings) > SHOWN:
        lines.append(f"    ... and {len(findings) - SHOWN} more")
    if first.remedy:
        lines.append(f"    -> {first.remedy}")
    return lines


def _more(findings: list[Finding], shown: int) -> str:
    more = len(findings) - shown
    return f" (and {more} more like it)" if more > 0 else ""


def _content(loaded: dict[str, AnnotatedDataset], findings: list[Finding]) -> dict[str, Any]:
    suggested = [each for each in findings if each.code == doctor.SUGGESTION]
    return {
        "sets": {
            part: {
                "format": dataset.format,
                "images": dataset.num_images,
                "objects": _num_objects(dataset),
                "classes": dataset.class_names[1:],
            }
            for part, dataset in loaded.items()
        },
        "findings": [each.to_dict() for each in findings if each not in suggested],
        "settings": dict(parse_setting(each.message) for each in suggested),
    }
