"""A dataset whose class ids are mapped to a network's by name."""

import copy
from collections.abc import Mapping, Sequence
from typing import Any, cast

import numpy as np

from mrcnn import class_names as names_of_classes
from mrcnn.data.annotated import AnnotatedDataset
from mrcnn.data.dataset import Dataset


def renumbered(dataset: Dataset, class_names: Sequence[str]) -> Dataset:
    """Return a dataset with a network's class ids, by name; unchanged if they already agree.

    Args:
        dataset: prepared.
        class_names: the network's, background first.

    Raises:
        ValueError: If the dataset has a class that the network lacks, or duplicate names.
    """
    own, known = list(dataset.class_names), list(class_names)
    if own == known[: len(own)]:
        return dataset
    if getattr(dataset, "is_unnamed", False) and len(own) == len(known) == 2:
        own[1] = known[1]
    matched = names_of_classes.matched(own[1:], known[1:])
    lacking = [name for name in own[1:] if name not in matched]
    if lacking or len(set(own[1:])) < len(own) - 1:
        raise ValueError(f"the network has no classes {lacking}, only {known[1:]}")
    numbers = np.array([0, *(known.index(matched[name], 1) for name in own[1:])], np.int32)
    if isinstance(dataset, AnnotatedDataset):
        return _reordered(dataset, numbers, known)
    return cast(Dataset, _Renumbered(dataset, numbers, known))


def _reordered(
    dataset: AnnotatedDataset, numbers: np.ndarray, class_names: Sequence[str]
) -> AnnotatedDataset:
    """Return a copy with these class names, keeping the dataset's own ids."""
    ids = {int(new): info["id"] for new, info in zip(numbers, dataset.class_info, strict=True)}
    free = (f"absent {number}" for number in range(len(class_names)))
    other = copy.copy(dataset)
    other.class_info = dataset.class_info[:1]
    for number, name in enumerate(class_names[1:], start=1):
        class_id = ids[number] if number in ids else next(free)
        other.add_class(dataset.format, class_id, name)
    other.prepare()
    return other


class _Renumbered:
    """A proxy of a custom dataset whose `load_mask` returns the network's class ids."""

    def __init__(self, dataset: Dataset, numbers: np.ndarray, class_names: Sequence[str]) -> None:
        self._dataset = dataset
        self._numbers = numbers
        self.class_names = list(class_names)
        self.num_classes = len(self.class_names)
        self.class_ids = np.arange(self.num_classes)
        infos: Mapping[int, dict] = dict(zip(numbers.tolist(), dataset.class_info, strict=True))
        self.class_info = [
            infos.get(number, {"source": "", "id": None, "name": name})
            for number, name in enumerate(self.class_names)
        ]
        self.source_class_ids = {
            source: numbers[class_ids].tolist()
            for source, class_ids in dataset.source_class_ids.items()
        }

    def __getattr__(self, name: str) -> Any:
        if name == "_dataset":  # in a copy that is not initialized yet
            raise AttributeError(name)
        return getattr(self._dataset, name)

    def load_mask(self, image_id: int) -> tuple[np.ndarray, np.ndarray]:
        """Return the objects of an image; see `Dataset.load_mask`."""
        masks, class_ids = self._dataset.load_mask(image_id)
        class_ids = np.asarray(class_ids, np.int32).reshape(-1)
        return masks, self._numbers[np.abs(class_ids)] * np.sign(class_ids)

    def classes_in(self, image_id: int) -> set[int]:
        """Return the classes of an image's objects."""
        return {int(self._numbers[number]) for number in self._dataset.classes_in(image_id)}
