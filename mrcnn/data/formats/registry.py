"""Any annotations: the format is recognised by content, and read by its reader."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path

from mrcnn.data.annotated import AnnotatedDataset, Annotations, make_dataset
from mrcnn.data.formats import coco, files, labelme, mask_folders, via, voc, yolo
from mrcnn.data.problems import Problems

FORMATS = {
    "coco": "a JSON file with the lists images, annotations and categories",
    "via": "a JSON file of VGG Image Annotator, whose entries have filename and regions",
    "labelme": "a JSON file with a list of shapes, or a folder of such files",
    "voc": "an XML file of Pascal VOC, or a folder of such files, in Annotations/ or the like",
    "yolo": "a folder with labels/*.txt beside images/",
    "masks": "a folder with images/ and masks/, or of folders that have both",
}


@dataclass(frozen=True)
class Source:
    """What is to be read.

    Attributes:
        path: the file or folder that was given.
        images: the folder of the images; None: looked for nearby.
        class_attribute: of VIA, see `via.load_via`.
    """

    path: Path
    images: str | PathLike | None = None
    class_attribute: str | None = None


def load_dataset(
    path: str | PathLike,
    format: str = "auto",
    *,
    images: str | PathLike | None = None,
    channels: int = 3,
    class_attribute: str | None = None,
    class_names: Sequence[str] | None = None,
    problems: Problems | None = None,
) -> AnnotatedDataset:
    """Return the prepared dataset of annotations in any known format.

    Args:
        path: the annotation file, or the folder of the set.
        format: one of FORMATS, or "auto": told by content. `dataset.format` has its name.
        images: the folder of the images; None: looked for where the format has them.
        channels: of the images.
        class_attribute: of VIA, see `via.load_via`.
        class_names: number the classes in this order, the background left out, as in the set that
            a network was trained on; None: in the order of the format.
        problems: collects what is wrong, where training must not be stopped by it; None: strict.

    Raises:
        ValueError: the format is unknown or ambiguous, or the annotations have a fault.
    """
    problems = problems or Problems()
    source = Source(Path(path), images, class_attribute)
    if format == "auto":
        format = recognise(source.path)
    if format not in FORMATS:
        raise ValueError(f"format must be auto or one of {list(FORMATS)}, got {format!r}")
    if not source.path.exists():
        raise ValueError(f"{path}: there is no such file or folder")
    annotations = _READERS[format](source, problems)
    if not annotations.images:
        problems.error("no-images", f"{path} has no images; {format} is {FORMATS[format]}")
    elif not any(image.objects or image.label_image for image in annotations.images):
        problems.error("no-objects", f"{path} has no annotations of objects")
    return make_dataset(annotations, problems, channels=channels, class_names=class_names)


def recognise(path: Path) -> str:
    """Return the format of a file or folder, told by its content.

    Raises:
        ValueError: there is none, or there are several; with what was looked for or found.
    """
    if not path.exists():
        raise ValueError(f"{path}: there is no such file or folder")
    found = _recognise_folder(path) if path.is_dir() else _recognise_file(path)
    if len(found) == 1:
        return next(iter(found))
    if found:
        listed = "; ".join(f"{name} ({where})" for name, where in found.items())
        raise ValueError(
            f"{path} holds several formats: {listed}; pass the file that is meant, or its format"
        )
    listed = "; ".join(f"{name}: {what}" for name, what in FORMATS.items())
    raise ValueError(f"{path}: no known annotations. Looked for {listed}")


def only_file(path: Path, name: str) -> Path:
    """Return the one file of a format that holds a whole set, in a folder or given.

    Raises:
        ValueError: the folder has none, or several.
    """
    if path.is_file():
        return path
    found = [file for file in _json_files(path) if name in _recognise_json(file)]
    if len(found) != 1:
        listed = [str(file) for file in found] or "none"
        raise ValueError(f"{path} must hold one {name} file, found {listed}; pass the file")
    return found[0]


def _recognise_folder(path: Path) -> dict[str, Path]:
    """Return the formats found in a folder, each with a file or folder that shows it."""
    found: dict[str, Path] = {}
    for file in _json_files(path):
        for name in _recognise_json(file):
            found.setdefault(name, file)
    xml_files = voc.annotation_files(path)
    if xml_files:
        found["voc"] = xml_files[0]
    label_folders = yolo.label_folders(path)
    if label_folders:
        found["yolo"] = label_folders[0]
    if mask_folders.recognise(path):
        found["masks"] = path
    return found


def _recognise_file(path: Path) -> dict[str, Path]:
    suffix = path.suffix.lower()
    if suffix == ".json":
        return dict.fromkeys(_recognise_json(path, is_given=True), path)
    if suffix == ".xml":
        return {"voc": path}
    return {"yolo": path} if suffix in (".yaml", ".yml") else {}


def _recognise_json(path: Path, *, is_given: bool = False) -> list[str]:
    try:
        content = files.read_json(path)
    except ValueError:
        if is_given:
            raise
        return []
    return [name for name, module in _BY_JSON.items() if module(content)]


def _json_files(path: Path) -> list[Path]:
    """Return the JSON files of a set: in its folder, else in its folder of annotations."""
    return sorted(path.glob("*.json")) or sorted(path.glob("annotations/*.json"))


def _read_coco(source: Source, problems: Problems) -> Annotations:
    file = only_file(source.path, "coco")
    return coco.read_coco(files.read_json(file), file, source.images, problems)


def _read_via(source: Source, problems: Problems) -> Annotations:
    file = only_file(source.path, "via")
    content = files.read_json(file)
    return via.read_via(content, file, source.images, problems, source.class_attribute)


def _read_labelme(source: Source, problems: Problems) -> Annotations:
    paths = [source.path]
    if source.path.is_dir():
        paths = [file for file in _json_files(source.path) if _is_no_other_json(file)]
    return labelme.read_labelme(paths, source.images, problems)


def _is_no_other_json(path: Path) -> bool:
    """Tell whether a JSON file of a labelme folder is to be read: broken ones are, to be named."""
    try:
        content = files.read_json(path)
    except ValueError:
        return True
    return labelme.recognise(content)


def _read_voc(source: Source, problems: Problems) -> Annotations:
    return voc.read_voc(voc.annotation_files(source.path), source.images, problems)


def _read_yolo(source: Source, problems: Problems) -> Annotations:
    return yolo.read_yolo(source.path, source.images, problems)


def _read_masks(source: Source, problems: Problems) -> Annotations:
    return mask_folders.read_masks(source.path, source.images, problems)


_BY_JSON = {"coco": coco.recognise, "via": via.recognise, "labelme": labelme.recognise}
_READERS: dict[str, Callable[[Source, Problems], Annotations]] = {
    "coco": _read_coco,
    "via": _read_via,
    "labelme": _read_labelme,
    "voc": _read_voc,
    "yolo": _read_yolo,
    "masks": _read_masks,
}
