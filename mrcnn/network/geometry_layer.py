"""The base of all layers that work on boxes and masks rather than features."""

from keras import layers

from mrcnn.network import backend_ops


class GeometryLayer(layers.Layer):
    """A layer without weights that computes in float32 whatever the precision of the network.

    In bfloat16 a normalized box of a 1024 pixel input would be off by more than a pixel.
    """

    def __init__(self, **kwargs):
        kwargs.setdefault("dtype", "float32")
        super().__init__(**kwargs)
        # TensorFlow's crops and suppression have no XLA kernels; Keras would compile for XLA on a
        # single GPU. JAX compiles all or nothing.
        self.supports_jit = backend_ops.IS_STATIC
