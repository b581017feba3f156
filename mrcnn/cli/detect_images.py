"""The images that `mrcnn detect` processes: from folders and patterns, with unique ids."""

import glob
import os
from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any

from mrcnn.data.formats import files, image_lookup
from mrcnn.drawing import pictures
from mrcnn.geometry import image_files

SOFTWARE = "mrcnn detect"  # "Software" metadata of the visualizations
LONGEST_NAME = 255  # bytes, the limit of most file systems


@dataclass(frozen=True)
class Found:
    """An image to process.

    Attributes:
        path: path of the file.
        name: its path relative to the given folder, with slashes; else its file name.
        id: id of the image in the results.
    """

    path: Path
    name: str
    id: Any = None


def find(arguments: Sequence[str], output: Path) -> tuple[list[Found], list[str]]:
    """Return the images of files, folders and patterns, and notes on what was skipped.

    Args:
        arguments: in order; an image that several of them name is taken once.
        output: the folder of results, which are not images to process.

    Raises:
        ValueError: If a folder has no images.
        FileNotFoundError: If a name or pattern matches nothing.
    """
    found: dict[str, Found] = {}
    notes: list[str] = []
    for argument in arguments:
        for each in _of_argument(argument, output, notes):
            found.setdefault(os.path.abspath(each.path), each)
    return _with_ids(list(found.values())), notes


def with_ids_of(found: Sequence[Found], names: Mapping[Any, Sequence[str]]) -> list[Found]:
    """Return the images that the annotations list, with their ids there.

    Args:
        names: possible file names by image id of the annotations.

    Raises:
        ValueError: If there are none, or two images match the same entry of the annotations.
    """
    by_name: dict[str, list[tuple[PurePosixPath, Any]]] = {}
    for image_id, own_names in names.items():
        for name in own_names:
            path = PurePosixPath(name.replace("\\", "/"))
            by_name.setdefault(files.same_name(path.name), []).append((path, image_id))
    listed: dict[Any, tuple[int, Found]] = {}
    for each in found:
        chosen = _entry_of(each, by_name.get(files.same_name(each.path.name), []))
        if chosen is None:
            continue
        agreeing, (stated, image_id) = chosen
        before = listed.get(image_id)
        if before is not None and before[0] == agreeing:
            raise ValueError(
                f"{before[1].path} and {each.path} both match {stated} in the annotations: "
                f"give only one of them"
            )
        if before is None or before[0] < agreeing:
            listed[image_id] = agreeing, replace(each, id=image_id)
    if not listed:
        raise ValueError(
            f"none of the {len(found)} images is in the annotations: {found[0].name} is not"
        )
    return [each for _, each in listed.values()]


def _entry_of(
    found: Found, entries: Sequence[tuple[PurePosixPath, Any]]
) -> tuple[int, tuple[PurePosixPath, Any]] | None:
    """Return the entry of the annotations that matches an image, and how much of its path agrees.

    Folders in the annotations must be those of the image, except generic image folders; for paths
    of another machine only the last part counts.
    """
    fitting = []
    for entry in entries:
        stated = entry[0]
        if _ends_with(found.path, stated):
            fitting.append((len(stated.parts), entry))
        elif _may_be(found, stated):
            fitting.append((1, entry))
    most = max((agreeing for agreeing, _ in fitting), default=0)
    best = [each for each in fitting if each[0] == most]
    # Duplicate entries: the first is taken; several equally good matches: none.
    return best[0] if best and len({entry[0] for _, entry in best}) == 1 else None


def _may_be(found: Found, stated: PurePosixPath) -> bool:
    """Return whether an image may match an entry although its folders differ."""
    if image_lookup.is_of_elsewhere(str(stated)):
        return True
    if set(stated.parts[:-1]) <= image_lookup.SAY_NOTHING:
        return True
    parts = image_lookup.part_of(stated.parent.name), image_lookup.part_of(found.path.parent.name)
    return "/" not in found.name and (None in parts or parts[0] == parts[1])


def targets(found: Sequence[Found], output: Path, *, overwrite: bool) -> list[Path]:
    """Return the output path per image: names are unique, and no input image is overwritten.

    A file that was not written by `mrcnn detect` is kept; the visualization gets another name.

    Args:
        overwrite: whether visualizations of an earlier run may be replaced.

    Raises:
        ValueError: If there are some, and they may not.
    """
    taken = {_key(each.path) for each in found}
    folders = {output / folder for each in found for folder in PurePosixPath(each.name).parents}
    for folder in sorted(folders):
        if os.path.lexists(folder) and not folder.is_dir():
            raise ValueError(f"{folder} is a file, where a folder is needed: give another --output")
    taken |= {_key(folder) for folder in folders}
    chosen = []
    for each in found:
        folder, stem = output / Path(each.name).parent, Path(each.name).stem
        number = 1
        target = folder / _fitting(stem, ".png")
        while _key(target) in taken or _is_foreign(target):
            number += 1
            target = folder / _fitting(stem, f"_{number}.png")
        if target.exists() and not overwrite:
            raise ValueError(older(output, target.relative_to(output)))
        taken.add(_key(target))
        chosen.append(target)
    return chosen


def older(output: Path, name: Path | str) -> str:
    """Return the message for results of an earlier run that are in the way."""
    return (
        f"{output} has results of an earlier run ({name}): give another folder, or use --overwrite "
        "to replace them"
    )


def _of_argument(argument: str, output: Path, notes: list[str]) -> list[Found]:
    path = Path(argument)
    if path.is_dir():
        return _in_folder(path, output, notes)
    if path.is_file():
        return [Found(path, path.name)]
    if path.exists():
        raise ValueError(f"{argument} is not a regular file")
    if not glob.has_magic(argument):
        raise FileNotFoundError(f"{argument}: there is no such image or folder")
    start = Path(*_before_magic(path.parts))
    matches = sorted(map(Path, glob.glob(argument, recursive=True)))
    inside = [match.relative_to(start) for match in matches]
    matches = [
        m for m, i in zip(matches, inside, strict=True) if not any(map(files.is_system, i.parts))
    ]
    folders = [match for match in matches if match.is_dir()] if "**" not in argument else []
    found = [each for folder in folders for each in _in_folder(folder, output, notes)]
    # A link to a parent folder would list each image repeatedly.
    images = {
        os.path.realpath(match): match
        for match in reversed(matches)
        if _is_image(match) and not _is_result(match, output, start)
    }
    found += [Found(m, m.relative_to(start).as_posix()) for m in reversed(images.values())]
    if not found:
        raise FileNotFoundError(f"{argument}: no image matches this pattern")
    return found


def _in_folder(folder: Path, output: Path, notes: list[str]) -> list[Found]:
    listing = files.list_images(folder, recursive=True)
    images = [path for path in listing.images if not _is_result(path, output, folder)]
    if skipped := len(listing.images) - len(images):
        notes.append(f"{folder}: {skipped} results of earlier runs are skipped")
    if summary := listing.summary():
        notes.append(f"{folder}: {summary}")
    if not images:
        raise ValueError("; ".join([f"{folder}: there are no images in this folder", *notes]))
    return [Found(path, path.relative_to(folder).as_posix()) for path in images]


def _is_result(path: Path, output: Path, folder: Path) -> bool:
    """Return whether a file is a result of an earlier run, not an image to process."""
    place = output.resolve()
    is_inside = folder.resolve() in place.parents and place in path.resolve().parents
    return is_inside or pictures.is_written_by(path, SOFTWARE)


def _is_image(path: Path) -> bool:
    is_hidden = files.is_system(path.name)
    return path.is_file() and path.suffix.lower() in image_files.SUFFIXES and not is_hidden


def _before_magic(parts: Iterable[str]) -> list[str]:
    """Return the leading folders of a pattern without wildcards."""
    parts = list(parts)
    plain = [glob.has_magic(part) for part in parts].index(True)
    return parts[:plain]


def _with_ids(found: list[Found]) -> list[Found]:
    """Return images with ids: COCO's number if the file is named after it, else the file name.

    If ids collide, those images get their names in the folder, or else their paths.
    """
    ids: list[Hashable] = [_number(each) for each in found]
    ways: list[Callable[[Found], str]] = [
        lambda each: each.name,
        lambda each: each.path.as_posix(),
        lambda each: os.path.abspath(each.path),
    ]
    for way in ways:
        counts = Counter(ids)
        ids = [way(each) if counts[i] > 1 else i for i, each in zip(ids, found, strict=True)]
    return [replace(each, id=i) for each, i in zip(found, ids, strict=True)]


def _number(found: Found) -> int | str:
    """Return COCO's number if the file is named after it, as in 000000000139.jpg."""
    stem = found.path.stem
    return int(stem) if stem.isascii() and stem.isdecimal() and len(stem) < 19 else found.path.name


def _ends_with(path: Path, end: PurePosixPath) -> bool:
    parts, last = Path(os.path.abspath(path)).parts, end.parts
    return parts[-len(last) :] == last


def _key(path: Path) -> str:
    """Return a key that identifies a file, also on case-insensitive systems."""
    return str(path.resolve()).casefold()


def _is_foreign(path: Path) -> bool:
    return os.path.lexists(path) and not pictures.is_written_by(path, SOFTWARE)


def _fitting(stem: str, end: str) -> str:
    """Return a name shortened to the maximum length of file names."""
    while len(os.fsencode(stem + end)) > LONGEST_NAME:
        stem = stem[:-1]
    return stem + end
