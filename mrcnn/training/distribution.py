"""Devices and the way of batches to them, each backend's own: `tensorflow_devices`, `jax_devices`.

Both have the same functions, which the trainer calls through this module.
"""

import keras

from mrcnn import backends

if backends.check(keras.backend.backend()) == "tensorflow":
    from mrcnn.training import tensorflow_devices as chosen
else:
    from mrcnn.training import jax_devices as chosen  # type: ignore[no-redef]

BATCHES = chosen.BATCHES
ERRORS = chosen.ERRORS
Feed = chosen.Feed
check_running = chosen.check_running
clip = chosen.clip
current = chosen.current
loggers = chosen.loggers
strategy = chosen.strategy
suits_xla = chosen.suits_xla
