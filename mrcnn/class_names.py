"""Class names: the full string in the file, compared the same way by readers and evaluation."""

import unicodedata
from collections.abc import Iterable, Mapping
from typing import Any

# Common names of the background, which is class 0 of every network.
BACKGROUND = ("bg", "background", "_background_", "__background__")
# Names that annotation tools give the background; no real class is called that.
MARKS = ("_background_", "__background__")


def text_of(name: Any, class_id: Any) -> str:
    """Return the name of a class as a string: numbers are converted, a missing name is made up.

    Raises:
        ValueError: It is a list or anything else that is not a string.
    """
    if name is None or (isinstance(name, str) and not name.strip()):
        return f"class {class_id}"
    if not isinstance(name, str | int | float):
        raise ValueError(f"class {class_id} has a name that is not a string: {str(name)[:80]}")
    return str(name).strip()


def is_mark(name: str) -> bool:
    """Return whether a name always denotes the background."""
    return name.strip().lower() in MARKS


def may_be_background(name: str) -> bool:
    """Return whether a class of this name is the background if it has no objects."""
    return name.strip().lower() in BACKGROUND


def matched(names: Iterable[str], known: Iterable[str]) -> Mapping[str, str]:
    """Map each name to the known name it equals after Unicode normalization."""
    exact = set(known)
    by_form = {unicodedata.normalize("NFC", name): name for name in exact}
    found = {}
    for name in names:
        form = unicodedata.normalize("NFC", name)
        if name in exact or form in by_form:
            found[name] = name if name in exact else by_form[form]
    return found
