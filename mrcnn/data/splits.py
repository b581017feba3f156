"""Splits of a dataset into training and validation images, and the file that records one.

Images that show the same picture stay together, and the classes are stratified *(Sechidis et al.
2011, On the stratification of multi-label data)*.
"""

import hashlib
import json
import os
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Hashable, Iterable, Sequence
from pathlib import Path

from mrcnn.data import ahead
from mrcnn.data.annotated import AnnotatedDataset

FILE = "split.json"  # in the folder of a run
PARTS = ("train", "val", "test")
FEWEST_GROUPS = 5  # fewer pictures are too few to set some aside
WORKERS = 4  # threads that read images
MOST_DECODED = 5_000  # images whose pixels are compared; of more, only their files
# Roboflow's exports have several copies of an image: name_jpg.rf.HASH.jpg
COPY = re.compile(r"\.rf\.[0-9A-Za-z_-]{8,}$")

Progress = Callable[[Sequence[int]], Iterable[int]]
Split = dict[str, list[str]]


def split(
    dataset: AnnotatedDataset, share: float = 0.2, seed: int = 0, *, progress: Progress = iter
) -> Split:
    """Return the names of the training and validation images; see `image_names`.

    The result depends on the images and the seed only, not on their order. Groups of images that
    show the same picture are never divided, see `groups_of`. Every class with objects in two
    groups or more is among the training images; a class of only one group, too.

    Args:
        share: of the validation images, from 0 to 0.5.
        seed: of the choice.
        progress: called with the ids of the images to compare, yields them.

    Returns:
        Sorted names by part, "train" and "val"; all in "train" if the share is 0, or if there are
        fewer than FEWEST_GROUPS groups.

    Raises:
        ValueError: If the share is out of range.
    """
    if not 0 <= share <= 0.5:
        raise ValueError(f"the share of validation images must be from 0 to 0.5, got {share:g}")
    names = image_names(dataset)
    groups = groups_of(dataset, progress) if share else []
    held_out: set[int] = set()
    if len(groups) >= FEWEST_GROUPS:
        ordered = sorted(groups, key=lambda group: _draw(seed, min(names[i] for i in group)))
        classes = [Counter(c for i in group for c in _classes(dataset, i)) for group in ordered]
        sizes = [len(group) for group in ordered]
        chosen = _with_every_class(_stratified(classes, sizes, share), classes)
        held_out = {i for number in chosen for i in ordered[number]}
    return {
        "train": sorted(name for i, name in enumerate(names) if i not in held_out),
        "val": sorted(names[i] for i in held_out),
    }


def groups_of(dataset: AnnotatedDataset, progress: Progress = iter) -> list[list[int]]:
    """Return the images by the picture that they show: lists of image ids.

    Images are together if their files have the same bytes, their pixels are the same, or they lie
    in the same folder with the same name but for the suffix, or for what Roboflow adds to the
    names of copies.
    """
    leader = list(range(dataset.num_images))

    def find(number: int) -> int:
        while leader[number] != number:
            leader[number] = leader[leader[number]]
            number = leader[number]
        return number

    owners: dict[Hashable, int] = {}
    sizes = Counter(_file_size(dataset, i) for i in range(dataset.num_images))
    ids = iter(progress(range(dataset.num_images)))
    marks = ahead.in_order(lambda i: (i, _marks(dataset, i, sizes)), ids, WORKERS, 2 * WORKERS)
    for number, own in marks:
        for mark in own:
            leader[find(number)] = find(owners.setdefault(mark, number))
    groups = defaultdict(list)
    for number in range(dataset.num_images):
        groups[find(number)].append(number)
    return list(groups.values())


def image_names(dataset: AnnotatedDataset) -> list[str]:
    """Return a name for each image: its path in the folder that has them all, with slashes."""
    paths = [os.path.abspath(_file(dataset, i)) for i in range(dataset.num_images)]
    try:
        root = os.path.commonpath([os.path.dirname(path) for path in paths])
    except ValueError:  # on several drives, or no images
        return [Path(path).as_posix() for path in paths]
    return [Path(path).relative_to(root).as_posix() for path in paths]


def part_of(dataset: AnnotatedDataset, names: Sequence[str]) -> AnnotatedDataset:
    """Return the images of a dataset with these names, in the dataset's order.

    Raises:
        ValueError: If an image is not in the dataset.
    """
    wanted, own = set(names), image_names(dataset)
    if lacking := sorted(wanted.difference(own)):
        raise ValueError(
            f"{len(lacking)} of {len(wanted)} images of the split are not in the dataset, such as "
            f"{lacking[0]}: pass the dataset that was split"
        )
    return dataset.subset([i for i, name in enumerate(own) if name in wanted])


def again(dataset: AnnotatedDataset, known: Split, progress: Progress = iter) -> Split | None:
    """Return an earlier split of a dataset that may have changed; new images are trained on.

    Images that show the same picture as one that was set aside are set aside, too.

    Returns:
        None if the dataset has none of the validation images of that split, or no others.
    """
    names, before = image_names(dataset), set(known.get("val", ()))
    held_out = {
        number
        for group in groups_of(dataset, progress)
        if any(names[number] in before for number in group)
        for number in group
    }
    split = {
        "train": sorted(name for i, name in enumerate(names) if i not in held_out),
        "val": sorted(names[i] for i in held_out),
    }
    return split if split["val"] and split["train"] else None


def read_split(path: str | os.PathLike) -> Split:
    """Read the split of a run, which its training wrote: names of images by part.

    Raises:
        ValueError: If the file is something else.
    """
    try:
        content = json.loads(Path(path).read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} is no split of a dataset: {error}") from error
    is_split = isinstance(content, dict) and all(
        part in PARTS and isinstance(names, list) and all(isinstance(each, str) for each in names)
        for part, names in content.items()
    )
    if not is_split:
        raise ValueError(
            f"{path} is no split of a dataset: it must map {', '.join(PARTS)} to lists of names"
        )
    return content


def _stratified(classes: Sequence[Counter], sizes: Sequence[int], share: float) -> set[int]:
    """Return the groups to hold out: so many images, and so many of each class, rarest first."""
    totals: Counter = sum(classes, Counter())
    wanted = {
        is_held: {**{c: part * n for c, n in totals.items()}, None: part * sum(sizes)}
        for is_held, part in ((False, 1 - share), (True, share))
    }
    members = {c: [i for i, own in enumerate(classes) if c in own] for c in totals}
    counts = {c: len(own) for c, own in members.items()}
    left = set(range(len(classes)))
    held_out: set[int] = set()
    while left:
        rarest = min((c for c, n in counts.items() if n), key=lambda c: (counts[c], c))
        for number in (number for number in members[rarest] if number in left):
            needs = wanted[True], wanted[False]
            is_held = (needs[0][rarest], needs[0][None]) > (needs[1][rarest], needs[1][None])
            for class_name, count in classes[number].items():
                wanted[is_held][class_name] -= count
                counts[class_name] -= 1
            wanted[is_held][None] -= sizes[number]
            held_out |= {number} if is_held else set()
            left.discard(number)
    return held_out


def _with_every_class(held_out: set[int], classes: Sequence[Counter]) -> set[int]:
    """Return the groups to hold out, without those that a class needs for training.

    If none were held out, one is whose classes are all in other groups.
    """
    held_out = set(held_out)
    trained = Counter(c for i, own in enumerate(classes) if i not in held_out for c in own)
    for number in sorted(held_out):
        if any(not trained[c] for c in classes[number]):
            held_out.discard(number)
            trained.update(classes[number].keys())
    spare = (i for i, own in enumerate(classes) if all(trained[c] > 1 for c in own))
    return held_out or set(list(spare)[-1:])


def _classes(dataset: AnnotatedDataset, image_id: int) -> set[str]:
    """Return the names of the classes in an image; that of the background if it has none."""
    try:
        found = dataset.classes_in(image_id)
    except ValueError:  # of an unreadable label image, which training reports
        found = set()
    return {dataset.class_names[number] for number in found or {0}}


def _draw(seed: int, name: str) -> bytes:
    """Return a random key of a name: further images do not change the order of the others."""
    return hashlib.blake2b(f"{seed}\n{name}".encode("utf-8", "surrogatepass")).digest()


def _file(dataset: AnnotatedDataset, image_id: int) -> str:
    image = dataset.annotated(image_id)
    return image.embedded or image.path


def _file_size(dataset: AnnotatedDataset, image_id: int) -> int:
    try:
        return os.path.getsize(_file(dataset, image_id))
    except OSError:
        return -1


def _marks(dataset: AnnotatedDataset, image_id: int, sizes: Counter) -> list[Hashable]:
    """Return what images of the same picture share: stem, bytes, pixels."""
    path = Path(_file(dataset, image_id))
    found: list[Hashable] = [(str(path.parent), COPY.sub("", path.stem))]
    size = _file_size(dataset, image_id)
    if size >= 0 and sizes[size] > 1:
        with open(path, "rb") as file:
            found.append(hashlib.file_digest(file, _digest).hexdigest())
    if dataset.num_images <= MOST_DECODED:
        try:
            image = dataset.load_image(image_id)
        except ValueError:  # training reports it
            return found
        found.append((image.shape, _digest(image.tobytes()).hexdigest()))
    return found


def _digest(content: bytes = b"") -> "hashlib.blake2b":
    return hashlib.blake2b(content, digest_size=16)
