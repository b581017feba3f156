"""Pascal VOC (Everingham et al. 2010): one XML file per image with boxes, and optional masks.

VOC's boxes count pixels from 1 and include the last one: xmin = 1 is the first column.
"""

import re
from collections.abc import Iterable, Sequence
from os import PathLike
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from mrcnn.data import outlines
from mrcnn.data.annotated import AnnotatedDataset, AnnotatedImage, Annotations
from mrcnn.data.assembly import make_dataset
from mrcnn.data.formats import files, foreign
from mrcnn.data.formats.image_lookup import ImageLookup
from mrcnn.data.problems import Problems

SOURCE = "voc"
ANNOTATION_FOLDERS = ("Annotations", "annotations", "annots", "xmls")
MASK_FOLDER = "SegmentationObject"


def load_voc(
    path: str | PathLike,
    images: str | PathLike | None = None,
    *,
    channels: int = 3,
    class_names: Sequence[str] | None = None,
) -> AnnotatedDataset:
    """Return the prepared dataset of a Pascal VOC folder, or of one of its XML files.

    The mask of an object is its box. If there is a folder SegmentationObject, only images with a
    file there are read: object i is the region of value i. Difficult objects are crowds. Classes
    are numbered by name.

    Args:
        path: the set's folder, its folder of XML files, or one of these.
        images: the folder of the images; None: looked for nearby.
        channels: of the images.
        class_names: see `make_dataset`.

    Raises:
        ValueError: If a file is not a VOC annotation.
    """
    problems = Problems()
    read = read_voc(annotation_files(Path(path)), images, problems)
    return make_dataset(read, problems, channels=channels, class_names=class_names)


def annotation_files(path: Path, part: str | None = None) -> list[Path]:
    """Return the XML files that a path stands for; none if it is not a VOC dataset.

    Args:
        part: train or val, if the dataset has image lists for them in ImageSets/.
    """
    if path.is_file():
        return [path] if path.suffix.lower() == ".xml" else []
    folders = [path, *(path / name for name in ANNOTATION_FOLDERS)]
    found = next((each for folder in folders if (each := files.list_files(folder, ".xml"))), [])
    listing = _image_set(path, part) if part else None
    if listing is None:
        return found
    stems = {line.split()[0] for line in files.read_text(listing).splitlines() if line.strip()}
    return [file for file in found if file.stem in stems]


def has_list(path: Path, part: str) -> bool:
    """Return whether a dataset has an image list of a part, in ImageSets/."""
    return _image_set(path, part) is not None


def _image_set(path: Path, part: str) -> Path | None:
    """Return the image list of a part, preferring that of the masks, if there are masks."""
    kinds = ("Segmentation", "Main") if (path / MASK_FOLDER).is_dir() else ("Main", "Segmentation")
    listings = [path / "ImageSets" / kind / f"{part}.txt" for kind in kinds]
    return next((listing for listing in listings if listing.is_file()), None)


def read_voc(
    paths: Iterable[Path], images: str | PathLike | None, problems: Problems
) -> Annotations:
    """Return the annotations in VOC files.

    Raises:
        ValueError: With strict problems, for any fault.
    """
    paths = list(paths)
    roots = [(path, root) for path in paths if (root := _root(path, problems)) is not None]
    masks = _masks(paths)
    if masks:
        left_out = len(roots)
        roots = [(path, root) for path, root in roots if path.stem in masks]
        left_out -= len(roots)
        if left_out:
            problems.info("no-masks", f"{left_out} images without a mask file are left out")
    elif any(
        root.find("object") is not None and root.find(".//polygon") is None for _, root in roots
    ):
        problems.warning(
            "boxes-as-masks",
            "the files have boxes only: they are taken for the masks",
            remedy="outline the objects if their shape matters",
        )
    names = sorted({_text(entry, "name") for _, root in roots for entry in root.iter("object")})
    classes: dict[Any, str] = {number: name for number, name in enumerate(names, 1) if name}
    ids = {name: number for number, name in classes.items()}
    named = [[_text(root, "filename") or f"{path.stem}.jpg"] for path, root in roots]
    lookup = ImageLookup(paths[0].parent if paths else Path(), images, named, problems)
    read = Annotations(SOURCE, classes)
    for (path, root), candidates in zip(roots, named, strict=True):
        image_path = lookup.find(candidates, path.stem)
        objects = [
            item
            for place, entry in enumerate(root.findall("object"), start=1)
            if (item := _object(entry, place, ids, masks.get(path.stem), (path, problems)))
        ]
        read.images.append(AnnotatedImage(path.stem, image_path, objects, _size(root)))
    return read


def _parsed(path: Path) -> ElementTree.Element:
    try:
        return ElementTree.fromstring(path.read_bytes())
    except ElementTree.ParseError:
        # Not in the declared encoding. Without the declaration, the string is parsed as is.
        text = re.sub(r"^\s*<\?xml[^>]*\?>", "", files.read_text(path))
        return ElementTree.fromstring(text)


def _root(path: Path, problems: Problems) -> ElementTree.Element | None:
    try:
        root = _parsed(path)
    except (OSError, ElementTree.ParseError, LookupError) as error:
        problems.error("unreadable-annotations", f"{path} is no XML: {error}")
        return None
    if root.tag == "annotations":
        raise ValueError(f"{path} is {foreign.CVAT}")
    if root.tag != "annotation":
        problems.error(
            "unreadable-annotations", f"{path} is no VOC file: it begins with <{root.tag}>"
        )
        return None
    return root


def _masks(paths: list[Path]) -> dict[str, str]:
    """Return the mask files of images that have one, by the name of the XML file."""
    folder = paths[0].resolve().parent.parent / MASK_FOLDER if paths else Path()
    if folder.name != MASK_FOLDER or not folder.is_dir():
        return {}
    return {path.stem: str(path) for path in files.list_images(folder).images}


def _object(
    entry: ElementTree.Element,
    place: int,
    ids: dict[str, int],
    mask: str | None,
    report: tuple[Path, Problems],
) -> outlines.AnnotatedObject | None:
    path, problems = report
    where: dict[str, Any] = {"image": path.stem, "object": place}
    name = _text(entry, "name")
    if not name:
        problems.error(
            "object-without-class",
            "it has no name",
            **where,
            remedy="give each object its class, or remove it",
        )
        return None
    is_crowd = _text(entry, "difficult") == "1"
    try:
        mask_of_object = outlines.MaskFile(mask, place, _colour(place)) if mask else None
        shape: outlines.Shape = mask_of_object or _polygon(entry) or _box(entry)
    except (TypeError, ValueError) as error:
        problems.dropped(error, name, **where)
        return None
    return outlines.AnnotatedObject(ids[name], [shape], is_crowd, place)


def _colour(number: int) -> int:
    """Return the colour of an object index in VOC's palette as one number."""
    red = green = blue = 0
    for bit in range(7, -1, -1):  # three bits of the index per bit of the colour
        red, green, blue = (
            value | (number >> channel & 1) << bit
            for channel, value in enumerate((red, green, blue))
        )
        number >>= 3
    return red << 16 | green << 8 | blue


def _polygon(entry: ElementTree.Element) -> outlines.Polygon | None:
    """Return the outline that some tools write in addition to or instead of the box, or None.

    Points are pt elements with x and y, or x1, y1, x2, ... (Roboflow).
    """
    polygon = entry.find("polygon")
    if polygon is None or not len(polygon):
        return None
    points = polygon.findall("pt")
    if points:
        return outlines.polygon(*([_number(pt, axis) for pt in points] for axis in "xy"))
    count = sum(child.tag.startswith("x") for child in polygon)
    return outlines.polygon(
        *([_number(polygon, f"{axis}{n}") for n in range(1, count + 1)] for axis in "xy")
    )


def _box(entry: ElementTree.Element) -> outlines.Polygon:
    box = entry.find("bndbox")
    if box is None:
        raise ValueError("it has no bndbox")
    x1, y1, x2, y2 = (_number(box, key) for key in ("xmin", "ymin", "xmax", "ymax"))
    if x2 < x1 or y2 < y1:
        raise ValueError(f"its box ends before it begins: {[x1, y1, x2, y2]}")
    return outlines.rectangle(x1 - 1, y1 - 1, x2, y2)


def _size(root: ElementTree.Element) -> tuple[int, int] | None:
    size = root.find("size")
    try:
        return files.stated_size(_number(size, "height"), _number(size, "width"))
    except ValueError:
        return None  # the image tells


def _number(element: ElementTree.Element | None, key: str) -> float:
    text = _text(element, key) if element is not None else ""
    try:
        return float(text)
    except ValueError as error:
        raise ValueError(f"its {key} is no number: {text!r}") from error


def _text(element: ElementTree.Element, key: str) -> str:
    return (element.findtext(key) or "").strip()
