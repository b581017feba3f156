"""Features of boxes, from the pyramid level that fits their size: RoIAlign in its forms, RoIPool.

*(Mask R-CNN, He et al. 2017, section 3; Fast R-CNN, Girshick 2015, section 2.1)*
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

import keras
from keras import layers, ops

from mrcnn.geometry import boxes as box_math
from mrcnn.network import backend_ops, pyramid_gather
from mrcnn.network.geometry_layer import GeometryLayer

Tensor = Any
FINEST, COARSEST = 2, 5
CANONICAL_LEVEL, CANONICAL_SIZE = 4, 224.0
SAMPLES = 2


def levels(boxes: Tensor, input_area: Tensor, *, floors: bool = False) -> Tensor:
    """Return the pyramid level of each box, 2 to 5: (B, N, 4) -> (B, N) int32.

    *(FPN, Lin et al. 2017, equation 1)*. Padding (zero boxes) goes to level 2.

    Args:
        boxes: Normalized.
        input_area: Pixels of the input; the canonical 224 pixels are of the input.
        floors: As in the paper; else rounded, as in Matterport's weights.
    """
    height = ops.maximum(boxes[..., 2] - boxes[..., 0], 0.0)
    width = ops.maximum(boxes[..., 3] - boxes[..., 1], 0.0)
    side = ops.maximum(ops.sqrt(height * width), 1e-12)
    exponent = ops.log(side / (CANONICAL_SIZE / ops.sqrt(input_area))) / math.log(2.0)
    # The margin is torchvision's: a box of just 224 pixels is of the upper level.
    whole = ops.floor(exponent + 1e-6) if floors else ops.round(exponent)
    return ops.clip(CANONICAL_LEVEL + ops.cast(whole, "int32"), FINEST, COARSEST)


def features(
    maps: Sequence[Tensor],
    boxes: Tensor,
    indices: Tensor,
    chosen: Tensor,
    size: tuple[int, int],
    *,
    form: str = "corners",
    aligned: Callable[..., Tensor] | None = None,
) -> Tensor:
    """Return the features of boxes, each from its own map: (M, 4) -> (M, h, w, C) float32.

    Args:
        maps: (B, H', W', C) each.
        boxes: normalized; inclusive for the form "corners", else in fractions of the map.
        indices: (M,) int32, the image of each box. chosen: (M,) int32, its place in maps.
        size: (h, w).
        form: One of `conventions.ROI_FEATURES`.
        aligned: What takes the means of samples: `crop` (None), or `sampled`, which rounds places
            as torchvision does, in several times the time.
    """

    def of_map(features: Tensor, boxes: Tensor, indices: Tensor) -> Tensor:
        if form == "corners":
            return backend_ops.operations().crop_and_resize(features, boxes, indices, size)
        extent = ops.cast(ops.shape(features)[1:3], "float32")
        cells = boxes * ops.concatenate([extent, extent])
        if form == "pool":
            return pool(features, cells, indices, size)
        if form in ("warp", "warp_max"):
            cells = _whole(cells)
        if form in ("aligned_max", "warp_max"):
            return crop(features, cells, indices, size, SAMPLES, half_pixel=True, largest=True)
        take = aligned or crop
        return take(features, cells, indices, size, SAMPLES, half_pixel=form != "unaligned")

    return backend_ops.operations().by_level(of_map, maps, boxes, indices, chosen)


def crop(
    features: Tensor,
    boxes: Tensor,
    indices: Tensor,
    size: tuple[int, int],
    samples: int,
    *,
    half_pixel: bool,
    largest: bool = False,
) -> Tensor:
    """Return what `sampled` does, by one crop: the samples of a box are a regular grid.

    The crop takes fractions of the map, by which the place of a sample is rounded a few times: for
    features of size 1 the results differ by up to 1e-4.

    Args:
        largest: The largest sample of a bin instead of their mean.
    """
    low, high = _corners(boxes, half_pixel=half_pixel)
    counts = (size[0] * samples, size[1] * samples)
    half = (high - low) / (2.0 * ops.convert_to_tensor(counts, "float32"))
    # With its border cells doubled the map has their value for a cell around, and 0 beyond.
    features = ops.pad(features, [[0, 0], [1, 1], [1, 1], [0, 0]], mode="symmetric")
    last = ops.cast(ops.shape(features)[1:3], "float32") - 1.0
    grid = ops.concatenate([(low + half + 1.0) / last, (high - half + 1.0) / last], axis=1)
    crops = backend_ops.operations().crop_and_resize(features, grid, indices, counts)
    pooled = ops.max_pool if largest else ops.average_pool
    return pooled(crops, samples, samples)


def sampled(
    features: Tensor,
    boxes: Tensor,
    indices: Tensor,
    size: tuple[int, int],
    samples: int | None,
    *,
    half_pixel: bool,
    most: int | None = None,
) -> Tensor:
    """Return the mean of regular samples in each bin of boxes: (M, 4) -> (M, h, w, C).

    A sample up to a cell beyond the map has the value of the border, further out it is 0, as in
    torchvision's and detectron2's roi_align.

    Args:
        features: (B, H', W', C). boxes: (M, 4), cells of the map.
        samples: In each direction of a bin; None for one a cell, rounded up, of each box by
            itself: all boxes then need the memory of the largest.
        most: Samples of a bin where their number is of the box; the memory is then of so many.
        half_pixel: A cell's value lies at its centre, else at its top left corner.
    """
    low, high = _corners(boxes, half_pixel=half_pixel)
    shape = ops.shape(features)
    rows = _neighbours(low[:, 0], high[:, 0], size[0], samples, shape[1], most)
    cols = _neighbours(low[:, 1], high[:, 1], size[1], samples, shape[2], most)
    cells = ops.reshape(features, (-1, features.shape[-1]))
    first = (indices * shape[1] * shape[2])[:, None, None]
    total = 0.0
    for row, row_weight in rows:
        for col, col_weight in cols:
            values = ops.take(cells, first + row[:, :, None] * shape[2] + col[:, None, :], axis=0)
            total += values * (row_weight[:, :, None] * col_weight[:, None, :])[..., None]
    bins = (ops.shape(total)[1] // size[0], ops.shape(total)[2] // size[1])
    total = ops.reshape(total, (-1, size[0], bins[0], size[1], bins[1], features.shape[-1]))
    return ops.sum(total, axis=(2, 4))


def _corners(boxes: Tensor, *, half_pixel: bool) -> tuple[Tensor, Tensor]:
    low, high = boxes[:, :2], boxes[:, 2:]
    if half_pixel:
        return low - 0.5, high - 0.5
    return low, ops.maximum(high, low + 1.0)


def _neighbours(
    low: Tensor,
    high: Tensor,
    count: int,
    samples: int | None,
    extent: Tensor,
    most: int | None = None,
) -> list[tuple[Tensor, Tensor]]:
    """Return (cell, weight) of the two cells around each sample of an axis: (M, count * samples).

    The weights of a bin sum to 1. Where boxes have different numbers of samples, the others of the
    largest number weigh nothing.

    Args:
        low, high: (M,), the ends of the boxes in cells. extent: Number of cells.
    """
    side = (high - low) / count
    number = ops.full_like(side, samples or 1)
    if samples is None and most is not None:
        number, samples = ops.minimum(ops.ceil(side), most), most
    elif samples is None:
        number = ops.ceil(side)
        samples = ops.maximum(ops.cast(ops.max(number), "int32"), 1)
    bins = low[:, None] + ops.arange(count, dtype="float32") * side[:, None]
    places = ops.arange(samples, dtype="float32")
    divisor = ops.maximum(number, 1.0)[:, None]
    within = (places + 0.5) * (side[:, None] / divisor)
    weights = ops.cast(places < number[:, None], "float32") / divisor
    position = ops.reshape(bins[:, :, None] + within[:, None, :], (-1, count * samples))
    last = ops.cast(extent, "float32") - 1.0
    is_near = ops.cast((position >= -1.0) & (position <= last + 1.0), "float32")
    is_near *= ops.reshape(ops.tile(weights[:, None, :], (1, count, 1)), ops.shape(position))
    position = ops.clip(position, 0.0, last)
    floor = ops.floor(position)
    cell = ops.cast(floor, "int32")
    fraction = position - floor
    following = ops.minimum(cell + 1, extent - 1)
    return [(cell, (1.0 - fraction) * is_near), (following, fraction * is_near)]


def pool(features: Tensor, boxes: Tensor, indices: Tensor, size: tuple[int, int]) -> Tensor:
    """Return the largest cell of each bin of boxes: (M, 4) -> (M, h, w, C). RoIPool.

    Borders are rounded to cells, the last cell included; bins beyond the map are 0, as in
    torchvision's roi_pool.

    Args:
        features: (B, H', W', C). boxes: (M, 4), cells of the map.
    """
    extent = ops.shape(features)[1:3]
    corners = ops.cast(_rounded(boxes), "int32")
    rows = _bins(corners[:, 0], corners[:, 2], size[0], extent[0])
    cols = _bins(corners[:, 1], corners[:, 3], size[1], extent[1])
    return backend_ops.operations().largest_in_rectangles(features, indices, rows, cols)


def _whole(boxes: Tensor) -> Tensor:
    """Return boxes whose borders are those of cells, the same that `pool` takes: (M, 4)."""
    corners = _rounded(boxes)
    low = corners[:, :2]
    return ops.concatenate([low, ops.maximum(corners[:, 2:], low) + 1.0], axis=1)


def _rounded(values: Tensor) -> Tensor:
    """Return whole numbers, halves away from zero as in C; ops.round takes them to the even one."""
    return ops.sign(values) * ops.floor(ops.abs(values) + 0.5)


def _bins(low: Tensor, high: Tensor, count: int, extent: Tensor) -> tuple[Tensor, Tensor]:
    """Return the first cell of each bin of an axis, and the one after its last: (M, count) each."""
    length = ops.cast(ops.maximum(high - low + 1, 1), "float32") / count
    place = ops.arange(count, dtype="float32")[None]
    first = ops.cast(ops.floor(place * length[:, None]), "int32") + low[:, None]
    last = ops.cast(ops.ceil((place + 1) * length[:, None]), "int32") + low[:, None]
    return ops.clip(first, 0, extent), ops.clip(last, 0, extent)


@keras.saving.register_keras_serializable("mrcnn")
class PyramidROIAlign(GeometryLayer):
    """Features of boxes as (B, N, h, w, C), float32.

    Called on [boxes (B, N, 4) normalized, image_meta (B, M), P2, P3, P4, P5], or on one map alone
    instead of the four. No gradient to boxes.

    Args:
        pool_shape: (h, w), at least 2 each.
        form: One of `conventions.ROI_FEATURES`.
        floors_level: See `levels`.
        inclusive: The form of the normalized frame of the boxes; the form of features "corners"
            lives in the inclusive one, the others in the other, and boxes are converted.
    """

    def __init__(self, pool_shape, *, form="corners", floors_level=False, inclusive=True, **kwargs):
        super().__init__(**kwargs)
        self.pool_shape = tuple(pool_shape)
        self.form = form
        self.floors_level = floors_level
        self.inclusive = inclusive

    def call(self, inputs):
        boxes, image_meta, *maps = inputs
        boxes = ops.stop_gradient(boxes)
        batch, count = ops.shape(boxes)[0], ops.shape(boxes)[1]
        if self.inclusive != (self.form == "corners"):
            size = image_meta[:, 4:6]
            pixels = box_math.denormalize_in_graph(boxes, size, ops, self.inclusive)
            boxes = box_math.normalize_in_graph(pixels, size, ops, not self.inclusive)
        chosen = self._chosen(boxes, image_meta, len(maps))
        if backend_ops.is_static() and self.form in pyramid_gather.FORMS:
            return pyramid_gather.features(maps, boxes, chosen, self.pool_shape, self.form)
        crops = features(
            maps,
            ops.reshape(boxes, (-1, 4)),
            ops.repeat(ops.arange(batch, dtype="int32"), count),
            ops.reshape(chosen, (-1,)),
            self.pool_shape,
            form=self.form,
        )
        return ops.reshape(crops, (batch, count, *self.pool_shape, maps[0].shape[-1]))

    def _chosen(self, boxes: Tensor, image_meta: Tensor, count: int) -> Tensor:
        if count == 1:
            return ops.zeros(ops.shape(boxes)[:2], "int32")
        # Columns 4 and 5 of the record: height and width of the input, one for the batch.
        input_area = image_meta[0, 4] * image_meta[0, 5]
        return levels(boxes, input_area, floors=self.floors_level) - FINEST

    def compute_output_shape(self, input_shape):
        return (*input_shape[0][:2], *self.pool_shape, input_shape[2][-1])

    def get_config(self):
        return {
            **super().get_config(),
            "pool_shape": self.pool_shape,
            "form": self.form,
            "floors_level": self.floors_level,
            "inclusive": self.inclusive,
        }


def through(trunk: Sequence[layers.Layer], features: Tensor, rows: Tensor | None) -> Tensor:
    """Return what layers make of RoIs: (B, N, ...) -> (B, N, ...).

    Args:
        rows: (B, N), above 0 for RoIs that batch norms take their statistics of; None for all.
    """
    for layer in trunk:
        is_counting = rows is not None and getattr(layer, "has_norms", False)
        features = layer(features, rows=rows) if is_counting else layer(features)
    return features


@keras.saving.register_keras_serializable("mrcnn")
class TimeDistributed(layers.Layer):
    """A layer applied to every RoI: (B, N, ...) -> (B, N, ...), folded into one large batch.

    Keras' layer of this name would unroll a Python loop over the RoIs. Programs find the layer
    inside by the class's name and by `.layer`.

    Args:
        layer: The layer; the wrapper bears its name.
        activation: Follows the layer, unless it is called for logits.
    """

    def __init__(self, layer, activation=None, **kwargs):
        kwargs.setdefault("dtype", layer.dtype_policy)
        super().__init__(**{"name": layer.name, **kwargs})
        self.layer = layer
        self.activation = keras.activations.get(activation)

    @property
    def has_norms(self) -> bool:
        """Whether it is, or may hold, batch norms: of the rows (B, N) it may be called with."""
        return isinstance(self.layer, layers.BatchNormalization | keras.Model)

    def build(self, input_shape):
        if not self.layer.built:  # a layer that Keras loads from a file comes built
            self.layer.build((None, *input_shape[2:]))

    def call(self, features, training=None, as_logits=False, rows=None):
        lead = ops.shape(features)[:2]
        folded = ops.reshape(features, (-1, *features.shape[2:]))
        if self.has_norms:
            with backend_ops.counting(None if rows is None else ops.reshape(rows, (-1,))):
                folded = self.layer(folded, training=training)
        else:
            folded = self.layer(folded)
        if not as_logits:
            folded = self.activation(folded)
        return ops.reshape(folded, (*lead, *folded.shape[1:]))

    def compute_output_shape(self, input_shape):
        folded = self.layer.compute_output_shape((None, *input_shape[2:]))
        return (*input_shape[:2], *folded[1:])

    def get_config(self):
        return {
            **super().get_config(),
            "layer": keras.saving.serialize_keras_object(self.layer),
            "activation": keras.activations.serialize(self.activation),
        }

    @classmethod
    def from_config(cls, config):
        layer = keras.saving.deserialize_keras_object(config.pop("layer"))
        return cls(layer, **config)
