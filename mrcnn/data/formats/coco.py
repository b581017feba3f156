"""COCO annotations: polygons, RLE and crowds (Lin et al. 2014, cocodataset.org).

Also LVIS (Gupta et al. 2019), and exports in variants of COCO's format, such as Roboflow's.
"""

from collections import Counter
from collections.abc import Sequence
from os import PathLike
from pathlib import Path, PurePosixPath
from typing import Any

from mrcnn import class_names as names_of_classes
from mrcnn.data.annotated import AnnotatedDataset, AnnotatedImage, Annotations
from mrcnn.data.assembly import make_dataset
from mrcnn.data.formats import files, foreign
from mrcnn.data.formats.coco_objects import ObjectReader
from mrcnn.data.formats.image_lookup import ImageLookup
from mrcnn.data.problems import Problems

SOURCE = "coco"


def load_coco(
    annotations: str | PathLike,
    image_dir: str | PathLike | None = None,
    *,
    allow_empty: bool = False,
    channels: int = 3,
    class_names: Sequence[str] | None = None,
) -> AnnotatedDataset:
    """Return the prepared dataset of a COCO instances file.

    Classes are numbered from 1 in the order of their category ids. Images without objects are
    kept. An object without a pixel in its image is dropped with a warning; polygons are clipped
    to the image.

    Args:
        annotations: the JSON file.
        image_dir: the folder that the file names are relative to; None: looked for nearby.
        allow_empty: accept a file without annotations.
        channels: of the images.
        class_names: see `make_dataset`.

    Raises:
        ValueError: If the file is not JSON, lacks a part, or refers to unlisted ids.
    """
    problems = Problems()
    content = files.read_json(annotations)
    read = read_coco(content, Path(annotations), image_dir, problems)
    if not any(image.objects for image in read.images) and not allow_empty:
        raise ValueError(f"{annotations} has no annotations; pass allow_empty=True if intended")
    return make_dataset(read, problems, channels=channels, class_names=class_names)


def recognise(content: Any) -> bool:
    """Return whether the content of a JSON file is in COCO format."""
    if foreign.described(content):
        return False
    listed = isinstance(content, dict) and content.get("images")
    return isinstance(listed, list) or (isinstance(listed, dict) and "annotations" in content)


def read_coco(
    content: Any, path: Path, image_dir: str | PathLike | None, problems: Problems
) -> Annotations:
    """Return the annotations in the content of a COCO file.

    Raises:
        ValueError: If it lacks a list, or an entry lacks a key; with strict problems, any fault.
    """
    listed = {part: _list_of(content, part, path) for part in ("images", "categories")}
    annotations = _list_of(content, "annotations", path)
    images = _images(listed["images"], path, problems)
    classes = _classes(listed["categories"], annotations, path, problems)
    has_outlines = any(annotation.get("segmentation") for annotation in annotations)
    if annotations and not has_outlines:
        problems.warning(
            "boxes-as-masks",
            f"no object of {path} has a segmentation: the masks are the boxes",
            remedy="outline the objects if their shape matters",
        )
    names = {image_id: _file_names(image) for image_id, image in images.items()}
    sizes = {i: _size(image, path, problems) for i, image in images.items()}
    shown = {i: (names[i][0] if names[i] else str(i), sizes[i]) for i in images}
    objects = ObjectReader(path, shown, classes, has_outlines, problems).read(annotations)
    lookup = ImageLookup(path, image_dir, list(names.values()), problems)
    return Annotations(
        SOURCE,
        classes,
        [AnnotatedImage(i, lookup.find(names[i]), objects[i], sizes[i]) for i in images],
        keypoint_names=_keypoint_names(listed["categories"]),
        titles=_titles(listed["categories"]),
    )


def image_names(content: Any, path: Path) -> dict[Any, list[str]]:
    """Return the possible file names of each image id.

    Raises:
        ValueError: If the content is not in COCO format.
    """
    return {image["id"]: _file_names(image) for image in _list_of(content, "images", path)}


def category_names(content: Any, path: Path) -> dict[Any, str]:
    """Return the name of each category id.

    Raises:
        ValueError: If the content is not in COCO format.
    """
    return {
        entry["id"]: names_of_classes.text_of(entry.get("name"), entry["id"])
        for entry in _list_of(content, "categories", path)
    }


def _list_of(content: Any, part: str, path: Path) -> list[dict]:
    """Return one of a file's lists, which some programs write as an object keyed by id."""
    listed = content.get(part) if isinstance(content, dict) else None
    if listed is None and part == "annotations":
        return []
    if isinstance(listed, dict):
        listed = list(listed.values())
    if not isinstance(listed, list):
        raise ValueError(f"{path} is no COCO file: it has no list of {part}")
    for record in listed:
        if not isinstance(record, dict):
            raise ValueError(f"{path}: an entry of {part} is no object: {str(record)[:80]}")
    if part != "annotations":
        for record in listed:
            _check_id(record, part, path)
    return listed


def _check_id(record: dict, part: str, path: Path) -> None:
    if record.get("id") is None:
        raise ValueError(f"{path}: an entry of {part} lacks id: {str(record)[:200]}")
    if isinstance(record["id"], float) and record["id"].is_integer():
        record["id"] = int(record["id"])
    if not isinstance(record["id"], int | str):
        raise ValueError(
            f"{path}: an entry of {part} has an id that is neither a whole number nor a text: "
            f"{str(record)[:200]}"
        )


def _images(listed: list[dict], path: Path, problems: Problems) -> dict[Any, dict]:
    """Return the image entries by id."""
    images: dict[Any, dict] = {}
    for image in listed:
        first = images.setdefault(image["id"], image)
        if first is not image and first.get("file_name") != image.get("file_name"):
            problems.error(
                "duplicate-image",
                f"{path}: several images have the same id, {image['id']!r} "
                f"({first.get('file_name')!r} and {image.get('file_name')!r})",
                remedy="give each a unique one",
            )
    return images


def _size(image: dict, path: Path, problems: Problems) -> tuple[int, int] | None:
    try:
        return files.stated_size(image.get("height"), image.get("width"))
    except ValueError as error:
        name = str(image.get("file_name") or image["id"])
        problems.error("image-size", f"{path}: it {error}", image=name)
        return None


def _file_names(image: dict) -> list[str]:
    """Return the possible file names of an image, the stated one first.

    LVIS 0.5 writes COCO's names of 2014, LVIS 1 none at all; the files are named after the id, as
    in the URL.
    """
    names = [image.get("file_name"), PurePosixPath(str(image.get("coco_url") or "")).name]
    number = str(image["id"]).lstrip("0") or "0"
    if number.isdecimal() and number in str(image.get("file_name") or number):
        names.append(f"{int(image['id']):012d}.jpg")
    return [str(name) for name in names if name]


def _classes(
    categories: list[dict], annotations: list[dict], path: Path, problems: Problems
) -> dict[Any, str]:
    """Return the names by category id, in order."""
    by_id = sorted(categories, key=lambda entry: (isinstance(entry["id"], str), entry["id"]))
    pairs = [
        (entry["id"], names_of_classes.text_of(entry.get("name"), entry["id"])) for entry in by_id
    ]
    named = list(dict.fromkeys(pairs))
    used = {str(each) for each in map(_category_of, annotations)}
    kept = _without_unused_twins(named, used, problems)
    for place, key in enumerate(("id", "name")):
        counts = Counter(entry[place] for entry in kept)
        for value in [value for value, count in counts.items() if count > 1]:
            ids = [entry[0] for entry in kept if entry[place] == value]
            problems.error(
                "duplicate-class",
                f"{path}: {counts[value]} categories have the {key} {value!r} (ids {ids})",
                remedy="rename or remove all but one",
            )
    return dict(kept)


def _category_of(annotation: dict) -> Any:
    value = annotation.get("category_id")
    return int(value) if isinstance(value, float | bool) and value == value // 1 else value


def _without_unused_twins(
    named: list[tuple[Any, str]], used: set[str], problems: Problems
) -> list[tuple[Any, str]]:
    """Return the categories without unused duplicates of a name."""
    left = Counter(name for _, name in named)
    kept = []
    for class_id, name in named:
        if left[name] > 1 and str(class_id) not in used:
            left[name] -= 1
            problems.warning(
                "duplicate-class",
                f"category {class_id} is left out: it has no objects, and another one is named "
                f"{name!r}",
                remedy="remove it from the file",
            )
        else:
            kept.append((class_id, name))
    return kept


def _titles(categories: list[dict]) -> list[Any]:
    """Return the ids that are not classes unless they have objects.

    They are the background, and the dataset title that Roboflow lists as the parent of the
    classes, itself without parent.
    """
    parents = {str(entry.get("supercategory")) for entry in categories}
    has_classes = bool(parents - {"none"})
    titles = []
    for entry in categories:
        name = names_of_classes.text_of(entry.get("name"), entry["id"])
        has_no_parent = entry.get("supercategory") == "none" and has_classes
        is_title = entry["id"] == 0 and (has_no_parent or name in parents)
        if is_title or names_of_classes.may_be_background(name):
            titles.append(entry["id"])
    return titles


def _keypoint_names(categories: list[dict]) -> list[str]:
    """Return the keypoint names of the category with the most keypoints (COCO: person)."""
    listed = [entry.get("keypoints") for entry in categories]
    names = max((each for each in listed if isinstance(each, list)), key=len, default=[])
    return [str(name) for name in names]
