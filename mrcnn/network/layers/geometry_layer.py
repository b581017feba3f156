"""The base of all layers that work on boxes and masks rather than features."""

from keras import layers

from mrcnn.network.ops import backend


class GeometryLayer(layers.Layer):
    """A layer without weights that computes in float32 whatever the precision of the network.

    In bfloat16 a normalized box of a 1024 pixel input would be off by more than a pixel.
    """

    def __init__(self, **kwargs):
        kwargs.setdefault("dtype", "float32")
        super().__init__(**kwargs)

    @property
    def supports_jit(self) -> bool:
        """Whether what it takes has XLA kernels: else Keras must not compile a model with it.

        TensorFlow's crops and suppression have none; see `backend.within_xla`.
        """
        return self._can_be_compiled and backend.is_static()

    @supports_jit.setter
    def supports_jit(self, value: bool) -> None:
        self._can_be_compiled = value
