"""VGG Image Annotator 1 and 2 (Dutta & Zisserman 2019): one JSON or CSV file next to its images.

Entries of version 1 have their regions in a dict, those of version 2 in a list; a file may mix
them. Projects of version 2 have the entries under `_via_img_metadata`. A CSV file has one row per
region.
"""

import csv
import json
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any

from mrcnn.data import outlines
from mrcnn.data.annotated import AnnotatedDataset, AnnotatedImage, Annotations
from mrcnn.data.assembly import make_dataset
from mrcnn.data.formats import files
from mrcnn.data.formats.image_lookup import ImageLookup
from mrcnn.data.problems import POINTS, Problems

SOURCE = "via"
UNDEFINED = "not_defined"  # VIA 2's value if nothing was chosen
CSV_COLUMNS = ("filename", "region_shape_attributes", "region_attributes")


@dataclass(frozen=True)
class _Region:
    """A region with its position in the file: image name, and index in it."""

    image: str
    place: Any
    shape: dict
    attributes: dict[str, str]


def load_via(
    path: str | PathLike,
    images: str | PathLike | None = None,
    *,
    class_attribute: str | None = None,
    channels: int = 3,
    class_names: Sequence[str] | None = None,
) -> AnnotatedDataset:
    """Return the prepared dataset of a VIA file or project.

    Polygons, polylines (closed), rectangles, circles and ellipses are objects. Classes are
    numbered by name.

    Args:
        path: the JSON or CSV file.
        images: the folder of the images; None: looked for nearby.
        class_attribute: the region attribute that holds the class. None: the only one with
            values, or any of several with the same values. If there is none, all objects have one
            class, named after the folder.
        channels: of the images.
        class_names: see `make_dataset`.

    Raises:
        ValueError: If the file is not a VIA file, several attributes could be the class, or an
            object has no class.
    """
    problems = Problems()
    is_csv = Path(path).suffix.lower() == ".csv"
    content = read_csv(Path(path)) if is_csv else files.read_json(path)
    read = read_via(content, Path(path), images, problems, class_attribute)
    return make_dataset(read, problems, channels=channels, class_names=class_names)


def recognise(content: Any) -> bool:
    """Return whether the content of a JSON file is in VIA format."""
    if not isinstance(content, dict):
        return False
    entries = content.get("_via_img_metadata", content)
    if not isinstance(entries, dict) or not entries:
        return "_via_img_metadata" in content
    return all(isinstance(entry, dict) and "filename" in entry for entry in entries.values())


def read_csv(path: Path) -> dict[str, dict]:
    """Return the rows of a CSV file in the form of a JSON file; empty if it is not VIA's.

    Raises:
        ValueError: If it is not text, or the attributes of a region are not JSON.
    """
    try:
        lines = files.read_text(path).removeprefix("#").splitlines()  # VIA 1 has a # there
        separator = ";" if lines and lines[0].count(";") > lines[0].count(",") else ","
        rows = list(csv.DictReader(lines, delimiter=separator))
    except csv.Error as error:
        raise ValueError(f"{path} is no CSV file: {error}") from error
    if not rows or not set(CSV_COLUMNS) <= set(rows[0]):
        return {}
    entries: dict[str, dict] = {}
    for number, row in enumerate(rows, start=2):
        entry = entries.setdefault(
            f"{row['filename']}{row.get('file_size')}", {"filename": row["filename"], "regions": []}
        )
        try:
            shape, attributes = (json.loads(row[name] or "{}") for name in CSV_COLUMNS[1:])
        except (json.JSONDecodeError, RecursionError) as error:
            raise ValueError(f"{path}: the attributes in row {number} are no JSON") from error
        if shape:
            entry["regions"].append({"shape_attributes": shape, "region_attributes": attributes})
    return entries


def read_via(
    content: Any,
    path: Path,
    images: str | PathLike | None,
    problems: Problems,
    class_attribute: str | None = None,
) -> Annotations:
    """Return the annotations in the content of a VIA file.

    Raises:
        ValueError: If it is not in VIA format; with strict problems, any fault.
    """
    if not recognise(content):
        raise ValueError(f"{path} is no VIA file: its entries have no filename")
    entries = list(content.get("_via_img_metadata", content).values())
    regions = [_regions(entry, problems) for entry in entries]
    every = [region for each in regions for region in each]
    if class_attribute is None:
        class_attribute = _class_attribute(every, problems)
    elif not any(class_attribute in region.attributes for region in every):
        there_are = sorted({name for region in every for name in region.attributes})
        raise ValueError(
            f"{path}: no region has the attribute {class_attribute!r}; there are {there_are}"
        )
    classes = _classes(every, class_attribute, path, problems)
    names = [str(entry["filename"]) for entry in entries]
    home = _default_folder(content)
    candidates = [[name, f"{home}/{name}"] if home else [name] for name in names]
    lookup = ImageLookup(path, images, candidates, problems)
    ids = {name: class_id for class_id, name in classes.items()}
    read = Annotations(SOURCE, classes, is_unnamed=class_attribute is None)
    for name, stated, each in zip(names, candidates, regions, strict=True):
        objects = []
        for region in each:
            value = region.attributes.get(class_attribute) if class_attribute else classes[1]
            shape = _shape(region, value, problems)
            if shape is not None and value is not None:
                objects.append(outlines.AnnotatedObject(ids[value], [shape], id=region.place))
        read.images.append(AnnotatedImage(name, lookup.find(stated), objects))
    return read


def _default_folder(content: dict) -> str:
    """Return the image folder stated in a VIA 2 project; "" if it states none."""
    settings = content.get("_via_settings")
    core = settings.get("core") if isinstance(settings, dict) else None
    folder = core.get("default_filepath") if isinstance(core, dict) else None
    return folder.strip().rstrip("/") if isinstance(folder, str) else ""


def _regions(entry: dict, problems: Problems) -> list[_Region]:
    image, listed = str(entry["filename"]), entry.get("regions") or {}
    if not isinstance(listed, dict | list):
        problems.error("bad-entry", "its regions are neither a dict nor a list", image=image)
        return []
    places = listed.items() if isinstance(listed, dict) else enumerate(listed)
    regions = []
    for place, region in places:
        shape = region.get("shape_attributes") if isinstance(region, dict) else None
        if not isinstance(shape, dict):
            problems.error("bad-entry", "it has no shape_attributes", image=image, object=place)
            continue
        # Some edited files have the attributes inside the shape.
        attributes = region.get("region_attributes") or shape.get("region_attributes") or {}
        if not isinstance(attributes, dict):
            problems.error(
                "bad-entry", "its region_attributes are no dict", image=image, object=place
            )
            continue
        if "" in attributes:
            problems.info(
                "empty-attribute", "it has an attribute without a name", image=image, object=place
            )
        values = {str(name): _value(value) for name, value in attributes.items() if name != ""}
        named = {name: value for name, value in values.items() if value}
        regions.append(_Region(image, place, shape, named))
    return regions


def _value(value: Any) -> str:
    """Return the value of an attribute; for checkboxes, the checked one."""
    if isinstance(value, dict):
        ticked = [name for name, state in value.items() if _is_ticked(state)]
        return str(ticked[0]).strip() if len(ticked) == 1 else ""
    return "" if value in (None, UNDEFINED) else str(value).strip()


def _is_ticked(state: Any) -> bool:
    return str(state).strip().lower() not in ("", "false", "0", "none") if state else False


def _class_attribute(regions: list[_Region], problems: Problems) -> str | None:
    """Return the attribute that holds the class; None if no region has attributes."""
    counts = Counter(name for region in regions for name in region.attributes)
    if not counts:
        return None
    names = [name for name, _ in counts.most_common()]
    columns = {name: [region.attributes.get(name) for region in regions] for name in names}
    different = [name for name in names if columns[name] != columns[names[0]]]
    if different:
        values = {name: sorted({value for value in columns[name] if value}) for name in names}
        listed = "; ".join(f"{name!r} with {_few(values[name])}" for name in names)
        problems.error(
            "ambiguous-class",
            f"several attributes could be the class: {listed}",
            remedy="name one by class_attribute (--class-attribute)",
        )
    return names[0]


def _classes(
    regions: list[_Region], attribute: str | None, path: Path, problems: Problems
) -> dict[Any, str]:
    if attribute is None:
        return {1: files.descriptive_name(path.resolve().parent)}
    without = [region for region in regions if attribute not in region.attributes]
    for region in without:
        problems.error(
            "object-without-class",
            f"it has no value of {attribute!r} ({len(without)} of {len(regions)} objects)",
            image=region.image,
            object=region.place,
            remedy="give each object its class, or remove it",
        )
    values = {value for each in regions if (value := each.attributes.get(attribute)) is not None}
    return dict(enumerate(sorted(values), start=1))


def _shape(region: _Region, value: str | None, problems: Problems) -> outlines.Polygon | None:
    where = {"class_name": value, "image": region.image, "object": region.place}
    kind = str(region.shape.get("name"))[:40]
    if kind == "point":
        problems.dropped("a point has no area", reason=POINTS, **where)
        return None
    if kind not in _SHAPES:
        problems.dropped(f"{kind!r} is no shape of VIA", **where)
        return None
    try:
        return _SHAPES[kind](region.shape)
    except KeyError as error:
        problems.dropped(f"the {kind} lacks {error.args[0]}", **where)
    except (TypeError, ValueError, OverflowError) as error:
        problems.dropped(error, **where)
    return None


def _outline(shape: dict) -> outlines.Polygon:
    return outlines.polygon(shape["all_points_x"], shape["all_points_y"])


def _rectangle(shape: dict) -> outlines.Polygon:
    x, y = float(shape["x"]), float(shape["y"])
    return outlines.rectangle(x, y, x + float(shape["width"]), y + float(shape["height"]))


def _circle(shape: dict) -> outlines.Polygon:
    radius = float(shape["r"])
    return outlines.ellipse((float(shape["cx"]), float(shape["cy"])), (radius, radius))


def _ellipse(shape: dict) -> outlines.Polygon:
    centre = float(shape["cx"]), float(shape["cy"])
    radii = float(shape["rx"]), float(shape["ry"])
    return outlines.ellipse(centre, radii, float(shape.get("theta") or 0))


_SHAPES: dict[str, Callable[[dict], outlines.Polygon]] = {
    "polygon": _outline,
    "polyline": _outline,
    "rect": _rectangle,
    "circle": _circle,
    "ellipse": _ellipse,
}


def _few(values: list[str]) -> str:
    return ", ".join(values[:5]) + (", ..." if len(values) > 5 else "")
