"""The objects of a COCO file: annotations in all variants that programs write, vectorised.

The points of all polygons are converted and checked together: a few microseconds per object in
files with a hundred thousand objects.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import Any

import numpy as np
from pycocotools import mask as coco_mask

from mrcnn.data import outlines
from mrcnn.data.outlines import AnnotatedObject, Polygon
from mrcnn.data.problems import NO_AREA, UNREAD, Problems

NO, YES = ("", "0", "false", "no", "none", "null"), ("1", "true", "yes")
Size = tuple[int, int] | None


class Ids:
    """The ids in a list of a file, found whether given as numbers or as strings.

    Args:
        values: the ids in the list.
    """

    def __init__(self, values: Iterable[Any]) -> None:
        self._exact = {value: value for value in values}
        self._by_text: dict[str, Any] = {}
        for value in self._exact:
            self._by_text.setdefault(str(value), value)
        for value in self._exact:  # 007 is 7 unless there is another 7
            self._by_text.setdefault(_plain(str(value)), value)

    def find(self, value: Any) -> Any:
        """Return an id as in the list, or None if it is not there: 1.0, true and "1" are 1."""
        if not isinstance(value, int | float | str):
            return None
        found = self._exact.get(value)
        if found is None:
            whole = isinstance(value, float) and value.is_integer()
            text = str(int(value)) if whole else str(value).strip()
            found = self._by_text.get(text, self._by_text.get(_plain(text)))
        return found


def _plain(text: str) -> str:
    """Return an integer without leading zeros."""
    return text.lstrip("0") or "0" if text.isdecimal() else text


@dataclass
class _Draft:
    """An annotation being converted; its polygons are indices into the list of all polygons."""

    record: Mapping[str, Any]
    image_id: Any
    class_id: Any
    polygons: list[int]
    runs: list[outlines.Runs] = field(default_factory=list)


@dataclass
class ObjectReader:
    """Reads the annotations of a file.

    Attributes:
        path: path of the file, for messages.
        images: name and stated size of each image, by id.
        classes: name of each category, by id.
        has_outlines: some annotation has a segmentation; else the boxes are the outlines.
        problems: collects faults.
    """

    path: Any
    images: Mapping[Any, tuple[str, Size]]
    classes: Mapping[Any, str]
    has_outlines: bool
    problems: Problems

    def read(self, records: Sequence[Mapping[str, Any]]) -> dict[Any, list[AnnotatedObject]]:
        """Return the objects by image id, in file order."""
        self._image_ids, self._class_ids = Ids(self.images), Ids(self.classes)
        self._lists: list[Sequence[Any]] = []
        drafts = [draft for record in records if (draft := self._draft(record)) is not None]
        polygons = _polygons(self._lists)
        found: dict[Any, list[AnnotatedObject]] = {image_id: [] for image_id in self.images}
        ready = []
        for draft in drafts:
            try:
                ready.append((draft, self._object(draft, polygons)))
            except (TypeError, ValueError) as error:
                self._drop(draft, error)
        for (draft, item), is_sure in zip(ready, self._sure(ready), strict=True):
            if is_sure or self._has_pixel(draft, item):
                found[draft.image_id].append(item)
        return found

    def _draft(self, record: Mapping[str, Any]) -> _Draft | None:
        image_id = self._image_ids.find(record.get("image_id"))
        class_id = self._class_ids.find(record.get("category_id"))
        if image_id is None or class_id is None:
            self._note_unknown(record, "image" if image_id is None else "category")
            return None
        draft = _Draft(record, image_id, class_id, [])
        try:
            self._take_outline(draft)
        except (TypeError, ValueError) as error:
            self._drop(draft, error)
            return None
        return draft

    def _take_outline(self, draft: _Draft) -> None:
        segmentation = draft.record.get("segmentation")
        if not segmentation:
            if self.has_outlines:
                raise ValueError("its segmentation is empty")
            lists: list[Sequence[Any]] = [_corners(draft.record.get("bbox"))]
        elif isinstance(segmentation, dict):
            draft.runs = [self._runs(segmentation, draft)]
            return
        elif isinstance(segmentation, list) and all(
            isinstance(each, dict) for each in segmentation
        ):
            draft.runs = [self._runs(each, draft) for each in segmentation]
            return
        elif isinstance(segmentation, list):
            lists = _lists(segmentation)
        else:
            raise ValueError(f"its segmentation is a {type(segmentation).__name__}")
        first = len(self._lists)
        self._lists += lists
        draft.polygons = list(range(first, len(self._lists)))

    def _runs(self, segmentation: Mapping[str, Any], draft: _Draft) -> outlines.Runs:
        size = self.images[draft.image_id][1]
        stated = segmentation.get("size") or size
        if size is None and isinstance(stated, list) and len(stated) == 2:
            size = (int(stated[0]), int(stated[1]))
        return outlines.stored_runs(segmentation.get("counts"), stated, size or (0, 0))

    def _object(self, draft: _Draft, polygons: Sequence[Polygon | str]) -> AnnotatedObject:
        record = draft.record
        shapes: Sequence[outlines.Shape] = draft.runs
        if draft.polygons:
            made = [polygons[number] for number in draft.polygons]
            shapes = [each for each in made if isinstance(each, Polygon)]
            faults = [each for each in made if isinstance(each, str)]
            # Many tools leave fragments of fewer than three points.
            severe = [fault for fault in faults if not fault.endswith(TOO_FEW)]
            if severe or not shapes:
                raise ValueError((severe or faults)[0])
        return AnnotatedObject(
            draft.class_id,
            shapes,
            is_crowd(record.get("iscrowd")),
            record.get("id"),
            _keypoints(record.get("keypoints")),
            _stated(record),
        )

    def _sure(self, ready: Sequence[tuple[_Draft, AnnotatedObject]]) -> np.ndarray:
        """Return which objects certainly have a pixel; the others must be rasterised."""
        points, sizes, places = [], [], []
        sure = np.zeros(len(ready), bool)
        for place, (draft, item) in enumerate(ready):
            size = self.images[draft.image_id][1]
            shape = item.shapes[0]
            if size is None:
                sure[place] = True  # unknown until the image is opened
            elif isinstance(shape, Polygon):
                points.append(shape.points)
                sizes.append(size)
                places.append(place)
        sure[places] |= outlines.surely_cover_a_pixel(points, np.array(sizes).reshape(-1, 2))
        return sure

    def _has_pixel(self, draft: _Draft, item: AnnotatedObject) -> bool:
        size = self.images[draft.image_id][1]
        assert size is not None
        try:
            if coco_mask.area(outlines.encode(item.shapes, size)):
                return True
            self._drop(draft, "it has no pixel in the image", NO_AREA)
        except ValueError as error:
            self._drop(draft, error)
        return False

    def _drop(self, draft: _Draft, message: object, reason: str = UNREAD) -> None:
        name = self.classes[draft.class_id]
        where = {"image": self.images[draft.image_id][0], "object": draft.record.get("id")}
        self.problems.dropped(message, name, reason, **where)

    def _note_unknown(self, record: Mapping[str, Any], kind: str) -> None:
        self.problems.error(
            f"unknown-{kind}",
            f"{self.path}: annotation {record.get('id')} has {kind}_id "
            f"{str(record.get(f'{kind}_id'))[:80]}, which is not in the file's list",
            remedy="add it to the list, or remove the annotation",
        )


def is_crowd(value: Any) -> bool:
    """Parse `iscrowd` in all variants that programs write.

    Raises:
        ValueError: If it is neither true nor false.
    """
    if value is None:
        return False
    if isinstance(value, int | float):
        return bool(value)
    text = str(value).strip().lower()
    if text not in (*NO, *YES):
        raise ValueError(f"its iscrowd is {str(value)[:40]!r}, neither 0 nor 1")
    return text in YES


TOO_FEW = "are no polygon: three points of x and y are six"


def _lists(segmentation: list) -> list[Sequence[Any]]:
    """Return the polygons of a segmentation as lists of alternating x and y.

    They may be given as one flat list, as pairs, or as lists of pairs.
    """
    first = segmentation[0]
    if not isinstance(first, list):
        return [segmentation]  # VIA's own export
    if len(first) == 2 and not isinstance(first[0], list) and len(segmentation) > 2:
        return [list(chain.from_iterable(segmentation))]  # one polygon as pairs
    flat: list[Sequence[Any]] = []
    for part in segmentation:
        if not isinstance(part, list):
            raise ValueError("its segmentation mixes numbers and lists")
        is_pairs = bool(part) and isinstance(part[0], list)
        flat.append(list(chain.from_iterable(part)) if is_pairs else part)
    return flat


def _corners(bbox: Any) -> list[float]:
    if not isinstance(bbox, list) or len(bbox) != 4:
        raise ValueError(f"it has no segmentation, and its bbox is no list of 4: {str(bbox)[:80]}")
    try:
        x, y, width, height = (float(value) for value in bbox)
    except (TypeError, ValueError) as error:
        raise ValueError(f"its bbox has what is no number: {str(bbox)[:80]}") from error
    left, right = sorted((x, x + width))
    top, bottom = sorted((y, y + height))
    return [left, top, right, top, right, bottom, left, bottom]


def _polygons(lists: Sequence[Sequence[Any]]) -> list[Polygon | str]:
    """Return the polygon of each list of alternating x and y, or what is wrong with it."""
    lengths = np.array([len(each) for each in lists], np.int64)
    try:
        flat = np.fromiter(chain.from_iterable(lists), np.float64, int(lengths.sum()))
    except (TypeError, ValueError, OverflowError):
        return [_one_polygon(each) for each in lists]
    first = np.cumsum(lengths) - lengths
    is_whole = (lengths >= 6) & (lengths % 2 == 0)
    sound = np.zeros(len(lists), bool)
    if is_whole.any():
        # Only nonempty ones: reduceat does not support empty ranges.
        known = np.abs(np.append(flat, 0.0))
        bounds = np.stack([first, first + lengths], axis=1)[is_whole].ravel()
        sound[is_whole] = np.maximum.reduceat(known, bounds)[::2] <= outlines.FARTHEST
    points = flat.reshape(-1, 2) if not (lengths % 2).any() else None
    made: list[Polygon | str] = []
    for each, start, count, is_sound in zip(
        lists, first.tolist(), lengths.tolist(), sound.tolist(), strict=True
    ):
        if not is_sound:
            made.append(_one_polygon(each))
        elif points is not None:
            made.append(Polygon(points[start // 2 : (start + count) // 2]))
        else:
            made.append(Polygon(flat[start : start + count].reshape(-1, 2)))
    return made


def _one_polygon(values: Sequence[Any]) -> Polygon | str:
    if len(values) < 6 or len(values) % 2:
        return f"its {len(values)} numbers {TOO_FEW}"
    try:
        return outlines.polygon(values[::2], values[1::2])
    except ValueError as error:
        return str(error)


def _keypoints(listed: Any) -> np.ndarray | None:
    """Return (P, 3) of y, x and visibility; (0, 0) is the corner of the first pixel."""
    if not listed:
        return None
    numbers = np.array(listed, np.float64)
    if numbers.size % 3 or not (np.abs(numbers) <= outlines.FARTHEST).all():
        raise ValueError("its keypoints are no triples of x, y and visibility")
    points = numbers.astype(np.float32).reshape(-1, 3)[:, [1, 0, 2]]
    # COCO's keypoints are pixel indices: pixel centres are half a pixel further.
    points[:, :2] += 0.5 * (points[:, 2:] > 0)
    return points


def _stated(record: Mapping[str, Any]) -> dict[str, Any]:
    """Return area and bbox if they are numbers; scoring computes missing ones."""
    bbox: Any = record.get("bbox")
    area: Any = record.get("area")
    stated: dict[str, Any] = {}
    if isinstance(area, int | float) and 0 < area < math.inf:
        stated["area"] = area
    if isinstance(bbox, list) and len(bbox) == 4 and _are_finite(bbox) and min(bbox[2:]) > 0:
        stated["bbox"] = bbox
    return stated


def _are_finite(values: list) -> bool:
    try:
        return math.isfinite(sum(values))
    except (TypeError, OverflowError):
        return False
