"""The dataset that every reader of annotations makes: objects as outlines, masks when asked."""

import base64
import dataclasses
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from mrcnn.data import outlines
from mrcnn.data.dataset import BadSample, Dataset
from mrcnn.data.outlines import AnnotatedObject
from mrcnn.data.problems import Finding, Problems
from mrcnn.geometry import image_files, images


@dataclass(frozen=True)
class AnnotatedImage:
    """One image as its annotations describe it.

    Attributes:
        id: as the file has it.
        path: of the image file.
        objects: in the order of the file.
        size: (H, W) as the annotations state it; None: that of the image file.
        label_image: a file in which each value above 0 is one more object, of class 1.
        embedded: a labelme file that holds the image, where it is in no file of its own.
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
        classes: name of each of the source's ids, in the order in which they are to be numbered.
        images: with their objects.
        is_unnamed: the files name no class: there is one, named after a folder.
        keypoint_names: of the keypoints that objects have.
    """

    format: str
    classes: Mapping[Any, str]
    images: list[AnnotatedImage] = field(default_factory=list)
    is_unnamed: bool = False
    keypoint_names: Sequence[str] = ()


class AnnotatedDataset(Dataset):
    """Images with outlined objects. The readers of `mrcnn.data.formats` make it.

    Annotations are meant for the upright picture. Where the size they state fits the image only as
    it is stored (EXIF orientation 5 to 8), they are taken in that frame and turned with it.

    Attributes:
        format: the name of the format that was read.
        is_unnamed: its files name no class: there is one, named after a folder.
        problems: what the reader found.
    """

    def __init__(
        self, annotations: Annotations, problems: Sequence[Finding] = (), channels: int = 3
    ) -> None:
        super().__init__()
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
        self._kept: dict[int, np.ndarray] = {}  # places of the objects that have a pixel
        self.prepare()

    @property
    def num_objects(self) -> int:
        """The number of objects of all images, crowds included."""
        return sum(len(self.objects(image_id)) for image_id in self.image_ids)

    def annotated(self, image_id: int) -> AnnotatedImage:
        """Return an image as its annotations describe it."""
        return self.image_info[image_id]["annotated"]

    def objects(self, image_id: int) -> Sequence[AnnotatedObject]:
        """Return the objects of an image, with those of its label image.

        Raises:
            ValueError: the label image cannot be read.
        """
        image = self.annotated(image_id)
        if image.label_image is None:
            return image.objects
        return [
            AnnotatedObject(1, [outlines.MaskFile(image.label_image, value)], id=value)
            for value in outlines.labels_of(image.label_image)
        ]

    def object_size(self, image_id: int) -> tuple[int, int]:
        """Return height and width of the frame that the objects are given in.

        Raises:
            ValueError: no size is stated, and the image cannot be read.
        """
        image = self.annotated(image_id)
        if image.size is not None:
            return image.size
        (height, width), orientation = image_files.read_size(self.image_file(image_id))
        return (width, height) if orientation >= 5 else (height, width)

    def image_file(self, image_id: int) -> str | bytes:
        """Return the path of an image, or its bytes where it is embedded in the annotations.

        Raises:
            ValueError: the embedded image is damaged.
        """
        image = self.annotated(image_id)
        if image.embedded is None:
            return image.path
        content = json.loads(Path(image.embedded).read_bytes())
        return base64.b64decode(content["imageData"])

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
            raise BadSample(str(error)) from error

    def load_mask(self, image_id: int) -> tuple[np.ndarray, np.ndarray]:
        """Return the objects of an image: masks (H, W, N) bool, class_ids (N,) int32.

        Crowds have the negative class id. Objects without a pixel in the image are left out.

        Raises:
            BadSample: a mask cannot be read, or has another size than the image.
        """
        try:
            objects = self.objects(image_id)
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

    def classes_in(self, image_id: int) -> set[int]:
        """Return the classes of an image's objects, those without a pixel too; draws no mask."""
        return {abs(self.class_id_of(item)) for item in self.objects(image_id)}

    def turn(self, image_id: int) -> int:
        """Return the EXIF orientation that leads from the objects' frame to the upright image."""
        size = self.annotated(image_id).size
        # A square cannot tell, and what states no size is annotated on the picture as seen.
        if size is None or size[0] == size[1]:
            return 1
        if image_id not in self._turns:
            try:
                stored, orientation = image_files.read_size(self.image_file(image_id))
            except ValueError:
                return 1
            self._turns[image_id] = orientation if orientation >= 5 and stored == size else 1
        return self._turns[image_id]


def make_dataset(
    annotations: Annotations,
    problems: Problems,
    *,
    channels: int = 3,
    class_names: Sequence[str] | None = None,
) -> AnnotatedDataset:
    """Return the prepared dataset of what a reader read; its warnings are logged.

    Args:
        problems: of the reader.
        channels: of the images.
        class_names: number the classes in this order, the background left out; None: as read.

    Raises:
        ValueError: the problems are strict, and a class with objects is none of `class_names`.
    """
    if class_names is not None:
        annotations = _renamed(annotations, class_names, problems)
    if problems.strict:
        problems.log()
    return AnnotatedDataset(annotations, problems.found, channels)


def _renamed(
    annotations: Annotations, class_names: Sequence[str], problems: Problems
) -> Annotations:
    """Return annotations with these classes, in this order, and ids from the annotations."""
    if annotations.is_unnamed and len(class_names) == 1:
        classes = dict.fromkeys(annotations.classes, class_names[0])
        return dataclasses.replace(annotations, classes=classes)
    ids = {name: class_id for class_id, name in annotations.classes.items()}
    used = {item.class_id for image in annotations.images for item in image.objects}
    unknown = [name for name in ids if name not in class_names and ids[name] in used]
    if unknown:
        problems.error(
            "unknown-class",
            f"there are objects of the classes {unknown}, known are {list(class_names)}",
            remedy="rename the classes, or leave these objects out",
        )
    names = [*class_names, *unknown]
    free = (f"absent {number}" for number in range(len(names)))
    classes = {ids[name] if name in ids else next(free): name for name in names}
    return dataclasses.replace(annotations, classes=classes, is_unnamed=False)
