"""The public face: `MaskRCNN`, with Matterport's names, NumPy in and NumPy out."""

from mrcnn import quiet_keras  # noqa: F401 (before anything else imports Keras)

# isort: split
import logging
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Self

import keras
import numpy as np

from mrcnn import matterport, terminal, utils
from mrcnn.config import Config
from mrcnn.data.dataset import Dataset
from mrcnn.evaluation import coco
from mrcnn.matterport import *  # noqa: F403 (programs reach these names through this module)
from mrcnn.matterport import classes
from mrcnn.matterport.built import BuiltSettings
from mrcnn.matterport.detection import DetectionInSteps, repeatable
from mrcnn.matterport.inspection import Inspection
from mrcnn.matterport.runs import TrainingRuns
from mrcnn.matterport.training import TrainingModel
from mrcnn.network import network as networks
from mrcnn.predictor import MASKS, Predictor
from mrcnn.training import distribution
from mrcnn.training.callbacks import MeanAveragePrecisionCallback
from mrcnn.weights import catalog, hdf5, loading, runs
from mrcnn.weights.named import InferenceModel

# Also reached through this module by programs written for Matterport's.
K, KL, KM, KE = keras.backend, keras.layers, keras.models, keras.layers
logger = logging.getLogger("mrcnn")
__all__ = [*matterport.__all__, "MaskRCNN", "MeanAveragePrecisionCallback", "utils"]
if K.backend() == "tensorflow":
    import tensorflow as tf

    __all__ += ["tf"]


class MaskRCNN(TrainingRuns, Inspection, DetectionInSteps):
    """Mask R-CNN: train it on a `Dataset`, or detect objects in images.

    Args:
        mode: "training" or "inference". Both build both graphs over one set of weights; the mode
            says which of them `keras_model` is.
        config: The settings.
        model_dir: Folder under which every training run makes a folder for logs and checkpoints.

    Attributes:
        keras_model: The training or inference model.
        epoch: Number of finished epochs of training.
        log_dir: Folder of the current training run.
        checkpoint_path: Of its checkpoints, with the field {epoch:04d}.
        anchors: (N, 4) float64, pixels, of the input of the last image or of the shape that
            `get_anchors` was last asked for; before that, of IMAGE_SHAPE in training and None in
            inference.
        load_report: Of the last `load_weights`.
    """

    # Of the class, for subclasses whose own __init__ does not call this one.
    load_report: hdf5.LoadReport

    def __init__(self, mode: str, config: Config, model_dir: str | Path) -> None:
        if mode not in ("training", "inference"):
            raise ValueError(f'mode must be "training" or "inference", got {mode!r}')
        self.mode = mode
        self.config = config
        self.model_dir = str(model_dir)
        self.set_log_dir()
        self.keras_model = self.build(mode, config)

    @classmethod
    def from_checkpoint(
        cls,
        weights: str | Path,
        *,
        mode: str = "inference",
        model_dir: str | Path = "logs",
        **settings: Any,
    ) -> Self:
        """Return a network with the settings and the weights of a checkpoint of this package.

        Args:
            weights: A file, or a name such as "nuclei"; see `load_weights`.
            settings: Settings to change.

        Raises:
            ValueError: When the file carries no settings.
        """
        path = catalog.resolve(weights, model_dir)
        stored = catalog.settings(weights, path)
        if "NUM_CLASSES" not in {**stored, **settings}:
            raise ValueError(
                f"{path}: the file carries no settings of a network that detects, so give at "
                "least NUM_CLASSES and, unless it is resnet101, BACKBONE (on the command line: "
                "--set NUM_CLASSES=81)"
            )
        config = Config.from_dict({"NAME": "mrcnn", **stored, **settings})
        model = cls(mode, config, model_dir)
        if model.load_weights(path, verbose=0).missing:
            terminal.show(model.load_report)
        return model

    def build(self, mode: str, config: Config) -> keras.Model:
        """Return a new training or inference model, on as many devices as GPU_COUNT."""
        distribution.check_running()
        self.strategy = distribution.strategy(config.GPU_COUNT if mode == "training" else 1)
        with repeatable(config.SEED), self.strategy.scope():
            self.network = networks.build(config)
            self.training_model = TrainingModel(self.network, config)
            graph = self.network.inference
            self.inference_model = InferenceModel(graph.inputs, graph.outputs, name="mask_rcnn")
        self.inference_model.config = config
        self._remember_initial()
        self._trace = None
        self.predictor = Predictor(self.inference_model, config)
        self._built = BuiltSettings(config)
        if mode == "training":
            self.predictor.input_shape = (int(config.IMAGE_SHAPE[0]), int(config.IMAGE_SHAPE[1]))
        return self.training_model if mode == "training" else self.inference_model

    # Weights and log folders

    def load_weights(
        self,
        filepath: str | Path,
        by_name: bool = False,
        exclude: Iterable[str] | None = None,
        *,
        verbose: int = 1,
    ) -> hdf5.LoadReport:
        """Load a weight file by layer name; print and return what was loaded, skipped, missed.

        Args:
            filepath: A file of this package, Matterport, Keras 2 or torchvision, or "nuclei"
                (bundled), "imagenet", "coco", "torchvision-v2" and others of
                `catalog.PUBLISHED` (downloaded), "last" (the newest checkpoint under model_dir).
            by_name: Accepted for Matterport's callers; loading is always by name.
            exclude: Names of layers to leave as they are.
            verbose: 0 prints nothing.

        Raises:
            ValueError: When the file is unreadable, of another shape, or matches nothing.
        """
        del by_name
        path = catalog.resolve(filepath, self.model_dir, self.config.NAME)
        config = self._settings()
        self.load_report = loading.load(path, self.inference_model, exclude or (), config=config)
        if verbose:
            terminal.show(self.load_report)
        self.set_log_dir(path)
        return self.load_report

    def find_last(self) -> str:
        """Return the path of the newest checkpoint of this NAME under model_dir.

        It is a str that also unpacks as (folder, path), as older versions of Matterport's did.

        Raises:
            FileNotFoundError: When there is none.
        """
        return runs.Found(runs.last_checkpoint(Path(self.model_dir), self.config.NAME))

    def get_imagenet_weights(self) -> str:
        """Return the path of the ImageNet weights of ResNet-50, downloaded once.

        Raises:
            OSError: When the download fails.
        """
        return str(catalog.resolve("imagenet", self.model_dir))

    def save_weights(self, filepath: str | Path, *, kernel_dtype: str = "float32") -> None:
        """Write weights and settings; see `hdf5.save`."""
        settings = {"config": self._settings().to_dict(), "epoch": self.epoch}
        hdf5.save(Path(filepath), self.inference_model, settings, kernel_dtype=kernel_dtype)

    # Detection

    def detect(
        self, images: Sequence[np.ndarray], verbose: int = 0, *, masks: str = "full"
    ) -> list[dict[str, Any]]:
        """Return the objects of each image, best first.

        Args:
            images: Any number of any sizes: (H, W), (H, W, 1), (H, W, 3) or (H, W, 4), 8 or 16
                bits; or one array (B, H, W, C).
            verbose: 1 shows a progress bar.
            masks: "full" for arrays of the size of the image, "rle" for COCO's run lengths, which
                need neither their memory nor their time.

        Returns:
            A dict an image: rois (N, 4) int32 (y1, x1, y2, x2) in pixels of the image, class_ids
            (N,) int32, scores (N,) float32, masks (H, W, N) bool, or N of {"size", "counts"}.
        """
        shape = getattr(images, "shape", None)  # of tensors too
        if shape is not None and len(shape) < 4:
            raise ValueError(
                f"detect takes a list of images, got one array of shape {tuple(shape)}; write "
                "detect([image])"
            )
        found = self.detect_each(images, masks)
        if verbose:
            bar = keras.utils.Progbar(len(images))
            return [(bar.add(1), result)[1] for result in found]
        return list(found)

    def detect_each(
        self, images: Iterable[np.ndarray], masks: str = "full"
    ) -> Iterator[dict[str, Any]]:
        """Yield what `detect` returns, image by image, so that a folder need not fit in memory."""
        if masks not in MASKS:
            raise ValueError(f"masks must be one of {sorted(MASKS)}, got {masks!r}")
        self._settings()
        return self.detections_of(images, masks, MaskRCNN)

    def evaluate(
        self, dataset: Dataset, verbose: int = 1, *, limit: int | None = None
    ) -> dict[str, dict[str, Any]]:
        """Return the COCO scores of masks ("segm") and boxes ("bbox") on a dataset.

        Up to DETECTION_MAX_INSTANCES detections an image count; see `evaluation.coco.score`.

        Args:
            dataset: Prepared, with the classes of the network in the same order.
            verbose: 1 prints the table.
            limit: Only so many of the images, the first ones; None for all.
        """
        config = self._settings()
        dataset = classes.by_name(config, dataset)
        image_ids = dataset.image_ids[:limit].tolist()
        objects = coco.ground_truth_of(dataset, image_ids)
        truth = coco.Truth(objects, image_ids, range(config.NUM_CLASSES))
        scores = self.score_against(truth, dataset, image_ids=image_ids)
        if verbose:
            terminal.show(coco.format_table(scores))
        return scores

    def score_against(
        self, truth: coco.Truth, dataset: Dataset, **options: Any
    ) -> dict[str, dict[str, Any]]:
        """Return the scores of detections in a dataset's images; see `coco.score_detector`."""
        config = self._settings()

        def detect(image: np.ndarray) -> dict[str, Any]:
            if type(self).detect is not MaskRCNN.detect:  # a program's own way counts
                return self.detect([image])[0]
            return next(self.detections_of([image], "rle", MaskRCNN, tells_limit=False))

        return coco.score_detector(
            detect,
            dataset,
            truth,
            max_detections=config.DETECTION_MAX_INSTANCES,
            iou_types=config.iou_types,
            **options,
        )
