"""Matterport's `mrcnn.parallel_model`."""

from typing import Any

import keras


class ParallelModel(keras.Model):
    """A thin wrapper with the name of Matterport's multi-GPU model.

    Here `Config.GPU_COUNT` alone sets the number of devices that `MaskRCNN` trains on, and its
    `keras_model` needs no wrapper. This class keeps programs working that wrap a model themselves:
    it computes what the model computes, and saves and loads the model.

    Args:
        keras_model: The model.
        gpu_count: Ignored; kept for compatibility.
    """

    def __init__(self, keras_model: keras.Model, gpu_count: int) -> None:
        super().__init__(inputs=keras_model.inputs, outputs=keras_model.outputs)
        self.inner_model = keras_model
        self.gpu_count = gpu_count

    def __getattribute__(self, name: str) -> Any:
        """Redirect loading and saving to the inner model."""
        if "load" in name or "save" in name:
            return getattr(super().__getattribute__("inner_model"), name)
        return super().__getattribute__(name)

    def summary(self, *args: Any, **kwargs: Any) -> None:
        """Print this model and the inner one."""
        super().summary(*args, **kwargs)
        self.inner_model.summary(*args, **kwargs)
