"""RoIAlign over a pyramid, as a layer.

*(Mask R-CNN, He et al. 2017, section 3; FPN, Lin et al. 2017, equation 1)*
"""

import math
from typing import Any

import keras
from keras import ops

from mrcnn.geometry import boxes as box_math
from mrcnn.network.layers.geometry_layer import GeometryLayer
from mrcnn.network.ops import backend, roi_align, roi_align_gather

Tensor = Any
CANONICAL_LEVEL, CANONICAL_SIZE = 4, 224.0


def levels(
    boxes: Tensor, input_area: Tensor, finest: int = 2, coarsest: int = 5, *, floors: bool = False
) -> Tensor:
    """Return the pyramid level of each box: (B, N, 4) -> (B, N) int32, finest to coarsest.

    *(FPN, Lin et al. 2017, equation 1)*. Padding (zero boxes) goes to the finest level.

    Args:
        boxes: Normalized.
        input_area: Number of input pixels; the canonical 224 pixels are input pixels.
        floors: Round down, as in the paper; else to nearest, as in Matterport's weights.
    """
    height = ops.maximum(boxes[..., 2] - boxes[..., 0], 0.0)
    width = ops.maximum(boxes[..., 3] - boxes[..., 1], 0.0)
    side = ops.maximum(ops.sqrt(height * width), 1e-12)
    exponent = ops.log(side / (CANONICAL_SIZE / ops.sqrt(input_area))) / math.log(2.0)
    # The margin is torchvision's: a box of exactly 224 pixels goes to the upper level.
    whole = ops.floor(exponent + 1e-6) if floors else ops.round(exponent)
    return ops.clip(CANONICAL_LEVEL + ops.cast(whole, "int32"), finest, coarsest)


@keras.saving.register_keras_serializable("mrcnn")
class PyramidROIAlign(GeometryLayer):
    """RoI features of boxes as (B, N, h, w, C), float32.

    Called on [boxes (B, N, 4) normalized, image_meta (B, M), maps (B, H, W, C) of successive
    levels...]. No gradient flows into the boxes.

    Args:
        pool_shape: (h, w), at least 2 each.
        form: One of `conventions.ROI_FEATURES`.
        finest_level: Level of the first map.
        floors_level: See `levels`.
        inclusive: Whether boxes are in the inclusive normalized frame. The form "corners" uses the
            inclusive frame, the others the exclusive one; boxes are converted as needed.
    """

    def __init__(
        self,
        pool_shape,
        *,
        form="corners",
        finest_level=2,
        floors_level=False,
        inclusive=True,
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.pool_shape = tuple(pool_shape)
        self.form = form
        self.finest_level = finest_level
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
        if backend.is_static() and self.form in roi_align_gather.FORMS:
            return roi_align_gather.features(maps, boxes, chosen, self.pool_shape, self.form)
        crops = roi_align.features(
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
        # Columns 4 and 5 of image_meta: height and width of the input, the same for the batch.
        input_area = image_meta[0, 4] * image_meta[0, 5]
        finest = self.finest_level
        coarsest = finest + count - 1
        return levels(boxes, input_area, finest, coarsest, floors=self.floors_level) - finest

    def compute_output_shape(self, input_shape):
        return (*input_shape[0][:2], *self.pool_shape, input_shape[2][-1])

    def get_config(self):
        return {
            **super().get_config(),
            "pool_shape": self.pool_shape,
            "form": self.form,
            "finest_level": self.finest_level,
            "floors_level": self.floors_level,
            "inclusive": self.inclusive,
        }
