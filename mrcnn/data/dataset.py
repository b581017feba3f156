"""Datasets: the classes and images of one or several sources, with Matterport's interface."""

import logging
import os
from collections.abc import Collection, Sequence
from typing import Any

import numpy as np

from mrcnn.data.problems import one_line
from mrcnn.geometry import images

logger = logging.getLogger("mrcnn")
MOST_LISTED = 10


class BadSample(ValueError):  # noqa: N818 (it names the sample, not a fault of the program)
    """A sample that cannot be used: a missing or unreadable image, masks of another size."""

    def __init__(self, message: str) -> None:
        super().__init__(one_line(message))


def summary(error: Exception) -> str:
    """Describe an image's error in one line, with its type unless that is redundant."""
    if isinstance(error, BadSample):
        return str(error)
    return f"{type(error).__name__}: {error}".removesuffix(": ")


class Dataset:
    """Images with their objects. Subclass it: add classes and images, override `load_mask`.

        class Shapes(Dataset):
            def load(self, folder):
                self.add_class("shapes", 1, "square")
                self.add_image("shapes", image_id="a", path=folder / "a.png")

            def load_mask(self, image_id):
                return masks, class_ids

    Call `prepare()` when everything is added. A source is a collection of images with its own
    class ids; classes that a source does not have are not trained on its images.

    Attributes:
        class_info: per class {"source", "id", "name"}, background first.
        class_names: names of the classes, background first, once prepared: as given, including
            commas; "class 7" if the class with id 7 has no name.
        image_info: per image {"id", "source", "path"} and the other arguments of `add_image`.
        channels: number of channels of the images, C.
    """

    channels = 3
    keypoint_names: Sequence[str] = ()
    _known: set[tuple[str, Any]] = set()  # noqa: RUF012 (replaced by each instance's own)
    _default_was_told = False

    def __init__(self, class_map: Any = None) -> None:  # noqa: ARG002 (Matterport's signature)
        self.class_info: list[dict] = [{"source": "", "id": 0, "name": "BG"}]
        self.image_info: list[dict] = []
        self.source_class_ids: dict[str, list[int]] = {}

    def __repr__(self) -> str:
        """Describe the dataset: images, classes and path."""
        return described(self, f"{len(self.image_info)} images")

    def add_class(self, source: str, class_id: Any, class_name: str) -> None:
        """Add a class of a source, unless it exists.

        Raises:
            ValueError: If the source has a dot, which separates sources from ids.
        """
        if "." in source:
            raise ValueError(f"a source name must not contain a dot, got {source!r}")
        if len(self._known) != len(self.class_info):  # programs change the list themselves
            self._known = {(info["source"], info["id"]) for info in self.class_info}
        if (source, class_id) not in self._known:
            self._known.add((source, class_id))
            self.class_info.append({"source": source, "id": class_id, "name": class_name})

    def add_image(self, source: str, image_id: Any, path: Any, **kwargs: Any) -> None:
        """Add an image; keyword arguments are stored in its `image_info`."""
        self.image_info.append({"id": image_id, "source": source, "path": path, **kwargs})

    def add_dataset(
        self, source: str, other: "Dataset", class_ids: Collection[int] | None = None
    ) -> None:
        """Add the classes and images of a prepared dataset as one source of this one.

        Args:
            source: the name of the new source.
            class_ids: add only these classes of the other dataset, and images with objects of
                them; None for everything.
        """
        wanted = [
            number for number in other.class_ids[1:] if class_ids is None or number in class_ids
        ]
        for number in wanted:
            self.add_class(source, other.class_info[number]["id"], other.class_info[number]["name"])
        self.keypoint_names = self.keypoint_names or other.keypoint_names
        for image_id in other.image_ids:
            if class_ids is None or other.classes_in(image_id) & set(wanted):
                info = {**other.image_info[image_id], "origin": (other, int(image_id))}
                info["takes_all"] = class_ids is None
                self.image_info.append({**info, "source": source})

    def prepare(self, class_map: Any = None) -> None:  # noqa: ARG002 (Matterport's signature)
        """Number the classes and images; call it after the last `add_class` and `add_image`."""
        self.num_classes = len(self.class_info)
        self.class_ids = np.arange(self.num_classes)
        self.class_names = [_name_of(info) for info in self.class_info]
        self.num_images = len(self.image_info)
        self._image_ids = np.arange(self.num_images)
        self.class_from_source_map = _numbered(self.class_info)
        self.image_from_source_map = _numbered(self.image_info)
        self.sources = list(dict.fromkeys(info["source"] for info in self.class_info))
        self.source_class_ids = {
            source: [
                number
                for number, info in enumerate(self.class_info)
                if number == 0 or info["source"] == source
            ]
            for source in self.sources
        }

    @property
    def image_ids(self) -> np.ndarray:
        """The indices of the images, which all methods take as `image_id`."""
        return self._image_ids

    def map_source_class_id(self, source_class_id: str) -> int:
        """Return the class id for a source's own id, given as "source.id".

        Raises:
            BadSample: If the source has no such class.
        """
        if source_class_id not in self.class_from_source_map:
            raise BadSample(self._without_class(source_class_id))
        return self.class_from_source_map[source_class_id]

    def get_source_class_id(self, class_id: int, source: str) -> Any:
        """Return the source's own id of a class.

        Raises:
            ValueError: If the class belongs to another source.
        """
        info = self.class_info[class_id]
        if info["source"] != source:
            raise ValueError(f"class {class_id} is of source {info['source']!r}, not {source!r}")
        return info["id"]

    def image_reference(self, image_id: int) -> str:  # noqa: ARG002 (for subclasses)
        """Return a link to or a description of the image, for humans; override it."""
        return ""

    def source_image_link(self, image_id: int) -> Any:
        """Return the path or URL of the image."""
        return self.image_info[image_id]["path"]

    def load_image(self, image_id: int) -> np.ndarray:
        """Return an image, (H, W, C) uint8; override it for images that are not files.

        Raises:
            BadSample: If the file is missing or cannot be read.
        """
        if "origin" in self.image_info[image_id]:
            other, number = self.image_info[image_id]["origin"]
            return other.load_image(number)
        try:
            return images.read_image(self.image_info[image_id]["path"], self.channels)
        except ValueError as error:
            raise BadSample(str(error)) from error

    def load_mask(self, image_id: int) -> tuple[np.ndarray, np.ndarray]:
        """Return the objects of an image: masks (H, W, N) bool, class_ids (N,) int32.

        A negative class id is a crowd: a region that is neither object nor background. The
        default returns no objects, so that such images are trained as background, and warns once.
        """
        if "origin" in self.image_info[image_id]:
            return self._masks_of_origin(image_id)
        self._tell_of_default(image_id)
        height, width = self.load_image(image_id).shape[:2]
        return np.zeros((height, width, 0), bool), np.zeros(0, np.int32)

    def load_keypoints(self, image_id: int) -> np.ndarray:
        """Return the keypoints of the objects of `load_mask`, in its order: (N, P, 3) float32.

        Each is (y, x, visibility) in pixels; visibility is 0: not labelled, 1: hidden, 2: visible.
        Override it for a network with NUM_KEYPOINTS = P; the default has no keypoints, P = 0.
        """
        if "origin" in self.image_info[image_id]:
            return self._keypoints_of_origin(image_id)
        return np.zeros((len(self.load_mask(image_id)[1]), 0, 3), np.float32)

    def classes_in(self, image_id: int) -> set[int]:
        """Return the classes of an image's objects, including crowds; override if it is cheap."""
        return set(np.abs(self.load_mask(image_id)[1]).tolist())

    def _tell_of_default(self, image_id: int) -> None:
        if self._default_was_told:
            return
        self._default_was_told = True
        info = self.image_info[image_id]
        logger.warning(
            "load_mask of %s gave the image %r of source %r to the default, which has no objects; "
            "override load_mask, or compare the name of the source with the one it asks for",
            type(self).__name__,
            info["id"],
            info["source"],
        )

    def _without_class(self, source_class_id: str) -> str:
        source, _, class_id = str(source_class_id).partition(".")
        known = [
            f"{info['id']} ({_name_of(info)})"
            for info in self.class_info
            if info["source"] == source
        ]
        if not known:
            sources = sorted({info["source"] for info in self.class_info[1:]})
            return f"source {source!r} has no classes, so none {class_id!r}; {sources} have some"
        listed = ", ".join(known[:MOST_LISTED]) + ", ..." * (len(known) > MOST_LISTED)
        return f"source {source!r} has no class {class_id!r}; it has {listed}"

    def _masks_of_origin(self, image_id: int) -> tuple[np.ndarray, np.ndarray]:
        """Return the objects according to the dataset that the image was added from."""
        other, number = self.image_info[image_id]["origin"]
        masks, class_ids = other.load_mask(number)
        kept, numbers = self._kept_of_origin(image_id, class_ids)
        signs = np.sign(np.asarray(class_ids)[kept]).astype(np.int32)
        return masks[..., kept], np.array(numbers, np.int32) * signs

    def _keypoints_of_origin(self, image_id: int) -> np.ndarray:
        other, number = self.image_info[image_id]["origin"]
        points = other.load_keypoints(number)
        if not points.shape[1]:  # none here, although other sources may have some
            points = np.zeros((len(points), len(self.keypoint_names), 3), np.float32)
        kept, _ = self._kept_of_origin(image_id, other.load_mask(number)[1])
        return points[kept]

    def _kept_of_origin(
        self, image_id: int, class_ids: Sequence[int]
    ) -> tuple[list[int], list[int]]:
        """Return which objects of the other dataset have a class in this one, and their ids."""
        info = self.image_info[image_id]
        other = info["origin"][0]
        keys = [f"{info['source']}.{other.class_info[abs(each)]['id']}" for each in class_ids]
        kept = [
            place
            for place, key in enumerate(keys)
            if info["takes_all"] or key in self.class_from_source_map
        ]
        return kept, [self.map_source_class_id(keys[place]) for place in kept]


def described(dataset: Dataset, counts: str) -> str:
    """Return a dataset in one line: its class, these counts, its classes and its folder."""
    names = [_name_of(info) for info in dataset.class_info[1:]]
    listed = ", ".join(names[:MOST_LISTED]) + ", ..." * (len(names) > MOST_LISTED)
    classes = f"{len(names)} class{'es' * (len(names) != 1)} ({listed})" if names else "no classes"
    folders = {os.path.dirname(str(i["path"])) for i in dataset.image_info if i.get("path")}
    try:
        place = f", in {os.path.commonpath(folders)}" if folders else ""
    except ValueError:  # on several drives, or absolute and relative ones
        place = f", in {len(folders)} folders"
    return one_line(f"<{type(dataset).__name__}: {counts}, {classes}{place}>")


def _name_of(info: dict) -> str:
    """Return the name of a class as a string; programs also pass numbers or nothing."""
    name = "" if info["name"] is None else str(info["name"])
    return name if name.strip() else f"class {info['id']}"


def _numbered(infos: list[dict]) -> dict[str, int]:
    return {f"{info['source']}.{info['id']}": number for number, info in enumerate(infos)}
