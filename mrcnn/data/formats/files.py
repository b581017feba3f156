"""What the readers share: texts and JSON with good errors, listings of folders, names of sets."""

import gc
import json
import os
import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from os import PathLike
from pathlib import Path
from typing import Any

from mrcnn.geometry import image_files

LARGEST_SIDE = 1_000_000  # pixels
MOST_PIXELS = 2**31  # of a stated size: RLE counts in 32 bits
LISTED = 3  # names of files that are passed over, so many are shown

# What systems and programs leave in folders, beside names that begin with a dot.
SYSTEM_NAMES = {
    "__macosx",
    "thumbs.db",
    "ehthumbs.db",
    "desktop.ini",
    "@eadir",
    "$recycle.bin",
    "system volume information",
    "lost+found",
}
HIDDEN = "hidden or system names"
FOREIGN = "of no image format"
IRREGULAR = "no regular files"
# Names of folders that tell a part of a set, or a kind of file, but not what is to be seen.
_PARTS = {"train", "val", "valid", "validation", "test", "dev"}
_KINDS = {
    "image",
    "images",
    "img",
    "annotations",
    "labels",
    "masks",
    "data",
    "dataset",
    "json",
    "via",
}


@dataclass
class Listing:
    """The images of a folder, and what is there beside them.

    Attributes:
        images: by path.
        passed_over: names of other files, by the reason.
    """

    images: list[Path] = field(default_factory=list)
    passed_over: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))

    def summary(self) -> str:
        """Return a line that says what was passed over, "" if nothing was."""
        parts = []
        for reason, names in self.passed_over.items():
            more = ", ..." if len(names) > LISTED else ""
            parts.append(f"{len(names)} {reason} ({', '.join(sorted(names)[:LISTED])}{more})")
        return f"passed over: {'; '.join(parts)}" if parts else ""


def list_images(folder: Path, *, recursive: bool = False) -> Listing:
    """Return the images of a folder: regular files of the suffixes that are decoded.

    Names that are hidden or the system's are passed over, folders named like images too.

    Args:
        folder: a folder that can be read.
        recursive: the folders inside as well; each is entered once, whatever links lead there.
    """
    listing = Listing()
    for path, reason in _walk(folder, recursive):
        if not reason and path.suffix.lower() not in image_files.SUFFIXES:
            reason = FOREIGN
        if reason:
            listing.passed_over[reason].append(path.name)
        else:
            listing.images.append(path)
    listing.images.sort()
    return listing


def list_files(folder: Path, *suffixes: str) -> list[Path]:
    """Return the regular files of a folder with one of these suffixes, by name, none hidden."""
    if not folder.is_dir():
        return []
    walk = _walk(folder, recursive=False)
    return sorted(path for path, reason in walk if not reason and path.suffix.lower() in suffixes)


def list_folders(folder: Path) -> list[Path]:
    """Return the folders in a folder, by name, none hidden."""
    if not folder.is_dir():
        return []
    return sorted(path for path in folder.iterdir() if path.is_dir() and not is_system(path.name))


def is_system(name: str) -> bool:
    """Tell whether a file or folder of this name is no part of a set: hidden, or the system's."""
    return name.startswith(".") or name.casefold() in SYSTEM_NAMES


def same_name(name: str) -> str:
    """Return a name in the spelling that equal names share, however letters and case are stored."""
    return unicodedata.normalize("NFC", name).casefold()


@contextmanager
def without_collection() -> Iterator[None]:
    """Leave out the search for cycles: among a million new objects it takes half of the time."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


def read_text(path: str | PathLike) -> str:
    """Return a text file: UTF-8 with or without its mark, else Latin-1, as old tools write.

    Raises:
        ValueError: there is no such file, or it is binary.
    """
    if not Path(path).is_file():
        raise ValueError(f"{path}: there is no such file")
    content = Path(path).read_bytes()
    if content.startswith((b"\xff\xfe", b"\xfe\xff")):
        try:
            return content.decode("utf-16")
        except UnicodeDecodeError as error:
            raise ValueError(f"{path} is no text file: {error.reason}") from error
    if b"\0" in content:
        raise ValueError(f"{path} is no text file")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError:
        return content.decode("latin-1")


def read_json(path: str | PathLike) -> Any:
    """Return the content of a JSON file.

    Raises:
        ValueError: it is no JSON; with line and column.
    """
    try:
        return json.loads(read_text(path))
    except json.JSONDecodeError as error:
        hint = " (a comma too many before it?)" if "trailing" in error.msg.lower() else ""
        hint = hint or (" (a comma too many?)" if "property name" in error.msg else "")
        raise ValueError(
            f"{path} is no JSON: {error.msg} at line {error.lineno}, column {error.colno}{hint}"
        ) from error
    except RecursionError as error:
        raise ValueError(f"{path} is no JSON: it is nested too deeply") from error


def stated_size(height: Any, width: Any) -> tuple[int, int] | None:
    """Return the size of an image (H, W) as annotations state it; None: the picture tells.

    Tools write 0, -1 or nothing for images that were never opened.

    Raises:
        ValueError: it is none.
    """
    if height in (None, "") or width in (None, ""):
        return None
    try:
        size = int(float(height)), int(float(width))
    except (TypeError, ValueError, OverflowError) as error:
        raise ValueError(f"states no size, but {height!r} x {width!r}") from error
    if min(size) < 1:
        return None
    if max(size) > LARGEST_SIDE or size[0] * size[1] > MOST_PIXELS:
        raise ValueError(f"states a size of {size[0]} x {size[1]}, larger than any image")
    return size


def descriptive_name(folder: Path) -> str:
    """Return the name of the nearest folder upward that tells what a set shows, "object" if none.

    It names the class of objects that have none: `balloon/train` is about balloons.
    """
    for part in (folder.resolve(), *folder.resolve().parents):
        words = {word.lower() for word in re.findall("[A-Za-z]+", part.name)}
        if words and not words & _PARTS and not words <= _KINDS:
            return part.name
    return "object"


def _walk(folder: Path, recursive: bool) -> Iterator[tuple[Path, str]]:
    """Yield the files of a folder with the reason why they are no part of a set, "" if they are."""
    pending, entered = [folder], set()
    while pending:
        folder = pending.pop()
        status = os.stat(folder)
        if (status.st_dev, status.st_ino) in entered:
            continue
        entered.add((status.st_dev, status.st_ino))
        with os.scandir(folder) as entries:
            for entry in entries:
                reason, inside = _judge(entry, recursive)
                if inside:
                    pending.append(folder / entry.name)
                elif reason is not None:
                    yield folder / entry.name, reason


def _judge(entry: os.DirEntry, recursive: bool) -> tuple[str | None, bool]:
    """Return why an entry is passed over and whether to enter it; "": it is part of the set."""
    if is_system(entry.name):
        return HIDDEN, False
    try:
        if entry.is_dir():
            looks_like_image = Path(entry.name).suffix.lower() in image_files.SUFFIXES
            return (IRREGULAR if looks_like_image else None), recursive
        return ("" if entry.is_file() else IRREGULAR), False
    except OSError:  # a link that leads nowhere, or round in a circle
        return IRREGULAR, False
