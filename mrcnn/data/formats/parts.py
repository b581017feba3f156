"""The parts of a dataset: which files hold its training, validation and test images.

Four layouts are known:

1. a folder per part: `train/`, `val/`, `valid/` or `validation/`, `test/` (Roboflow's exports);
2. an annotation file per part, in the folder or in its `annotations/`: COCO's
   `instances_train2017.json`, or `train.json`;
3. YOLO's data.yaml, or `labels/train/` beside `images/train/`;
4. Pascal VOC's `ImageSets/Main/train.txt`.
"""

import dataclasses
from collections.abc import Callable
from pathlib import Path

from mrcnn.data.formats import files, voc, yolo_set
from mrcnn.data.formats.image_lookup import part_called, part_of
from mrcnn.data.formats.registry import Search, Source

PARTS = ("train", "val", "test")
WHOLE = "all"  # a dataset without parts
OF_SETS = {"coco", "via"}  # formats in which one file describes a whole part
CERTAIN = 2**24  # bytes: only files of whole parts are that large, and are not read twice


def find_parts(whole: Source) -> dict[str, Source]:
    """Return the parts of a dataset, each as a source of its own.

    Args:
        whole: of a folder or an annotation file.

    Returns:
        Sources by part, in the order train, val, test; or the source itself, as "all", if the
        dataset is not divided.

    Raises:
        ValueError: If there is no such path, or several files or folders for one part.
    """
    path = whole.path
    if not path.exists():
        raise ValueError(f"{path}: there is no such file or folder")
    if path.is_file():
        found = _of_yaml(whole, path) if path.suffix.lower() in yolo_set.YAML_SUFFIXES else {}
    else:
        found = next((parts for layout in _LAYOUTS if (parts := layout(whole))), {})
    return {part: found[part] for part in PARTS if part in found} or {WHOLE: whole}


def _of_folders(whole: Source) -> dict[str, Source]:
    """Return the parts that are folders with annotations of their own."""
    folders: dict[str, list[Path]] = {}
    for folder in files.list_folders(whole.path):
        part = part_called(folder)
        if part and Search(folder).holds_a_set(whole.format):
            folders.setdefault(part, []).append(folder)
    return {part: _part(whole, part, _only(part, found)) for part, found in folders.items()}


def _of_files(whole: Source) -> dict[str, Source]:
    """Return the parts that are annotation files of the dataset."""
    search = Search(whole.path)
    named: dict[str, list[Path]] = {}
    for file in search.json_files():
        part = part_of(file.stem)
        if part and (file.stat().st_size > CERTAIN or OF_SETS & set(search.formats_of(file))):
            named.setdefault(part, []).append(file)
    # COCO has its keypoints and captions beside its instances.
    chosen = {
        part: [file for file in found if file.stem.startswith("instances")] or found
        for part, found in named.items()
    }
    return {part: _part(whole, part, _only(part, found)) for part, found in chosen.items()}


def _of_yolo(whole: Source) -> dict[str, Source]:
    """Return the parts of a YOLO dataset: by its only YAML file with parts, else by folders."""
    listed = [_of_yaml(whole, file) for file in files.list_files(whole.path, ".yaml", ".yml")]
    found = [parts for parts in listed if parts]
    if len(found) == 1:
        return found[0]
    return {part: _part(whole, part, whole.path) for part in yolo_set.parts_of(whole.path)}


def _of_yaml(whole: Source, path: Path) -> dict[str, Source]:
    try:
        return {part: _part(whole, part, path) for part in yolo_set.parts_of(path)}
    except ValueError:  # the reader reports it, if it is of this dataset
        return {}


def _of_voc(whole: Source) -> dict[str, Source]:
    """Return the parts that Pascal VOC's lists of images name."""
    has_lists = (whole.path / "ImageSets").is_dir()
    listed = [part for part in PARTS if has_lists and voc.has_list(whole.path, part)]
    return {
        part: _part(whole, part, whole.path)
        for part in listed
        if voc.annotation_files(whole.path, part)
    }


_LAYOUTS: tuple[Callable[[Source], dict[str, Source]], ...] = (
    _of_folders,
    _of_files,
    _of_yolo,
    _of_voc,
)


def _part(whole: Source, part: str, path: Path) -> Source:
    return dataclasses.replace(whole, path=path, part=part)


def _only(part: str, found: list[Path]) -> Path:
    if len(found) > 1:
        raise ValueError(
            f"{found[0]} and {found[1]} can both be the part {part}: pass the one that is meant "
            "(on the command line: --train and --val, or --annotations)"
        )
    return found[0]
