"""What the readers share: texts and JSON with good errors, folders of images, names of classes."""

import json
import re
from collections.abc import Iterable, Sequence
from os import PathLike
from pathlib import Path, PurePosixPath
from typing import Any

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".webp", ".gif", ".pgm", ".ppm")
LARGEST_SIDE = 1_000_000  # pixels
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


def read_text(path: str | PathLike) -> str:
    """Return a text file: UTF-8 with or without its mark, else Latin-1, as old tools write.

    Raises:
        ValueError: there is no such file, or it is binary.
    """
    try:
        content = Path(path).read_bytes()
    except (FileNotFoundError, IsADirectoryError) as error:
        raise ValueError(f"{path}: there is no such file") from error
    if b"\0" in content and not content.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise ValueError(f"{path} is no text file")
    if content.startswith((b"\xff\xfe", b"\xfe\xff")):
        return content.decode("utf-16")
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


def stated_size(height: Any, width: Any) -> tuple[int, int]:
    """Return the size of an image (H, W) as annotations state it.

    Raises:
        ValueError: it is none.
    """
    try:
        size = int(height), int(width)
    except (TypeError, ValueError, OverflowError) as error:
        raise ValueError(f"states no size, but {height!r} x {width!r}") from error
    if min(size) < 1 or max(size) > LARGEST_SIDE:
        raise ValueError(f"states a size of {size[0]} x {size[1]}")
    return size


def images_in(folder: Path) -> list[Path]:
    """Return the image files of a folder, by name."""
    return sorted(path for path in folder.iterdir() if path.suffix.lower() in IMAGE_SUFFIXES)


class ImageFolder:
    """Finds the files that annotations name; the folder is listed once.

    Args:
        path: the folder.
    """

    def __init__(self, path: str | PathLike) -> None:
        self.path = Path(path)
        names = [entry.name for entry in self.path.iterdir()] if self.path.is_dir() else []
        self._names = set(names)
        self._by_lower_case = {name.lower(): name for name in names}
        self._by_stem = {
            Path(name).stem: name for name in names if Path(name).suffix.lower() in IMAGE_SUFFIXES
        }

    def find(self, names: Iterable[str]) -> str | None:
        """Return the path of the first of several names that exists, None if none does.

        Paths of other machines count by their last part; letter case is the last resort.
        """
        for name in names:
            relative = PurePosixPath(str(name).replace("\\", "/"))
            if relative.name in self._names and len(relative.parts) == 1:
                return str(self.path / relative.name)
            if not relative.is_absolute() and (self.path / relative).is_file():
                return str(self.path / relative)
            found = self._by_lower_case.get(relative.name.lower())
            if found:
                return str(self.path / found)
        return None

    def find_stem(self, stem: str) -> str | None:
        """Return the path of the image with this name before its suffix."""
        name = self._by_stem.get(stem)
        return str(self.path / name) if name else None


def image_folder(file: Path, names: Sequence[Sequence[str]]) -> ImageFolder:
    """Return the folder near an annotation file that holds the images it names.

    The file's own folder and its `images` come first, if they hold any. Then the neighbours of the
    folder, and the folders in any `images`, if they hold most: other parts of a set often have
    images of the same names. The file's own where nothing is found.

    Args:
        file: with the annotations.
        names: of each image, those that its file may have.
    """
    here, above = file.resolve().parent, file.resolve().parent.parent
    sample = names[:20]

    def count(folder: ImageFolder) -> int:
        return sum(folder.find(each) is not None for each in sample)

    own = [ImageFolder(here), ImageFolder(here / "images")]
    if any(map(count, own)):
        return max(own, key=count)
    near = [*_folders(above), *_folders(above / "images"), *_folders(here / "images")]
    best = max(map(ImageFolder, near), key=count)
    return best if 2 * count(best) > len(sample) else own[0]


def descriptive_name(folder: Path) -> str:
    """Return the name of the nearest folder upward that tells what a set shows, "object" if none.

    It names the class of objects that have none: `balloon/train` is about balloons.
    """
    for part in (folder.resolve(), *folder.resolve().parents):
        words = {word.lower() for word in re.findall("[A-Za-z]+", part.name)}
        if words and not words & _PARTS and not words <= _KINDS:
            return part.name
    return "object"


def _folders(path: Path) -> list[Path]:
    return sorted(entry for entry in path.iterdir() if entry.is_dir()) if path.is_dir() else []
