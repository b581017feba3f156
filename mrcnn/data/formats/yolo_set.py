"""The files of a YOLO dataset: label files, images, and the YAML file that names the classes.

There are three layouts: `labels/` next to `images/`, with or without a folder per part; label files
next to their images; or a data.yaml that says where the images of a part are.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any

import yaml

from mrcnn.data.formats import files
from mrcnn.data.formats.image_lookup import ImageLookup, Stems, part_of
from mrcnn.data.problems import Problems

LEVELS_UP = 3  # from the label folder to the file of names
LARGEST_YAML = 2 * 2**20  # bytes: a hundred thousand names
YAML_SUFFIXES = (".yaml", ".yml")
PARTS = {"train": ("train",), "val": ("val", "valid", "validation"), "test": ("test",)}
NO_TEXTS = ("classes.txt", "labels.txt", "names.txt", "train.txt", "val.txt", "test.txt")
SAMPLE = 4096  # characters read to recognise a label file
# Loads all values as strings: `no` and `1` are names, taken literally.
_Loader = getattr(yaml, "CBaseLoader", yaml.BaseLoader)


Pair = tuple[Path, Path | None]


@dataclass
class YoloSet:
    """The files of one part of a dataset.

    Attributes:
        pairs: images, including missing ones, with their label files, if any.
        home: the folder where the search for names starts.
        yaml: the file that was given.
    """

    pairs: list[Pair]
    home: Path
    yaml: Path | None = None


def find_set(
    path: Path, images: str | PathLike | None, part: str | None, problems: Problems
) -> YoloSet:
    """Return the files that a path stands for.

    Args:
        path: path of a folder or a YAML file.
        images: the image folder; None: that of the dataset.
        part: train or val, if the path stands for both.
        problems: collects skipped files and ties.

    Raises:
        ValueError: If there are no label files, or those of several parts.
    """
    is_yaml = path.suffix.lower() in YAML_SUFFIXES and path.is_file()
    found = _listed_in(path, part, problems) if is_yaml else None
    if found is not None:
        return found
    folder = _only_folder(path, part)
    pictures = Path(images) if images is not None else _image_folder(folder)
    listed = _images_of(pictures, problems) if pictures.is_dir() else []
    pairs = _paired(listed, pictures, folder, problems)
    return YoloSet(pairs, folder, path if is_yaml else None)


def parts_of(path: Path) -> list[str]:
    """Return the parts of a dataset, train, val or test, that a folder or a YAML file has."""
    if path.is_file():
        content = read_yaml(path)
        return [part for part in PARTS if any(p.exists() for p in _places(path, content, part))]
    named: set[str] = set()
    for folder in label_folders(path):
        # The names of folders above the dataset say nothing of its parts.
        inside = folder.parts[len(path.resolve().parts) :][-2:]
        named.update(filter(None, map(part_of, reversed(inside))))
    return [part for part in PARTS if part in named]


def label_folders(path: Path) -> list[Path]:
    """Return the label folders that a path stands for, one per part of the dataset."""
    if path.is_file():
        path = path.parent
    path = path.resolve()
    if "images" in path.parts and not text_files(path):
        place = len(path.parts) - 1 - path.parts[::-1].index("images")
        path = Path(*path.parts[:place], "labels", *path.parts[place + 1 :])
    inside = files.list_folders(path)
    candidates = [
        path / "labels",
        *files.list_folders(path / "labels"),
        *(folder / "labels" for folder in inside),
    ]
    if "labels" in path.parts:
        candidates = [path, *inside]
    found = [folder for folder in candidates if folder.is_dir() and text_files(folder)]
    return found or _with_texts_beside(path)


def text_files(folder: Path) -> list[Path]:
    """Return the text files of a folder that may be label files."""
    return [
        path
        for path in files.list_files(folder, ".txt")
        if path.name.lower() not in NO_TEXTS and not path.name.lower().startswith("readme")
    ]


def read_yaml(path: Path) -> dict[str, Any]:
    """Return a YAML file as strings, lists and dicts; an empty dict if it is not a mapping.

    Raises:
        ValueError: If it is not YAML, or too large for a list of names.
    """
    if path.stat().st_size > LARGEST_YAML:
        raise ValueError(f"{path}: {path.stat().st_size} bytes are too many for a list of names")
    try:
        content = yaml.load(files.read_text(path), Loader=_Loader)  # strings only
    except yaml.YAMLError as error:
        mark = getattr(error, "context_mark", None) or getattr(error, "problem_mark", None)
        where = f" at line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        reason = getattr(error, "problem", None) or "its characters"
        raise ValueError(f"{path} is no YAML: {reason}{where}") from error
    except RecursionError as error:
        raise ValueError(f"{path} is no YAML: it is nested too deeply") from error
    return content if isinstance(content, dict) else {}


def find_yaml(found: YoloSet) -> Path | None:
    """Return the YAML file that names the classes of a dataset, or None.

    A file that refers to other images belongs to another dataset.

    Raises:
        ValueError: If there are several.
    """
    if found.yaml is not None:
        return found.yaml
    folders = {image.parent.resolve() for image, _ in found.pairs}
    for level, folder in enumerate((found.home, *found.home.parents[:LEVELS_UP])):
        candidates = [
            path
            for path in files.list_files(folder, *YAML_SUFFIXES)
            if _may_name_classes(path, folders, is_near=level < LEVELS_UP)
        ]
        if len(candidates) > 1:
            raise ValueError(
                f"{candidates[0]} and {candidates[1]} both name classes; pass the one that is "
                "meant as the dataset, or remove the other"
            )
        if candidates:
            return candidates[0]
    return None


def _may_name_classes(path: Path, folders: set[Path], *, is_near: bool) -> bool:
    """Return whether a YAML file may belong to the images in these folders."""
    try:
        content = read_yaml(path)
    except ValueError:
        return is_near and path.stem in ("data", "dataset")  # the reader reports broken ones
    if "names" not in content:
        return False
    places = [each for part in PARTS for each in _places(path, content, part)]
    there = [place for place in places if place.exists()]
    if not there:
        return is_near or bool({"train", "val", "nc", "path"} & set(content))
    return any(
        place == folder or place in folder.parents or (place.is_file() and place.suffix == ".txt")
        for place in map(Path.resolve, there)
        for folder in folders
    )


def _only_folder(path: Path, part: str | None) -> Path:
    folders = label_folders(path)
    if len(folders) > 1 and part is not None:
        names = [{part_of(folder.name), part_of(folder.parent.name)} for folder in folders]
        folders = [f for f, n in zip(folders, names, strict=True) if part in n] or folders
    if len(folders) != 1:
        parts = [str(folder) for folder in folders]
        raise ValueError(
            f"{path}: a YOLO set needs one folder of texts in labels/, found {parts or 'none'}; "
            f"{'pass one of them' if parts else 'pass the folder that has labels/'}"
        )
    return folders[0]


def _listed_in(path: Path, part: str | None, problems: Problems) -> YoloSet | None:
    """Return the part of a dataset that a YAML file lists, None if it does not state any images.

    Raises:
        ValueError: If it lists several parts and none was requested, or lacks the requested one.
    """
    content = read_yaml(path)
    there = {
        name: [place for place in _places(path, content, name) if place.exists()] for name in PARTS
    }
    listed = [name for name, places in there.items() if places]
    if not listed:
        stated = [place for name in PARTS for place in _places(path, content, name)]
        if stated and not label_folders(path):
            raise ValueError(
                f"{path} says that there are images in {stated[0]}, where there is nothing: mend "
                "its path and its train, relative to the file"
            )
        return None
    if part is None and len(listed) > 1:
        raise ValueError(
            f"{path} lists the parts {', '.join(listed)}: pass the folder of one, such as "
            f"{there[listed[0]][0]} (mrcnn train and evaluate find the parts themselves)"
        )
    chosen = listed[0] if part is None else part
    if not there.get(chosen):
        raise ValueError(f"{path} has no images of the part {chosen}, only of {', '.join(listed)}")
    pairs = [pair for place in there[chosen] for pair in _pairs_at(place, problems)]
    if not pairs:
        raise ValueError(f"{path}: {there[chosen][0]} has no images")
    return YoloSet(pairs, path.resolve().parent, path)


def _places(path: Path, content: dict[str, Any], part: str) -> list[Path]:
    """Return the image paths of a part according to a YAML file."""
    stated: Any = next((content[key] for key in PARTS[part] if content.get(key)), [])
    here, root = path.parent, str(content.get("path") or ".")
    found = []
    for entry in stated if isinstance(stated, list) else [stated]:
        if not isinstance(entry, str):
            continue
        # Roboflow writes ../train/images for train/images next to the file.
        near = entry.replace("\\", "/").removeprefix("../")
        candidates = [here / root / entry, here / entry, here / near]
        found.append(next((each for each in candidates if each.exists()), candidates[0]))
    return found


def _pairs_at(place: Path, problems: Problems) -> Iterator[Pair]:
    """Yield the images of a folder or of a list file, with their label files."""
    if place.is_dir():
        images = _images_of(place, problems, recursive=True)
    else:
        lines = [line.strip() for line in files.read_text(place).splitlines()]
        names = [[line] for line in lines if line and not line.startswith("#")]
        lookup = ImageLookup(place, None, names, problems)
        images = [Path(lookup.find(each)) for each in names]
    by_folder: dict[Path, list[Path]] = {}
    for image in images:
        by_folder.setdefault(image.parent, []).append(image)
    for folder, inside in by_folder.items():
        pairs = _paired(inside, folder, _label_folder(folder), problems)
        # A list has only some images of a folder, so other label files there belong to others.
        yield from pairs if place.is_dir() else pairs[: len(inside)]


def _paired(images: list[Path], folder: Path, labels: Path, problems: Problems) -> list[Pair]:
    """Return images with their label files, then the missing images of other label files.

    Args:
        images: of one folder, which is given as well.
        labels: the folder of the label files.
    """
    by_stem = Stems(files.list_files(labels, ".txt"))
    pairs: list[Pair] = []
    owners: dict[Path, Path] = {}
    for image in images:
        texts = by_stem.find(image.stem) or by_stem.find(image.name)
        if texts and owners.setdefault(texts[0], image) != image:
            problems.error(
                "ambiguous-image",
                f"{texts[0].name} can be of {owners[texts[0]].name} or {image.name}",
                image=image.name,
                remedy="leave one image of each name",
            )
        pairs.append((image, texts[0] if texts else None))
    missing = [text for text in text_files(labels) if text not in owners]
    return pairs + [(folder / f"{text.stem}.jpg", text) for text in missing]


def _label_folder(images: Path) -> Path:
    """Return the folder of the images' label files: labels/ for images/, else their own."""
    return _counterpart(images, "images", "labels")


def _image_folder(labels: Path) -> Path:
    """Return the folder of the label files' images: images/ for labels/, else their own."""
    return _counterpart(labels, "labels", "images")


def _counterpart(folder: Path, kind: str, other: str) -> Path:
    """Return a folder with the last path component of this name replaced, if there is one."""
    parts = folder.parts
    if kind not in parts:
        return folder
    place = len(parts) - 1 - parts[::-1].index(kind)
    mirrored = Path(*parts[:place], other, *parts[place + 1 :])
    return mirrored if mirrored.is_dir() else folder


def _images_of(folder: Path, problems: Problems, *, recursive: bool = False) -> list[Path]:
    listing = files.list_images(folder, recursive=recursive)
    other = [name for name in listing.passed_over.get(files.FOREIGN, []) if _is_strange(name)]
    if other:
        problems.info("passed-over", f"{folder}: passed over {len(other)} files ({other[0]}, ...)")
    return listing.images


def _is_strange(name: str) -> bool:
    return Path(name).suffix.lower() not in (".txt", ".cache", ".json", *YAML_SUFFIXES)


def _with_texts_beside(path: Path) -> list[Path]:
    """Return the folder, or its subfolders, with YOLO label files next to their images."""
    if not path.is_dir():
        return []
    return [folder for folder in (path, *files.list_folders(path)) if _has_texts_beside(folder)]


def _has_texts_beside(folder: Path) -> bool:
    texts = text_files(folder)
    if not texts:
        return False
    stems = Stems(files.list_images(folder).images)
    paired = [text for text in texts if stems.find(text.stem)]
    return bool(paired) and any(map(_is_label, paired[:20]))


def _is_label(path: Path) -> bool:
    """Return whether the first line of a file is a YOLO label: five numbers or more."""
    try:
        with path.open(encoding="utf-8") as text:
            first = text.readline(SAMPLE).split()
        return len(first) >= 5 and all(float(value) <= 2 for value in first[1:])
    except (OSError, ValueError):
        return False
