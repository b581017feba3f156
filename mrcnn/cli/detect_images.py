"""Which images `mrcnn detect` takes: of folders and patterns, each with an id of its own."""

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

SOFTWARE = "mrcnn detect"  # what the pictures say that they were written by
LONGEST_NAME = 255  # bytes, of most file systems


@dataclass(frozen=True)
class Found:
    """An image to look at.

    Attributes:
        path: where it is.
        name: its path in the folder that was given, with slashes; else its file's name.
        id: of the image in the results.
    """

    path: Path
    name: str
    id: Any = None


def find(arguments: Sequence[str], output: Path) -> tuple[list[Found], list[str]]:
    """Return the images of files, folders and patterns, and lines on what was passed over.

    Args:
        arguments: in their order; what several of them name is taken once.
        output: the folder of results, which are no images to look at.

    Raises:
        ValueError: a folder has no image.
        FileNotFoundError: there is nothing of a name.
    """
    found: dict[str, Found] = {}
    notes: list[str] = []
    for argument in arguments:
        for each in _of_argument(argument, output, notes):
            found.setdefault(os.path.abspath(each.path), each)
    return _with_ids(list(found.values())), notes


def with_ids_of(found: Sequence[Found], names: Mapping[Any, Sequence[str]]) -> list[Found]:
    """Return those of the images that annotations list, with their ids there.

    Args:
        names: those that the file of each image id of the annotations may have.

    Raises:
        ValueError: there is none of them, or two images are the same one of the annotations.
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
                f"{before[1].path} and {each.path} are the same image of the annotations, "
                f"{stated}: give one of them"
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
    """Return the entry of annotations that an image is, and how much of its path agrees.

    Folders that the annotations state must be those of the image, as far as they say more than
    that there are images; paths of another machine count by their last part.
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
    # Of one that is listed twice the first is taken; of several that fit alike none.
    return best[0] if best and len({entry[0] for _, entry in best}) == 1 else None


def _may_be(found: Found, stated: PurePosixPath) -> bool:
    """Tell whether an image may be one whose stated folders it does not lie in."""
    if image_lookup.is_of_elsewhere(str(stated)):
        return True
    if set(stated.parts[:-1]) <= image_lookup.SAY_NOTHING:
        return True
    parts = image_lookup.part_of(stated.parent.name), image_lookup.part_of(found.path.parent.name)
    return "/" not in found.name and (None in parts or parts[0] == parts[1])


def targets(found: Sequence[Found], output: Path, *, overwrite: bool) -> list[Path]:
    """Return where the picture of each image goes: no name is used twice, no image overwritten.

    A file that is there and was not written by `mrcnn detect` keeps its name; the picture has
    another.

    Args:
        overwrite: whether the pictures of an earlier run may be.

    Raises:
        ValueError: they are there, and may not.
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
    """Return what is said where results of an earlier run are in the way."""
    return (
        f"{output} has results of an earlier run ({name}): give another folder, or --overwrite to "
        "replace them"
    )


def _of_argument(argument: str, output: Path, notes: list[str]) -> list[Found]:
    path = Path(argument)
    if path.is_dir():
        return _in_folder(path, output, notes)
    if path.is_file():
        return [Found(path, path.name)]
    if path.exists():
        raise ValueError(f"{argument} is no regular file")
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
    # A link to a folder above would show each image again and again.
    images = {
        os.path.realpath(match): match
        for match in reversed(matches)
        if _is_image(match) and not _is_result(match, output, start)
    }
    found += [Found(m, m.relative_to(start).as_posix()) for m in reversed(images.values())]
    if not found:
        raise FileNotFoundError(f"{argument}: no image is of this pattern")
    return found


def _in_folder(folder: Path, output: Path, notes: list[str]) -> list[Found]:
    listing = files.list_images(folder, recursive=True)
    images = [path for path in listing.images if not _is_result(path, output, folder)]
    if skipped := len(listing.images) - len(images):
        notes.append(f"{folder}: {skipped} results of earlier runs are passed over")
    if summary := listing.summary():
        notes.append(f"{folder}: {summary}")
    if not images:
        raise ValueError("; ".join([f"{folder}: there are no images in this folder", *notes]))
    return [Found(path, path.relative_to(folder).as_posix()) for path in images]


def _is_result(path: Path, output: Path, folder: Path) -> bool:
    """Tell whether a picture is a result of an earlier run, not an image to look at."""
    place = output.resolve()
    is_inside = folder.resolve() in place.parents and place in path.resolve().parents
    return is_inside or pictures.is_written_by(path, SOFTWARE)


def _is_image(path: Path) -> bool:
    is_hidden = files.is_system(path.name)
    return path.is_file() and path.suffix.lower() in image_files.SUFFIXES and not is_hidden


def _before_magic(parts: Iterable[str]) -> list[str]:
    """Return the folders of a pattern before the first that is no plain name."""
    parts = list(parts)
    plain = [glob.has_magic(part) for part in parts].index(True)
    return parts[:plain]


def _with_ids(found: list[Found]) -> list[Found]:
    """Return images with ids: COCO's number where a file is named by it, else its name.

    Where two would have the same id, both have their names in the folder, or else their paths.
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
    """Return COCO's number where the file is named by it, as in 000000000139.jpg."""
    stem = found.path.stem
    return int(stem) if stem.isascii() and stem.isdecimal() and len(stem) < 19 else found.path.name


def _ends_with(path: Path, end: PurePosixPath) -> bool:
    parts, last = Path(os.path.abspath(path)).parts, end.parts
    return parts[-len(last) :] == last


def _key(path: Path) -> str:
    """Return what tells files apart, on systems that take capitals for small letters as well."""
    return str(path.resolve()).casefold()


def _is_foreign(path: Path) -> bool:
    return os.path.lexists(path) and not pictures.is_written_by(path, SOFTWARE)


def _fitting(stem: str, end: str) -> str:
    """Return a name that is not longer than names can be."""
    while len(os.fsencode(stem + end)) > LONGEST_NAME:
        stem = stem[:-1]
    return stem + end
