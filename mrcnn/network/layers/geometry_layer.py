"""Base class of layers that operate on boxes and masks rather than features."""

from keras import layers

from mrcnn.network.ops import backend


class GeometryLayer(layers.Layer):
    """A layer without weights that computes in float32 regardless of the network's precision.

    In bfloat16, a normalized box in a 1024 pixel input would be off by more than a pixel.
    """

    def __init__(self, **kwargs):
        kwargs.setdefault("dtype", "float32")
        super().__init__(**kwargs)

    @property
    def supports_jit(self) -> bool:
        """Whether its operations have XLA kernels; if not, Keras must not compile the model.

        TensorFlow's crop_and_resize and NMS have none; see `backend.within_xla`.
        """
        return self._can_be_compiled and backend.is_static()

    @supports_jit.setter
    def supports_jit(self, value: bool) -> None:
        self._can_be_compiled = value
