"""The annotated dataset that all readers return: objects as outlines, masks on demand."""

import base64
import binascii
import copy
import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import numpy as np
from pycocotools import mask as coco_mask

from mrcnn.data import outlines
from mrcnn.data.dataset import BadSample, Dataset, described
from mrcnn.data.outlines import AnnotatedObject
from mrcnn.data.problems import Finding, Loss
from mrcnn.geometry import image_files, images
from mrcnn.geometry import masks as mask_math

SAME_BOX = 0.5  # minimum IoU of a stated box with the mask's; below, it has another format
TRUSTED_PIXELS = 2**28  # for all masks of an image, unless its file confirms the size


@dataclass(frozen=True)
class AnnotatedImage:
    """One image as its annotations describe it.

    Attributes:
        id: as in the file.
        path: path of the image file.
        objects: in file order.
        size: (H, W) as stated in the annotations; None: that of the image file.
        label_image: a file in which each value above 0 is a further object, of class 1.
        embedded: a labelme file that contains the image, if it has no file of its own.
    """

    id: Any
    path: str
    objects: Sequence[AnnotatedObject] = ()
    size: tuple[int, int] | None = None
    label_image: str | None = None
    embedded: str | None = None


@dataclass
class Annotations:
    """What a reader returns.

    Attributes:
        format: its name in `formats.FORMATS`, and the name of the source.
        classes: class names by the source's ids, in numbering order.
        images: with their objects.
        is_unnamed: the files have no class names: the single class is named after a folder.
        keypoint_names: names of the objects' keypoints.
        titles: ids listed as classes that are not classes unless some part of the dataset has
            objects of them: the background, or the title of the dataset.
    """

    format: str
    classes: Mapping[Any, str]
    images: list[AnnotatedImage] = field(default_factory=list)
    is_unnamed: bool = False
    keypoint_names: Sequence[str] = ()
    titles: Collection[Any] = ()

    def used_names(self) -> set[str]:
        """Return the names of the classes that have objects."""
        used = {item.class_id for image in self.images for item in image.objects}
        used |= {1} if any(image.label_image for image in self.images) else set()
        return {name for class_id, name in self.classes.items() if class_id in used}


class AnnotatedDataset(Dataset):
    """Images with outlined objects, as returned by the readers of `mrcnn.data.formats`.

    Annotations refer to the upright image. If their stated size only fits the image as stored
    (EXIF orientation 5 to 8), they are taken in that frame and rotated with it.

    Attributes:
        format: the name of the format.
        is_unnamed: the files have no class names: the single class is named after a folder.
        problems: the reader's findings.
        losses: the objects that it left out.
    """

    def __init__(
        self,
        annotations: Annotations,
        problems: Sequence[Finding] = (),
        channels: int = 3,
        losses: Sequence[Loss] = (),
    ) -> None:
        super().__init__()
        self.losses = list(losses)
        self.format = annotations.format
        self.is_unnamed = annotations.is_unnamed
        self.keypoint_names = annotations.keypoint_names
        self.problems = list(problems)
        self.channels = channels
        for class_id, name in annotations.classes.items():
            self.add_class(self.format, class_id, name)
        for image in annotations.images:
            self.add_image(self.format, image.id, image.path, annotated=image)
        self._turns: dict[int, int] = {}
        self._kept: dict[int, np.ndarray] = {}  # indices of the objects that have a pixel
        self.prepare()

    @property
    def num_objects(self) -> int:
        """The number of objects in all images, including crowds."""
        return sum(len(self.objects(image_id)) for image_id in self.image_ids)

    def __repr__(self) -> str:
        """Describe the dataset: images, objects, classes and path."""
        counts = f"{self.num_images} images"
        if not any(info["annotated"].label_image for info in self.image_info):  # would be read
            counts += f", {self.num_objects} objects"
        return described(self, f"{self.format}, {counts}")

    def subset(self, image_ids: Sequence[int]) -> Self:
        """Return a dataset of some of the images, with all classes and the findings on them.

        Args:
            image_ids: in the order of the new dataset, which numbers them from 0.
        """
        part = copy.copy(self)
        part.image_info = [self.image_info[image_id] for image_id in image_ids]
        names = {Path(info["path"]).name for info in part.image_info}
        part.problems = [
            each for each in self.problems if each.image is None or each.image in names
        ]
        part.losses = [each for each in self.losses if each.image is None or each.image in names]
        part._turns, part._kept = {}, {}
        part.prepare()
        return part

    def annotated(self, image_id: int) -> AnnotatedImage:
        """Return an image as its annotations describe it."""
        return self.image_info[image_id]["annotated"]

    def objects(self, image_id: int) -> Sequence[AnnotatedObject]:
        """Return the objects of an image, including those of its label image.

        Raises:
            ValueError: If the label image cannot be read.
        """
        image = self.annotated(image_id)
        if image.label_image is None:
            return image.objects
        return [
            AnnotatedObject(1, [outlines.MaskFile(image.label_image, value)], id=value)
            for value in outlines.labels_of(image.label_image)
        ]

    def object_size(self, image_id: int) -> tuple[int, int]:
        """Return height and width of the frame of the objects' coordinates.

        Raises:
            ValueError: If no size is stated and the image cannot be read.
        """
        image = self.annotated(image_id)
        if image.size is not None:
            return image.size
        (height, width), orientation = image_files.read_size(self.image_file(image_id))
        return (width, height) if orientation >= 5 else (height, width)

    def upright_size(self, image_id: int) -> tuple[int, int]:
        """Return height and width of the upright image, according to the annotations.

        Raises:
            ValueError: As `object_size`.
        """
        height, width = self.object_size(image_id)
        return (width, height) if self.turn(image_id) >= 5 else (height, width)

    def image_file(self, image_id: int) -> str | bytes:
        """Return the path of an image, or its bytes if it is embedded in the annotations.

        Raises:
            ValueError: If the embedded image is damaged.
        """
        image = self.annotated(image_id)
        if image.embedded is None:
            return image.path
        try:
            encoded = json.loads(Path(image.embedded).read_bytes())["imageData"]
            return base64.b64decode(encoded.rpartition(",")[2])  # of data:image/png;base64,...
        except (OSError, KeyError, AttributeError, binascii.Error, ValueError) as error:
            raise ValueError(f"{image.embedded}: the embedded image is damaged: {error}") from error

    def class_id_of(self, item: AnnotatedObject) -> int:
        """Return the class id of an object, negative for a crowd."""
        class_id = self.map_source_class_id(f"{self.format}.{item.class_id}")
        return -class_id if item.is_crowd else class_id

    def load_image(self, image_id: int) -> np.ndarray:
        """Return an image, upright: (H, W, C) uint8.

        Raises:
            BadSample: the file is missing or cannot be read.
        """
        try:
            return images.read_image(self.image_file(image_id), self.channels)
        except ValueError as error:
            inside = self.annotated(image_id).embedded
            raise BadSample(f"{inside}: {error}" if inside else str(error)) from error

    def load_mask(self, image_id: int) -> tuple[np.ndarray, np.ndarray]:
        """Return the objects of an image: masks (H, W, N) bool, class_ids (N,) int32.

        Crowds have the negative class id. Objects without a pixel in the image are left out.

        Raises:
            BadSample: If a mask cannot be read, or its size differs from the image's.
        """
        try:
            objects = self.objects(image_id)
            self._check_claim(image_id, len(objects))
            masks, kept = outlines.rasterise(objects, self.object_size(image_id))
            class_ids = [self.class_id_of(objects[place]) for place in kept]
            self._kept[image_id] = kept
        except ValueError as error:
            raise BadSample(str(error)) from error
        upright = image_files.turned(masks, self.turn(image_id))
        return upright, np.array(class_ids, np.int32).reshape(-1)

    def load_keypoints(self, image_id: int) -> np.ndarray:
        """Return the keypoints of the objects of `load_mask`: (N, P, 3); see `Dataset`.

        Raises:
            BadSample: as `load_mask`.
        """
        try:
            objects, size = self.objects(image_id), self.object_size(image_id)
            if image_id not in self._kept:
                self._kept[image_id] = outlines.rasterise(objects, size)[1]
        except ValueError as error:
            raise BadSample(str(error)) from error
        kept = self._kept[image_id]
        points = np.zeros((len(kept), len(self.keypoint_names), 3), np.float32)
        for target, place in zip(points, kept, strict=True):
            if (found := objects[place].keypoints) is None:
                continue
            if found.shape != target.shape:
                raise BadSample(
                    f"object {objects[place].id} has {len(found)} keypoints, its categories name "
                    f"{len(target)}"
                )
            target[:] = found
        points[..., :2] = image_files.turned_points(points[..., :2], size, self.turn(image_id))
        return points

    def records(self, image_id: int) -> list[dict[str, Any]]:
        """Return the objects of an image as records for COCO evaluation, without dense masks.

        Each has category_id (the class id of this dataset), iscrowd, segmentation (RLE, upright),
        and area and bbox if the file states them.

        Raises:
            BadSample: as `load_mask`.
        """
        try:
            objects, size = self.objects(image_id), self.object_size(image_id)
            rles = outlines.encode_each(objects, size)
        except ValueError as error:
            raise BadSample(str(error)) from error
        turn = self.turn(image_id)
        found = []
        for item, rle in zip(objects, rles, strict=True):
            if not coco_mask.area(rle):
                continue
            stated = item.stated
            if turn != 1:
                mask = mask_math.from_rle([rle], size)
                rle, stated = mask_math.to_rle(image_files.turned(mask, turn))[0], {}
            stated = _agreeing(stated, rle)
            class_id = self.class_id_of(item)
            record = {"category_id": abs(class_id), "iscrowd": int(class_id < 0), **stated}
            found.append({**record, "segmentation": rle})
        return found

    def classes_in(self, image_id: int) -> set[int]:
        """Return the classes of an image's objects, even without pixels; decodes no masks."""
        return {abs(self.class_id_of(item)) for item in self.objects(image_id)}

    def _check_claim(self, image_id: int, num_objects: int) -> None:
        """Reject a large stated size that the image does not have, before masks take memory."""
        size = self.annotated(image_id).size
        if size is None or size[0] * size[1] * num_objects <= TRUSTED_PIXELS:
            return
        stored, _ = image_files.read_size(self.image_file(image_id))
        if sorted(stored) != sorted(size):
            raise BadSample(
                f"its annotations are for {size[1]} x {size[0]} pixels, the image has "
                f"{stored[1]} x {stored[0]}"
            )

    def turn(self, image_id: int) -> int:
        """Return the EXIF orientation that maps the objects' frame to the upright image."""
        size = self.annotated(image_id).size
        # Squares are ambiguous; without a stated size, annotations refer to the upright image.
        if size is None or size[0] == size[1]:
            return 1
        if image_id not in self._turns:
            try:
                stored, orientation = image_files.read_size(self.image_file(image_id))
            except ValueError:
                return 1
            self._turns[image_id] = orientation if orientation >= 5 and stored == size else 1
        return self._turns[image_id]


def _agreeing(stated: dict[str, Any], rle: dict) -> dict[str, Any]:
    """Return an object's stated values, without a box that contradicts its mask."""
    if "bbox" not in stated:
        return stated
    boxes = np.array([stated["bbox"], coco_mask.toBbox([rle])[0]], np.float64)
    overlap = coco_mask.iou(boxes[:1], boxes[1:], [0])[0, 0]
    return stated if overlap >= SAME_BOX else {k: v for k, v in stated.items() if k != "bbox"}
