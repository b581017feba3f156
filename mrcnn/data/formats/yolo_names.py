"""The class names of a YOLO dataset, and the keypoint settings of its YAML file."""

from pathlib import Path
from typing import Any

from mrcnn import class_names as names_of_classes
from mrcnn.data.formats import files
from mrcnn.data.formats.yolo_set import LEVELS_UP, YoloSet, find_yaml, read_yaml

CLASS_LIST = "classes.txt"


def find_names(found: YoloSet) -> tuple[dict[int, str], int]:
    """Return the name of each class id, empty if there are none, and the number of pose values.

    A list of names next to the label files is equivalent to a YAML file; the nearest is used.

    Raises:
        ValueError: If they cannot be read, or are ambiguous.
    """
    path = find_yaml(found)
    listing = _class_list(found.home)
    if path is not None and (listing is None or len(listing.parents) <= len(path.parents)):
        content = read_yaml(path)
        return read_names(path) if "names" in content else {}, keypoint_values(content)
    if listing is None:
        return {}, 0
    lines = files.read_text(listing).splitlines()
    return {place: line.strip() for place, line in enumerate(lines) if line.strip()}, 0


def read_names(path: Path) -> dict[int, str]:
    """Return the name of each class id in a YAML file.

    Raises:
        ValueError: If there is no `names`, or it is neither a list nor a mapping from numbers.
    """
    content = read_yaml(path)
    if "names" not in content:
        raise ValueError(f"{path} has no names")
    names = content["names"]
    if isinstance(names, list):
        names = dict(enumerate(names))
    if not isinstance(names, dict) or not names:
        raise ValueError(f"{path}: names must be a list or a mapping from numbers")
    try:
        return {int(number): _text(name, number) for number, name in names.items()}
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"{path}: names must be a list or a mapping from numbers: {error}"
        ) from error


def keypoint_values(content: dict[str, Any]) -> int:
    """Return how many keypoint values follow the box in each line; 0 without poses."""
    shape = content.get("kpt_shape")
    try:
        count, values = (int(each) for each in shape or (0, 0))
    except (TypeError, ValueError):
        return 0
    return max(0, count * values)


def _text(name: Any, number: Any) -> str:
    if not isinstance(name, str):
        raise ValueError(f"the name of class {number} is no text")
    return names_of_classes.text_of(name, number)


def _class_list(home: Path) -> Path | None:
    folders = (home, *home.parents[:LEVELS_UP])
    return next((each for f in folders if (each := f / CLASS_LIST).is_file()), None)
