"""Masks as image files.

Two layouts: that of the Data Science Bowl 2018, one folder per image with `images/` and `masks/`,
one file per object; and `images/` next to `masks/`, one label image per image, in which every value
above 0 is one object.
"""

from collections.abc import Sequence
from os import PathLike
from pathlib import Path

from mrcnn.data import outlines
from mrcnn.data.annotated import AnnotatedDataset, AnnotatedImage, Annotations
from mrcnn.data.assembly import make_dataset
from mrcnn.data.formats import files
from mrcnn.data.formats.image_lookup import Stems
from mrcnn.data.problems import Problems

SOURCE = "masks"
SUFFIXES = ("", "_mask", "_masks", "_label", "_labels", "_cp_masks")


def load_masks(
    path: str | PathLike,
    images: str | PathLike | None = None,
    *,
    channels: int = 3,
    class_names: Sequence[str] | None = None,
) -> AnnotatedDataset:
    """Return the prepared dataset of a folder of masks; all objects have the same class.

    Args:
        path: a folder of folders that each have images/ and masks/, or a folder that has both.
        images: the image folder, if path only contains label images.
        channels: of the images.
        class_names: the name of the class; None: that of the folder.

    Raises:
        ValueError: If there are no masks, or not one image for each of them.
    """
    problems = Problems()
    return make_dataset(
        read_masks(Path(path), images, problems),
        problems,
        channels=channels,
        class_names=class_names,
    )


def recognise(path: Path) -> bool:
    """Return whether a folder has masks in one of the two layouts."""
    return bool(_object_folders(path)) or _has_label_images(path)


def read_masks(path: Path, images: str | PathLike | None, problems: Problems) -> Annotations:
    """Return the annotations in a folder of masks.

    Raises:
        ValueError: If there are none; with strict problems, any fault.
    """
    read = Annotations(SOURCE, {1: files.descriptive_name(path)}, is_unnamed=True)
    if images is not None:
        read.images += _labelled(Path(images), path, problems)
    elif folders := _object_folders(path):
        read.images += [
            image for folder in folders for image in _one_file_an_object(folder, problems)
        ]
    elif _has_label_images(path):
        read.images += _labelled(path / "images", path / "masks", problems)
    else:
        raise ValueError(f"{path} has neither images/ and masks/ nor folders that have them")
    return read


def _object_folders(path: Path) -> list[Path]:
    if not path.is_dir():
        return []
    return [folder for folder in files.list_folders(path) if _has_label_images(folder)]


def _has_label_images(path: Path) -> bool:
    return (path / "images").is_dir() and (path / "masks").is_dir()


def _one_file_an_object(folder: Path, problems: Problems) -> list[AnnotatedImage]:
    found = _listed(folder / "images", problems)
    if len(found) != 1:
        problems.error(
            "missing-image",
            f"images/ has {len(found)} images, one is expected",
            image=folder.name,
            remedy="leave the one that the masks belong to",
        )
        return []
    objects = _objects_in(folder / "masks", problems)
    return [AnnotatedImage(folder.name, str(found[0]), objects)]


def _objects_in(folder: Path, problems: Problems) -> list[outlines.AnnotatedObject]:
    """Return the objects of a folder with one file per object."""
    return [
        outlines.AnnotatedObject(1, [outlines.MaskFile(str(mask))], id=mask.stem)
        for mask in _listed(folder, problems)
    ]


def _labelled(images: Path, masks: Path, problems: Problems) -> list[AnnotatedImage]:
    if not images.is_dir() or not masks.is_dir():
        raise ValueError(f"{images} and {masks} must be folders")
    labels = _listed(masks, problems)
    by_stem = Stems(labels)
    read, used = [], set()
    for image in _listed(images, problems):
        found = next((own for end in SUFFIXES if (own := by_stem.find(image.stem + end))), [])
        if not found and (masks / image.stem).is_dir():
            objects = _objects_in(masks / image.stem, problems)
            read.append(AnnotatedImage(image.stem, str(image), objects))
            continue
        if not found:
            problems.error(
                "missing-mask",
                f"there is no mask of its name in {masks}",
                image=image.name,
                remedy="add one, of zeros where there is no object",
            )
            continue
        if len(found) > 1 or found[0] in used:
            problems.error(
                "ambiguous-image",
                f"its mask can be {found[0].name} or {found[1].name}"
                if len(found) > 1
                else f"its mask {found[0].name} is that of another image, too",
                image=image.name,
                remedy="leave one image and one mask of each name",
            )
        used.update(found)
        read.append(AnnotatedImage(image.stem, str(image), label_image=str(found[0])))
    for label in labels:
        if label not in used:
            problems.error(
                "missing-image", f"there is no image for the mask {label}", image=label.stem
            )
    return read


def _listed(folder: Path, problems: Problems) -> list[Path]:
    listing = files.list_images(folder)
    if listing.passed_over:
        problems.info("passed-over", f"{folder}: {listing.summary()}")
    return listing.images
