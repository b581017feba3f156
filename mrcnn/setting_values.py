"""Values of settings: from a command line, from JSON, to JSON."""

import ast
import math
from collections.abc import Mapping
from typing import Any

import numpy as np

FUNCTION = "a function of the program"  # how a file represents a setting that is one


def parse_setting(text: str) -> tuple[str, Any]:
    """Return name and value of a "NAME=VALUE" string; the value is a Python literal or a word.

    Raises:
        ValueError: If the string has no "=".
    """
    name, separator, value = text.partition("=")
    if not separator or not name:
        raise ValueError(f"a setting is written NAME=VALUE, got {text!r}")
    try:
        return name.strip(), ast.literal_eval(value.strip())
    except (ValueError, SyntaxError):
        return name.strip(), value.strip()


def plain(value: Any) -> Any:
    """Return a value in a form that JSON can represent; for a function, a description."""
    if callable(value):
        name = f"{getattr(value, '__module__', '')}.{getattr(value, '__qualname__', value)}"
        return f"{FUNCTION} ({name})"
    if isinstance(value, np.ndarray | np.generic):
        return value.tolist()
    return list(value) if isinstance(value, tuple) else value


def is_function(value: Any) -> bool:
    """Return whether a setting is a function, or the string that describes one."""
    return callable(value) or (isinstance(value, str) and value.startswith(FUNCTION))


def like(name: str, default: Any, value: Any) -> Any:
    """Return a value in the default's container type: JSON has neither tuples nor arrays.

    Args:
        name: of the setting, for messages.

    Raises:
        ValueError: If its type is incompatible with the default's.
    """
    if isinstance(default, np.ndarray):
        try:
            return np.atleast_1d(np.asarray(value, np.float64))
        except (TypeError, ValueError):
            raise ValueError(f"{name} must be numbers such as {default}, got {value!r}") from None
    if isinstance(default, list | tuple):
        if not isinstance(value, list | tuple):
            raise ValueError(f"{name} must be a list such as {list(default)}, got {value!r}")
        return type(default)(value)
    if isinstance(default, dict) and isinstance(value, Mapping):
        return {**default, **value}
    if default is False:
        return _truth_like(name, value)
    if isinstance(default, bool | float | int):
        return _number_like(name, default, value)
    return value


def whole(name: str, value: Any) -> int:
    """Return an integer, which may be given as a float or a NumPy number.

    Raises:
        ValueError: If it is not a whole number.
    """
    number = _as_float(value)
    if not number.is_integer():
        raise ValueError(f"{name} must be a whole number, got {value!r}")
    return int(number)


def rate(name: str, value: Any) -> float:
    """Return a learning rate, which may be a NumPy number.

    Raises:
        ValueError: If it is not a number of at least 0.
    """
    number = _as_float(value)
    if not (math.isfinite(number) and number >= 0):
        raise ValueError(f"{name} must be a number such as 0.001, got {value!r}")
    return number


def positive(name: str, value: Any, *, whole_number: bool = False) -> float:
    """Return a number above 0, which may be a NumPy number.

    Raises:
        ValueError: If it is not, or not a whole number where that is asked for.
    """
    number = _as_float(value)
    if not (math.isfinite(number) and number > 0) or (whole_number and not number.is_integer()):
        kind = "a whole number" if whole_number else "a number"
        raise ValueError(f"{name} must be {kind} above 0, got {value!r}")
    return int(number) if whole_number else number


def _as_float(value: Any) -> float:
    try:
        return float(value)
    except (TypeError, ValueError):
        return math.nan


def _truth_like(name: str, value: Any) -> Any:
    words = {"true": True, "false": False, "none": None}
    if isinstance(value, str) and value.lower() not in words:
        raise ValueError(f"{name} must be True or False, got {value!r}")
    return words[value.lower()] if isinstance(value, str) else value


def _number_like(name: str, default: float, value: Any) -> Any:
    if value is None:
        return None
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, bool) or not isinstance(value, int | float):
        if isinstance(default, bool) and isinstance(value, bool):
            return value
        raise ValueError(f"{name} must be a number such as {default}, got {value!r}")
    return float(value) if isinstance(default, float) else value
