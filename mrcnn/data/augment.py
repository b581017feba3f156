"""Augmentation: callables (image, masks, rng) -> (image, masks), passed in a list.

Images are (H, W, C), masks (H, W, N) bool; both are changed consistently or not at all, and the
arguments are not modified. `rng` is the only source of randomness, so a sample is reproducible.

Augmentations that support keypoints have an attribute `move_points`, a function (points (..., 2) of
y and x, height and width of the image before, rng in the same state) -> (points, is_mirrored).
"""

import copy
import importlib
import logging
import re
from collections.abc import Callable, Sequence
from types import ModuleType
from typing import Any

import numpy as np

Size = tuple[int, int]
Moved = tuple[np.ndarray, bool]
Augmentation = Callable[
    [np.ndarray, np.ndarray, np.random.Generator], tuple[np.ndarray, np.ndarray]
]

logger = logging.getLogger("mrcnn")
LEFT, RIGHT = "<left>", "<right>"  # brackets never occur in the words of a name
SIDES = {"left": LEFT, "l": LEFT, "right": RIGHT, "r": RIGHT}
OTHER_SIDE = {LEFT: RIGHT, RIGHT: LEFT}
# Removed in NumPy 2, but needed for importing imgaug 0.4.
_SCTYPES = {
    "int": [np.int8, np.int16, np.int32, np.int64],
    "uint": [np.uint8, np.uint16, np.uint32, np.uint64],
    "float": [np.float16, np.float32, np.float64],
    "complex": [np.complex64, np.complex128],
    "others": [bool, object, bytes, str, np.void],
}


def flip_left_right(
    image: np.ndarray, masks: np.ndarray, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Flip images left to right with probability 0.5."""
    return (image[:, ::-1], masks[:, ::-1]) if rng.random() < 0.5 else (image, masks)


def flip_up_down(
    image: np.ndarray, masks: np.ndarray, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Flip images top to bottom with probability 0.5; for images without an orientation."""
    return (image[::-1], masks[::-1]) if rng.random() < 0.5 else (image, masks)


def rotate_quarter(
    image: np.ndarray, masks: np.ndarray, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Rotate by 0, 90, 180 or 270 degrees; for images without an orientation."""
    quarters = int(rng.integers(4))
    return np.rot90(image, quarters), np.rot90(masks, quarters)


def jitter_brightness_contrast(
    image: np.ndarray, masks: np.ndarray, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Change the contrast of uint8 images by up to 20 % and their brightness by up to 25."""
    contrast, brightness = rng.uniform(0.8, 1.2), rng.uniform(-25, 25)
    mean = image.mean()
    levels = (np.arange(256) - mean) * contrast + mean + brightness
    return _to_levels(levels)[image], masks


def jitter_colour(
    image: np.ndarray, masks: np.ndarray, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Multiply each channel of uint8 images by an independent factor in 0.9..1.1."""
    gains = rng.uniform(0.9, 1.1, image.shape[-1])
    levels = _to_levels(np.arange(256)[:, None] * gains)
    return levels[image, np.arange(image.shape[-1])], masks


def _flipped_left_right(points: np.ndarray, size: Size, rng: np.random.Generator) -> Moved:
    if rng.random() >= 0.5:
        return points, False
    return points * [1, -1] + [0, size[1]], True


def _flipped_up_down(points: np.ndarray, size: Size, rng: np.random.Generator) -> Moved:
    if rng.random() >= 0.5:
        return points, False
    return points * [-1, 1] + [size[0], 0], True


def _rotated(points: np.ndarray, size: Size, rng: np.random.Generator) -> Moved:
    for _ in range(int(rng.integers(4))):
        # A counterclockwise quarter turn: right becomes top.
        points = np.stack([size[1] - points[..., 1], points[..., 0]], axis=-1)
        size = size[::-1]
    return points, False


def _unmoved(points: np.ndarray, size: Size, rng: np.random.Generator) -> Moved:  # noqa: ARG001
    return points, False


MIRRORS = (flip_left_right, flip_up_down)
vars(flip_left_right)["move_points"] = _flipped_left_right
vars(flip_up_down)["move_points"] = _flipped_up_down
vars(rotate_quarter)["move_points"] = _rotated
vars(jitter_brightness_contrast)["move_points"] = _unmoved
vars(jitter_colour)["move_points"] = _unmoved


def apply(
    augmentations: Sequence[Augmentation],
    image: np.ndarray,
    masks: np.ndarray,
    keypoints: np.ndarray,
    pairs: Sequence[tuple[int, int]],
    rng: np.random.Generator,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return image, masks and keypoints (N, P, 3) after several augmentations.

    Args:
        pairs: Indices of left and right keypoints, which swap names when mirrored.

    Raises:
        ValueError: If there are keypoints, and an augmentation cannot move them.
    """
    for augmentation in augmentations:
        state, size = copy.deepcopy(rng), image.shape[:2]
        image, masks = augmentation(image, masks, rng)
        if keypoints.shape[1]:
            keypoints = _moved(augmentation, keypoints, size, pairs, state)
    return image, masks, keypoints


def _moved(
    augmentation: Augmentation,
    keypoints: np.ndarray,
    size: Size,
    pairs: Sequence[tuple[int, int]],
    rng: np.random.Generator,
) -> np.ndarray:
    move = getattr(augmentation, "move_points", None)
    if move is None:
        raise ValueError(
            f"the augmentation {getattr(augmentation, '__name__', augmentation)!r} cannot move "
            "keypoints: give it a function move_points, see mrcnn.data.augment"
        )
    points, is_mirrored = move(keypoints[..., :2], size, rng)
    keypoints = np.concatenate([points, keypoints[..., 2:]], axis=-1)
    if is_mirrored:
        order = np.arange(keypoints.shape[1])
        for left, right in pairs:
            order[[left, right]] = order[[right, left]]
        keypoints = keypoints[:, order]
    return keypoints


def mirror_pairs(names: Sequence[str]) -> tuple[tuple[int, int], ...]:
    """Return the index pairs of keypoints whose names differ only in left and right.

    In any spelling: left_eye, LEFT-EYE, Left Eye, eyeLeft, l_eye, eyeL, lefteye. A name with
    several sides, such as left_eye_right_corner, swaps all of them when mirrored.
    """
    parts = [_parts(name) for name in names]
    places = {each: place for place, each in enumerate(parts)}
    is_once = {each: parts.count(each) == 1 for each in parts}
    pairs = []
    for place, each in enumerate(parts):
        partner = places.get(_mirrored(each), place)
        if partner != place and is_once[each] and is_once[parts[partner]]:
            pairs.append((place, partner))
    return tuple((one, other) for one, other in pairs if _is_left(parts[one]))


def without_partner(names: Sequence[str], pairs: Sequence[Sequence[int]]) -> list[str]:
    """Return the keypoints whose names have a side, but which are in no pair."""
    paired = {place for pair in pairs for place in pair}
    return [
        name
        for place, name in enumerate(names)
        if place not in paired and _tells_a_side(_parts(name))
    ]


def _parts(name: str) -> tuple[str, ...]:
    """Return the words of a name in lower case, sides as LEFT and RIGHT."""
    # Split between lower and upper case, after a single L or R, between letters and digits.
    spaced = re.sub(r"(?<=[a-z])(?=[A-Z])|(?<=\b[LR])(?=[A-Z][a-z])", " ", str(name))
    spaced = re.sub(r"(?<=[^\W\d_])(?=\d)|(?<=\d)(?=[^\W\d_])|_", " ", spaced)
    # Split off a side that is joined to the rest.
    spaced = re.sub(r"\b(left|right)(?=[^\W\d_]{2})", r"\1 ", spaced.lower())
    words = [word for word in re.split(r"[\W_]+", spaced) if word]
    if len(words) == 1:  # not a side by itself, but may end in one
        words = re.sub(r"(?<=[^\W\d_]{3})(left|right)$", r" \1", words[0]).split()
    return tuple(SIDES.get(word, word) if len(words) > 1 else word for word in words)


def _mirrored(parts: tuple[str, ...]) -> tuple[str, ...]:
    if len(parts) == 1 and parts[0][:1] in ("l", "r"):  # lshoulder and rshoulder, if both are there
        return ("rl"["lr".index(parts[0][0])] + parts[0][1:],)
    return tuple(OTHER_SIDE.get(part, part) for part in parts)


def _is_left(parts: tuple[str, ...]) -> bool:
    """Return whether the first side in a paired name is left."""
    sides = [part for part in parts if part in OTHER_SIDE]
    return sides[0] == LEFT if sides else parts[0].startswith("l")


def _tells_a_side(parts: tuple[str, ...]) -> bool:
    """Return whether a name has a side next to a word; "L1" does not."""
    has_word = any(len(part) > 1 for part in parts if part not in OTHER_SIDE)
    return has_word and any(part in OTHER_SIDE for part in parts)


def without_mirrors(
    augmentations: Sequence[Augmentation], names: Sequence[str], pairs: Sequence[Sequence[int]]
) -> list[Augmentation]:
    """Return the augmentations for keypoints, with flips only if left/right pairs are known.

    A flip turns a left eye into a right one; keeping the old name would be wrong.

    Args:
        names: of the keypoints, empty if unknown. pairs: indices of left and right keypoints.
    """
    untold = without_partner(names, pairs)
    is_known = bool(names or pairs) and not untold
    kept = [each for each in augmentations if is_known or each not in MIRRORS]
    if len(kept) < len(augmentations):
        logger.warning(
            "images are not flipped: %s; set KEYPOINT_PAIRS to the indices of left and right ones",
            f"the keypoints {', '.join(untold)} have a side but no counterpart"
            if untold
            else "KEYPOINT_NAMES and KEYPOINT_PAIRS do not say which keypoints swap names",
        )
    return kept


def by_name(name: str) -> Augmentation:
    """Return one of this module's augmentations by name.

    Raises:
        ValueError: If there is none with that name.
    """
    if name not in AUGMENTATIONS:
        raise ValueError(f"AUGMENTATIONS must be of {sorted(AUGMENTATIONS)}, got {name!r}")
    return AUGMENTATIONS[name]


def from_imgaug(augmenter: Any) -> Augmentation:
    """Wrap an imgaug augmenter as an augmentation.

    Image and masks pass through one deterministic copy of it, the masks as segmentation maps
    (nearest neighbour), so geometric augmenters transform both and others only the image.

    Raises:
        TypeError: If the argument is not an imgaug augmenter.
    """
    if not hasattr(augmenter, "to_deterministic"):
        raise TypeError(
            f"an augmentation must be callable as (image, masks, rng) or an imgaug augmenter, "
            f"got {type(augmenter).__name__}"
        )

    def augmented(
        image: np.ndarray, masks: np.ndarray, rng: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray]:
        deterministic = augmenter.to_deterministic()
        deterministic.seed_(int(rng.integers(2**31)), deterministic_too=True)
        image = np.ascontiguousarray(image)
        if masks.shape[-1] == 0:
            changed = deterministic.augment_image(image)
            return changed, np.zeros((*changed.shape[:2], 0), bool)
        labels, layers = _to_label_maps(masks)
        image, moved = deterministic.augment(image=image, segmentation_maps=labels[None])
        return image, moved[0][..., layers] == np.arange(1, len(layers) + 1)

    def moved(points: np.ndarray, size: Size, rng: np.random.Generator) -> Moved:
        deterministic = augmenter.to_deterministic()
        deterministic.seed_(int(rng.integers(2**31)), deterministic_too=True)
        # Three additional points reveal whether the transform mirrors.
        corners = np.array([[0.0, 0.0], [0.0, 1.0], [1.0, 0.0]])
        listed = np.concatenate([corners, points.reshape(-1, 2)])[:, ::-1].astype(np.float32)
        found = deterministic.augment(image=np.zeros((*size, 3), np.uint8), keypoints=listed[None])
        placed = np.asarray(found[1][0])[:, ::-1]
        right, down = placed[1] - placed[0], placed[2] - placed[0]
        is_mirrored = bool(right[1] * down[0] - right[0] * down[1] < 0)
        return placed[3:].reshape(points.shape), is_mirrored

    vars(augmented)["move_points"] = moved
    return augmented


def import_imgaug() -> ModuleType:
    """Import imgaug, which needs a workaround under NumPy 2.

    Raises:
        ImportError: If imgaug is not installed.
    """
    if not hasattr(np, "sctypes"):
        vars(np)["sctypes"] = _SCTYPES
    try:
        return importlib.import_module("imgaug")
    except ModuleNotFoundError as error:
        raise ImportError(
            'imgaug is not installed: pip install "mask-rcnn-keras[imgaug]"'
        ) from error


AUGMENTATIONS: dict[str, Augmentation] = {
    function.__name__: function
    for function in (
        flip_left_right,
        flip_up_down,
        rotate_quarter,
        jitter_brightness_contrast,
        jitter_colour,
    )
}


def _to_label_maps(masks: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return masks as label maps and the map of each: (H, W, N) -> (H, W, L) int32, (N,).

    Mask i has label i + 1; overlapping masks are in different maps. One map per mask would take
    imgaug half a second for a hundred objects.
    """
    label_maps: list[np.ndarray] = []
    layers = []
    for label, mask in enumerate(np.moveaxis(masks, -1, 0), start=1):
        free = (layer for layer, labels in enumerate(label_maps) if not labels[mask].any())
        layer = next(free, len(label_maps))
        if layer == len(label_maps):
            label_maps.append(np.zeros(mask.shape, np.int32))
        label_maps[layer][mask] = label
        layers.append(layer)
    return np.stack(label_maps, axis=-1), np.array(layers)


def _to_levels(levels: np.ndarray) -> np.ndarray:
    return np.rint(levels).clip(0, 255).astype(np.uint8)
