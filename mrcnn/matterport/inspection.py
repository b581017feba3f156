"""Looking inside the network: Matterport's `ancestor`, `run_graph` and lists of layers.

They serve the notebooks: a name or a layer gives a symbolic tensor, `run_graph` computes it.
"""

from collections import OrderedDict
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np

from mrcnn.network.rpn.trace import ProposalTrace
from mrcnn.predictor import Predictor

Tensor = Any
# Names that programs give the suppression inside the layer ROI, by version of TensorFlow 1.
SUPPRESSION = "rpn_non_max_suppression"


class Inspection:
    """Mixed into `MaskRCNN`; needs `keras_model`, `predictor` and `inference_model`."""

    keras_model: keras.Model
    inference_model: keras.Model
    predictor: Predictor
    _trace: dict[str, Tensor] | None = None

    def find_trainable_layer(self, layer: keras.layers.Layer) -> keras.layers.Layer:
        """Return the layer that another one applies to every RoI, or the layer itself."""
        while layer.__class__.__name__ == "TimeDistributed":
            layer = layer.layer
        return layer

    def get_trainable_layers(self) -> list[keras.layers.Layer]:
        """Return the layers with weights, unwrapped; the RPN's head is one of them, a model."""
        layers = [self.find_trainable_layer(layer) for layer in self.keras_model.layers]
        return [layer for layer in layers if layer.weights]

    def ancestor(self, tensor: Tensor, name: str, checked: Any = None) -> Tensor | None:
        """Return the tensor of this name, None where there is none.

        Known are the steps of the layer ROI (ROI/pre_nms_anchors, ROI/refined_anchors,
        ROI/refined_anchors_clipped, ROI/rpn_non_max_suppression) and the outputs of layers; what
        follows a colon is left out of account.

        Args:
            tensor: Not used: names are looked up in the whole inference graph.
            checked: Not used.
        """
        del tensor, checked
        layer, _, step = name.partition(":")[0].partition("/")
        if layer == "ROI" and step:
            steps = self._steps_of_proposals()
            return steps["kept"] if step.startswith(SUPPRESSION) else steps.get(step)
        names = {layer.name for layer in self.inference_model.layers}
        return self.inference_model.get_layer(layer).output if layer in names else None

    def run_graph(
        self,
        images: Sequence[np.ndarray],
        outputs: Sequence[tuple[str, Tensor]],
        image_metas: np.ndarray | None = None,
    ) -> "OrderedDict[str, np.ndarray]":
        """Return what tensors of the inference graph are for some images, by name; print each.

        Args:
            images: As `detect` takes them; with image_metas, as `detect_molded` does.
            outputs: Names and tensors, such as those of `ancestor` or of
                `keras_model.get_layer(name).output`.
        """
        wanted = OrderedDict(outputs)
        for name, tensor in wanted.items():
            if tensor is None:
                raise ValueError(f"the tensor for {name!r} is None: there is none of that name")
        if image_metas is None:
            molded, image_metas, _ = self.predictor.mold_inputs(images)
        else:
            molded = self.predictor.molded(np.asarray(images), image_metas)
        anchors = np.tile(self.predictor.anchors(molded.shape[1:3]), (len(molded), 1, 1))
        graph = keras.Model(self.inference_model.inputs, dict(wanted))
        # Not by predict, which would trace every new set of outputs and in the end warn of it.
        found = graph([molded, np.asarray(image_metas, np.float32), anchors], training=False)
        results = OrderedDict((name, np.asarray(found[name])) for name in wanted)
        for name, array in results.items():
            log(name, array)
        return results

    def _steps_of_proposals(self) -> dict[str, Tensor]:
        if self._trace is None:
            proposals = self.inference_model.get_layer("ROI")
            self._trace = ProposalTrace(proposals, name="trace")(proposals.input)
        return self._trace


def log(text: str, array: np.ndarray | None = None) -> None:
    """Print a text and, of an array, shape, range and dtype."""
    if array is not None:
        array = np.asarray(array)
        low, high = (f"{v():10.5f}" if array.size else "" for v in (array.min, array.max))
        text = f"{text:25}  shape: {array.shape!s:20}  min: {low:10}  max: {high:10}  {array.dtype}"
    print(text)


def _identity_of_symbolic_tensors() -> None:
    """Let `tf.identity` take symbolic tensors of Keras, as the notebooks do with the input image.

    Keras 3 refuses every TensorFlow function on them.
    """
    try:
        import tensorflow as tf
        from tensorflow.python.util import dispatch
    except ImportError:  # a private place: without it, that one line of a notebook fails
        return

    class SymbolicIdentity(dispatch.OpDispatcher):
        def handle(self, args: tuple, kwargs: dict) -> Any:
            tensor = args[0] if args else kwargs.get("input")
            return tensor if isinstance(tensor, keras.KerasTensor) else self.NOT_SUPPORTED

    SymbolicIdentity().register(tf.identity)


if keras.backend.backend() == "tensorflow":
    _identity_of_symbolic_tensors()
