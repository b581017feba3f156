"""Matterport's `MaskRCNN`: its constructor, methods and attributes, on top of ours."""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Self

import keras
import numpy as np

from mrcnn import mask_rcnn, terminal
from mrcnn.config import Config
from mrcnn.data.dataset import Dataset
from mrcnn.matterport.built import ActingSettings, BuiltSettings
from mrcnn.matterport.data import augmentations
from mrcnn.matterport.detection import DetectionInSteps, in_matterports_order
from mrcnn.matterport.inspection import Inspection
from mrcnn.matterport.training import GeneratorTrainingModel
from mrcnn.predictor import MASKS
from mrcnn.training import trainable
from mrcnn.training.options import Options
from mrcnn.training.run_folder import RunFolder
from mrcnn.weights import catalog, hdf5, runs
from mrcnn.weights.named import InferenceModel


class MaskRCNN(ActingSettings, Inspection, DetectionInSteps, mask_rcnn.MaskRCNN):
    """Mask R-CNN: train it on a `Dataset`, or detect objects in images.

    Args:
        mode: "training" or "inference": which of the two graphs `keras_model` is. Both share one
            set of weights, and a network in training can detect as well.
        config: The settings.
        model_dir: Folder in which every training run creates a folder for logs and checkpoints.

    Attributes:
        keras_model: The training or inference model.
        epoch: Number of finished training epochs.
        log_dir: Folder of the current training run.
        checkpoint_path: Path of its checkpoints, with the field {epoch:04d}.
        anchors: (N, 4) float64, in pixels, for the input of the last image or the shape last passed
            to `get_anchors`; before that, for IMAGE_SHAPE in training and None in inference.
        load_report: The report of the last `load_weights`.
    """

    # Of the class, for subclasses whose own __init__ does not call this one.
    mode: str
    model_dir: str

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
        classes: Sequence[str] | None = None,
        model_dir: str | Path = "logs",
        **settings: Any,
    ) -> Self:
        """Return a network with the settings and weights of one of this package's checkpoints.

        Args:
            weights: A file, or a name such as "nuclei"; see `load_weights`.
            mode: "inference" or "training".
            classes: Names of the classes to train, without background, if they are others than
                those of the weights: the layers of classes then start anew, in a new run.
            settings: Settings to override.

        Raises:
            ValueError: If the file contains no settings.
        """
        path, stored, config = mask_rcnn.stored_config(weights, model_dir, settings, classes)
        return cls(mode, config, model_dir)._start_from(path, stored)

    def build(self, mode: str, config: Config) -> keras.Model:
        """Return a new training or inference model, on as many devices as GPU_COUNT."""
        self._build(config, config.GPU_COUNT if mode == "training" else 1)
        graph = self.network.inference
        with self.strategy.scope():
            outputs = in_matterports_order(graph.output)
            self.inference_model = InferenceModel(graph.inputs, outputs, name="mask_rcnn")
        self.inference_model.config = config
        self._trace = None
        self._built = BuiltSettings(config)
        if mode == "training":
            self.predictor.input_shape = (int(config.IMAGE_SHAPE[0]), int(config.IMAGE_SHAPE[1]))
        return self.training_model if mode == "training" else self.inference_model

    def _training_model(self) -> GeneratorTrainingModel:
        return GeneratorTrainingModel(self.network, self.network.config)

    @property
    def training_model(self) -> GeneratorTrainingModel:
        """The training graph with its losses, which also takes Matterport's generators."""
        return self.trainer.model

    # Weights and log folders

    @property
    def epoch(self) -> int:
        """Number of finished epochs of training."""
        return self.run.epoch

    @epoch.setter
    def epoch(self, number: int) -> None:
        self.run.epoch = number

    @property
    def log_dir(self) -> str:
        """Folder of the current training run."""
        return str(self.run.folder)

    @log_dir.setter
    def log_dir(self, folder: str) -> None:
        self.run.folder = Path(folder)

    @property
    def checkpoint_path(self) -> str:
        """Of the checkpoints of the run, with the field {epoch:04d}."""
        return self.run.checkpoint_path

    @checkpoint_path.setter
    def checkpoint_path(self, path: str) -> None:
        self.run.checkpoint_path = path

    def set_log_dir(self, model_path: str | Path | None = None) -> None:
        """Set log folder, checkpoint path and epoch: a checkpoint's, or those of a new run."""
        if "run" not in self.__dict__:
            self.run = RunFolder(Path(self.model_dir), self.config.NAME or "")
        self.run.begin(Path(model_path) if model_path else None)

    def load_weights(
        self,
        filepath: str | Path,
        by_name: bool = False,
        exclude: Iterable[str] | None = None,
        *,
        verbose: int = 1,
    ) -> hdf5.LoadReport:
        """Load a weights file; print and return what was loaded, skipped, missing; see `load`.

        Args:
            filepath: A file or a name of weights, see `load`.
            by_name: Accepted for Matterport's callers; loading is always by name.
            exclude: Names of layers to skip.
            verbose: 0 prints nothing.

        Raises:
            ValueError: If the file is unreadable, has other shapes, or matches no layer.
        """
        del by_name
        self.load(filepath, exclude=exclude or ())
        if verbose:
            terminal.show(self.load_report)
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
        self.save(filepath, kernel_dtype=kernel_dtype)

    # Detection

    def detect(
        self, images: Sequence[np.ndarray], verbose: int = 0, *, masks: str = "full"
    ) -> list[dict[str, Any]]:
        """Return the detections of each image, highest score first; see `predict`.

        Args:
            images: See `predict`; or one array (B, H, W, C).
            verbose: 1 shows a progress bar.
            masks: "full" or "rle", see `predict`.
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
        """Yield the results of `detect` one image at a time, so they need not fit in memory."""
        return self.predict(images, masks)

    def predict(
        self, images: Iterable[np.ndarray], masks: str = "full"
    ) -> Iterator[dict[str, Any]]:
        """Yield the objects of each image, in steps where the program has steps of its own."""
        if self.has_own_steps(MaskRCNN) and masks in MASKS:
            self._settings()
            return self.detect_in_steps(images, masks)
        return super().predict(images, masks)

    def _detect_to_score(self, image: np.ndarray) -> dict[str, Any]:
        if type(self).detect is not MaskRCNN.detect:  # a program's own way counts
            return self.detect([image])[0]
        if self.has_own_steps(MaskRCNN):
            return next(self.detect_in_steps([image], "rle"))
        return super()._detect_to_score(image)

    # Training

    def train(  # type: ignore[override]
        self,
        train_dataset: Dataset,
        val_dataset: Dataset | None,
        learning_rate: float,
        epochs: int,
        layers: str,
        augmentation: Any = None,
        custom_callbacks: Sequence[keras.callbacks.Callback] | None = None,
        no_augmentation_sources: Sequence[str] | None = None,
    ) -> keras.callbacks.History:
        """Train up to an epoch, writing a checkpoint after each; return the history.

        Args:
            train_dataset: Prepared.
            val_dataset: Prepared, or None.
            epochs: Number of the last epoch, counted from the beginning of the first run.
            layers: heads, 3+, 4+, 5+, all, or a regular expression of layer names.
            augmentation: An imgaug augmenter, or callables of `mrcnn.data.augment`.
            custom_callbacks: Called in addition to the built-in ones.
            no_augmentation_sources: Sources whose images are not augmented.

        Raises:
            As `Trainer.train`.
        """
        if self.mode != "training":
            raise ValueError('train needs MaskRCNN(mode="training")')
        self.trainer.compile = self.compile
        options = Options(
            learning_rate,
            epochs,
            layers,
            None if augmentation is None else augmentations(augmentation),
            no_augmentation_sources or (),
            custom_callbacks or (),
        )
        return super().train(train_dataset, val_dataset, options)

    def _scorer(self, dataset: Dataset) -> None:
        """Return None: programs that want scores pass `MeanAveragePrecisionCallback`."""
        del dataset

    def compile(self, learning_rate: float, momentum: float) -> None:
        """Compile the training model: optimizer, losses, and the state of a resumed run."""
        self.trainer.run = self.run
        self.trainer.compile_sgd(learning_rate, momentum)

    def set_trainable(
        self,
        layer_regex: str,
        keras_model: keras.Model | None = None,
        indent: int = 0,
        verbose: int = 1,
    ) -> None:
        """Make layers whose full name matches trainable, from the next `compile` on."""
        del indent
        chosen = trainable.set_trainable(keras_model or self.inference_model, layer_regex)
        if verbose:
            print(f"Selecting layers to train: {len(chosen)} layers")
