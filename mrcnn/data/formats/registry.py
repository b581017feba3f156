"""Annotations in any format: detected from their content, and read by the format's reader."""

import dataclasses
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any

from mrcnn.data.annotated import AnnotatedDataset, Annotations
from mrcnn.data.assembly import make_dataset
from mrcnn.data.formats import coco, files, foreign, labelme, mask_folders, via, voc, yolo
from mrcnn.data.formats.image_lookup import part_called, part_of
from mrcnn.data.problems import Problems, one_line

FORMATS = {
    "coco": "a JSON file with the lists images, annotations and categories",
    "via": "a JSON or CSV file of VGG Image Annotator 1 or 2",
    "labelme": "a JSON file with a list of shapes, or a folder of such files",
    "voc": "an XML file of Pascal VOC, or a folder of such files, in Annotations/ or the like",
    "yolo": "a folder with labels/*.txt beside images/, texts beside their images, or a data.yaml",
    "masks": "a folder with images/ and masks/, or of folders that have both",
}


@dataclass(frozen=True)
class Source:
    """What to read.

    Attributes:
        path: the given file or folder.
        images: the image folder; None: looked for nearby.
        format: one of FORMATS, or "auto": detected from the content.
        class_attribute: of VIA, see `via.load_via`.
        channels: of the images.
        part: train or val, if the path stands for several parts of a dataset.
    """

    path: Path
    images: str | PathLike | None = None
    format: str = "auto"
    class_attribute: str | None = None
    channels: int = 3
    part: str | None = None


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
        path: the annotation file, or the dataset folder.
        format: one of FORMATS, or "auto": detected from the content, see `dataset.format`.
        images: the image folder; None: looked for where the format has them.
        channels: of the images.
        class_attribute: of VIA, see `via.load_via`.
        class_names: class order, without background, as in the dataset that a network was trained
            on; None: in the order of the format.
        problems: collects faults instead of raising; None: strict.

    Raises:
        ValueError: If the format is unknown or ambiguous, or the annotations have a fault.
    """
    source = Source(Path(path), images, format, class_attribute, channels)
    return load(source, class_names=class_names, problems=problems)


def load(
    source: Source,
    *,
    class_names: Sequence[str] | None = None,
    problems: Problems | None = None,
) -> AnnotatedDataset:
    """Return the prepared dataset of a source; see `load_dataset`."""
    problems = problems or Problems()
    annotations = read(source, problems)
    return make_dataset(annotations, problems, channels=source.channels, class_names=class_names)


def load_pair(training: Source, validation: Source) -> tuple[AnnotatedDataset, AnnotatedDataset]:
    """Return two parts of a dataset, the second with the classes of the first.

    Classes are matched by name. Titles and background are recognised from both parts together.

    Raises:
        ValueError: As `load_dataset`, or if the second has objects of a class that the first lacks.
    """
    reports = Problems(), Problems()
    first, second = read(training, reports[0]), read(validation, reports[1])
    _tell_of_shared(first, second, reports[1])
    if first.is_unnamed and len(second.classes) == 1:  # named after a folder
        second = dataclasses.replace(second, is_unnamed=True)
    dataset = make_dataset(
        first, reports[0], channels=training.channels, used_names=second.used_names()
    )
    return dataset, make_dataset(
        second,
        reports[1],
        channels=validation.channels,
        class_names=dataset.class_names[1:],
    )


def _search_of(path: Path, part: str | None) -> "Search":
    """Return the search in a path, or in a part's folder if the path contains one per part."""
    whole = Search(path)
    if part is None or not path.is_dir() or whole.json_files():
        return whole
    folders = [folder for folder in files.list_folders(path) if part_called(folder) == part]
    if len(folders) != 1:
        return whole
    of_part = Search(folders[0])  # caches what it reads
    return of_part if of_part.holds_a_set() else whole


def _tell_of_shared(first: Annotations, second: Annotations, problems: Problems) -> None:
    """Warn about images that are in both parts."""
    known = {os.path.realpath(image.path) for image in first.images}
    shared = [image for image in second.images if os.path.realpath(image.path) in known]
    if shared:
        problems.warning(
            "image-in-both-sets",
            f"{len(shared)} of {len(second.images)} images of the validation set are in the "
            f"training set, such as {Path(shared[0].path).name}: scores on them are meaningless",
            remedy="re-split the dataset",
        )


def read(source: Source, problems: Problems) -> Annotations:
    """Read a source with the reader of its format.

    Raises:
        ValueError: As `load_dataset`.
    """
    path = source.path
    if source.format not in ("auto", *FORMATS):
        raise ValueError(f"format must be auto or one of {list(FORMATS)}, got {source.format!r}")
    if not path.exists():
        raise ValueError(f"{path}: there is no such file or folder")
    if not path.is_dir() and not path.is_file():
        raise ValueError(f"{path} is neither a file nor a folder")
    with files.without_collection():
        search = _search_of(path, source.part)
        format = search.format() if source.format == "auto" else source.format
        try:
            annotations = _READERS[format](source, search, problems)
        except ValueError as error:
            raise ValueError(one_line(error)) from error
    if not annotations.images:
        problems.error("no-images", f"{path} has no images; {format} is {FORMATS[format]}")
    elif not any(image.objects or image.label_image for image in annotations.images):
        problems.error("no-objects", f"{path} has no annotations of objects")
    return annotations


class Search:
    """The contents of a path, and the formats in it; each JSON file is read once.

    Args:
        path: an existing file or folder.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._contents: dict[Path, Any] = {}

    def format(self) -> str:
        """Detect the format from the content.

        Raises:
            ValueError: If there is none, or several; with what was looked for or found.
        """
        found = self._in_folder() if self.path.is_dir() else self._in_file()
        if len(found) == 1:
            return next(iter(found))
        if found:
            listed = "; ".join(f"{name} ({where})" for name, where in found.items())
            raise ValueError(
                f"{self.path} holds several formats: {listed}; pass the file that is meant, or "
                "its format"
            )
        self._refuse_foreign()
        listed = "; ".join(f"{name}: {what}" for name, what in FORMATS.items())
        raise ValueError(f"{self.path}: no known annotations. Looked for {listed}")

    def holds_a_set(self, format: str = "auto") -> bool:
        """Return whether a folder contains a dataset in this format, or in exactly one format."""
        found = self._in_folder()
        return len(found) == 1 if format == "auto" else format in found

    def content(self, path: Path) -> Any:
        """Return the content of a JSON file, or of VIA's CSV file in JSON form.

        Raises:
            ValueError: If it cannot be read.
        """
        if path not in self._contents:
            is_csv = path.suffix.lower() == ".csv"
            self._contents[path] = via.read_csv(path) if is_csv else files.read_json(path)
        return self._contents[path]

    def formats_of(self, path: Path) -> list[str]:
        """Return the formats of a JSON or CSV file; none if it cannot be read."""
        try:
            content = self.content(path)
        except ValueError:
            return []
        return [name for name, module in _BY_JSON.items() if module(content)]

    def only_file(self, name: str, part: str | None = None) -> Path:
        """Return the single annotation file of a dataset, given or in a folder.

        Args:
            name: name of the format.
            part: of several files, choose the one named after this part.

        Raises:
            ValueError: If the folder has none, or several.
        """
        if self.path.is_file():
            return self.path
        found = [file for file in self.json_files() if name in self.formats_of(file)]
        if len(found) > 1 and part is not None:
            found = [file for file in found if part_of(file.stem) == part] or found
        if len(found) != 1:
            listed = [str(file) for file in found] or "none"
            raise ValueError(
                f"{self.path} must hold one {name} file, found {listed}; pass the file"
            )
        return found[0]

    def json_files(self) -> list[Path]:
        """Return the JSON and CSV files of a dataset: in its folder, else in its annotations/."""
        own = files.list_files(self.path, ".json", ".csv")
        return own or files.list_files(self.path / "annotations", ".json", ".csv")

    def labelme_files(self) -> list[Path]:
        """Return the files of a labelme dataset, including broken ones, which are reported."""
        if self.path.is_file():
            return [self.path]
        return [
            file for file in _of_suffix(self.json_files(), ".json") if self._may_be_labelme(file)
        ]

    def _may_be_labelme(self, path: Path) -> bool:
        try:
            return labelme.recognise(self.content(path))
        except ValueError:
            return True

    def _in_folder(self) -> dict[str, Path]:
        """Return the formats found in a folder, each with a file or folder as evidence."""
        found: dict[str, Path] = {}
        for file in self.json_files():
            for name in self.formats_of(file):
                found.setdefault(name, file)
        if xml_files := voc.annotation_files(self.path):
            found["voc"] = xml_files[0]
        if label_folders := yolo.label_folders(self.path):
            found["yolo"] = label_folders[0]
        if mask_folders.recognise(self.path):
            found["masks"] = self.path
        return found

    def _in_file(self) -> dict[str, Path]:
        suffix = self.path.suffix.lower()
        if suffix in (".json", ".csv"):
            self.content(self.path)  # raises if it is broken
            return dict.fromkeys(self.formats_of(self.path), self.path)
        if suffix == ".xml":
            return {"voc": self.path}
        return {"yolo": self.path} if suffix in (".yaml", ".yml") else {}

    def _refuse_foreign(self) -> None:
        """Raise for a known but unsupported format."""
        in_folder = self.json_files() or files.list_files(self.path / "ann", ".json")
        candidates = [self.path] if self.path.is_file() else in_folder
        for file in _of_suffix(candidates, ".json"):
            try:
                what = foreign.described(self.content(file))
            except ValueError:
                continue
            if what:
                raise ValueError(f"{file} is {what}")


def _of_suffix(paths: Sequence[Path], suffix: str) -> list[Path]:
    """Return the paths with one suffix."""
    return [path for path in paths if path.suffix.lower() == suffix]


def _read_coco(source: Source, search: Search, problems: Problems) -> Annotations:
    file = search.only_file("coco", source.part)
    return coco.read_coco(search.content(file), file, source.images, problems)


def _read_via(source: Source, search: Search, problems: Problems) -> Annotations:
    file = search.only_file("via", source.part)
    content = search.content(file)
    return via.read_via(content, file, source.images, problems, source.class_attribute)


def _read_labelme(source: Source, search: Search, problems: Problems) -> Annotations:
    return labelme.read_labelme(search.labelme_files(), source.images, problems)


def _read_voc(source: Source, search: Search, problems: Problems) -> Annotations:
    return voc.read_voc(voc.annotation_files(search.path, source.part), source.images, problems)


def _read_yolo(source: Source, search: Search, problems: Problems) -> Annotations:
    return yolo.read_yolo(search.path, source.images, problems, source.part)


def _read_masks(source: Source, search: Search, problems: Problems) -> Annotations:
    return mask_folders.read_masks(search.path, source.images, problems)


_BY_JSON = {"coco": coco.recognise, "via": via.recognise, "labelme": labelme.recognise}
_READERS: dict[str, Callable[[Source, Search, Problems], Annotations]] = {
    "coco": _read_coco,
    "via": _read_via,
    "labelme": _read_labelme,
    "voc": _read_voc,
    "yolo": _read_yolo,
    "masks": _read_masks,
}
