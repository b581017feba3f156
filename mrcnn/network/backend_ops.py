"""The operations that each backend does in its own way: crops, suppression, statistics.

TensorFlow has its own operations, which also take numbers of rows that depend on the data; what
JAX compiles is written in `keras.ops` with fixed shapes (`portable_ops`).
"""

import keras

from mrcnn import backends

BACKEND = backends.check(keras.backend.backend())
# Shapes must be known when the graph is compiled.
IS_STATIC = BACKEND == "jax"
# Batch norm of a replica sees its own images. JAX runs one program over the global batch.
HAS_REPLICAS = BACKEND == "tensorflow"

if BACKEND == "tensorflow":
    from mrcnn.network import tensorflow_ops as chosen
    from mrcnn.network.portable_ops import weighted_rows
    from mrcnn.network.tensorflow_ops import compiled
else:
    from mrcnn.network import portable_ops as chosen  # type: ignore[no-redef]
    from mrcnn.network.jax_ops import compiled, weighted_rows  # noqa: F401

by_level = chosen.by_level
crop_and_resize = chosen.crop_and_resize
kept_rows = chosen.kept_rows
largest_in_rectangles = chosen.largest_in_rectangles
suppress = chosen.suppress


def has_gpu() -> bool:
    """Return whether the backend computes on a GPU."""
    try:
        return bool(keras.distribution.list_devices("gpu"))
    except RuntimeError:  # JAX raises where there is none
        return False
