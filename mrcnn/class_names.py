"""What names a class: the full text that a file has, compared alike by all that read and score."""

import unicodedata
from collections.abc import Iterable, Mapping
from typing import Any

# What programs call the background. Class 0 of every network is it.
BACKGROUND = ("bg", "background", "_background_", "__background__")
# What tools write for it among the classes; nobody names a class so.
MARKS = ("_background_", "__background__")


def text_of(name: Any, class_id: Any) -> str:
    """Return the name of a class as text: numbers are written out, no name becomes one.

    Raises:
        ValueError: it is a list, or another thing that is no text.
    """
    if name is None or (isinstance(name, str) and not name.strip()):
        return f"class {class_id}"
    if not isinstance(name, str | int | float):
        raise ValueError(f"class {class_id} has a name that is no text: {str(name)[:80]}")
    return str(name).strip()


def is_mark(name: str) -> bool:
    """Tell whether a name stands for the background, whatever has it."""
    return name.strip().lower() in MARKS


def may_be_background(name: str) -> bool:
    """Tell whether a class of this name is the background if nothing is outlined as it."""
    return name.strip().lower() in BACKGROUND


def matched(names: Iterable[str], known: Iterable[str]) -> Mapping[str, str]:
    """Return the known name of each that is one of them, however accents are stored."""
    exact = set(known)
    by_form = {unicodedata.normalize("NFC", name): name for name in exact}
    found = {}
    for name in names:
        form = unicodedata.normalize("NFC", name)
        if name in exact or form in by_form:
            found[name] = name if name in exact else by_form[form]
    return found
