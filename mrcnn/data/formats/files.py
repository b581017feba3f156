"""Shared by the readers: text and JSON files with good errors, folder listings, dataset names."""

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
MOST_PIXELS = 2**31  # limit of a stated size: RLE counts have 32 bits
LISTED = 3  # maximum number of skipped file names shown

# Files that systems and programs leave in folders, besides dot files.
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
# Folder names that denote a part of a dataset, or a kind of file, but not its subject.
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
    """The images of a folder, and its other files.

    Attributes:
        images: by path.
        passed_over: names of skipped files, by reason.
    """

    images: list[Path] = field(default_factory=list)
    passed_over: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))

    def summary(self) -> str:
        """Return a line that says what was skipped; "" if nothing was."""
        parts = []
        for reason, names in self.passed_over.items():
            more = ", ..." if len(names) > LISTED else ""
            parts.append(f"{len(names)} {reason} ({', '.join(sorted(names)[:LISTED])}{more})")
        return f"passed over: {'; '.join(parts)}" if parts else ""


def list_images(folder: Path, *, recursive: bool = False) -> Listing:
    """Return the images of a folder: regular files with supported suffixes.

    Hidden and system names are skipped, as are folders named like images.

    Args:
        folder: a readable folder.
        recursive: include subfolders; each is entered once, whatever links lead there.
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
    """Return the regular, visible files of a folder with one of these suffixes, sorted by name."""
    if not folder.is_dir():
        return []
    walk = _walk(folder, recursive=False)
    return sorted(path for path, reason in walk if not reason and path.suffix.lower() in suffixes)


def list_folders(folder: Path) -> list[Path]:
    """Return the visible subfolders of a folder, sorted by name."""
    if not folder.is_dir():
        return []
    return sorted(path for path in folder.iterdir() if path.is_dir() and not is_system(path.name))


def is_system(name: str) -> bool:
    """Return whether a file or folder name is hidden or the system's, so not part of a dataset."""
    return name.startswith(".") or name.casefold() in SYSTEM_NAMES


def same_name(name: str) -> str:
    """Normalize a name's Unicode form and letter case."""
    return unicodedata.normalize("NFC", name).casefold()


@contextmanager
def without_collection() -> Iterator[None]:
    """Disable garbage collection, which takes half of the time for a million new objects."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


def read_text(path: str | PathLike) -> str:
    """Read a text file: UTF-8 with or without BOM, else Latin-1, as written by old tools.

    Raises:
        ValueError: If there is no such file, or it is binary.
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
        ValueError: If it is not JSON; with line and column.
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
    """Return the size of an image (H, W) as stated in annotations; None: that of the file.

    Tools write 0, -1 or nothing for images that were never opened.

    Raises:
        ValueError: If it is not a size.
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
    """Return the nearest folder name upward that describes a dataset's subject, or "object".

    It names the class of objects without one: `balloon/train` contains balloons.
    """
    for part in (folder.resolve(), *folder.resolve().parents):
        words = {word.lower() for word in re.findall("[A-Za-z]+", part.name)}
        if words and not words & _PARTS and not words <= _KINDS:
            return part.name
    return "object"


def _walk(folder: Path, recursive: bool) -> Iterator[tuple[Path, str]]:
    """Yield the files of a folder, each with the reason to skip it, or ""."""
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
    """Return why an entry is skipped ("" if it is not), and whether to enter it."""
    if is_system(entry.name):
        return HIDDEN, False
    try:
        if entry.is_dir():
            looks_like_image = Path(entry.name).suffix.lower() in image_files.SUFFIXES
            return (IRREGULAR if looks_like_image else None), recursive
        return ("" if entry.is_file() else IRREGULAR), False
    except OSError:  # a broken or circular link
        return IRREGULAR, False
