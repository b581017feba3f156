"""The public face: `MaskRCNN`, with Matterport's names, NumPy in and NumPy out."""

import datetime
import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Self

import keras
import numpy as np

from mrcnn.config import Config
from mrcnn.data import augment
from mrcnn.data.dataset import Dataset
from mrcnn.evaluation import coco
from mrcnn.network import network as networks
from mrcnn.predictor import Predictor
from mrcnn.training import distribution, trainer
from mrcnn.training import run as training_run
from mrcnn.training.callbacks import Checkpoint
from mrcnn.weights import catalog, hdf5

logger = logging.getLogger("mrcnn")


class MaskRCNN:
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
    """

    def __init__(self, mode: str, config: Config, model_dir: str | Path) -> None:
        if mode not in ("training", "inference"):
            raise ValueError(f'mode must be "training" or "inference", got {mode!r}')
        self.mode = mode
        self.config = config
        self.model_dir = str(model_dir)
        self._resumed: Path | None = None
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
        if not stored and "NUM_CLASSES" not in settings:
            raise ValueError(
                f"{path}: the file carries no settings, so give at least NUM_CLASSES and, unless "
                "it is resnet101, BACKBONE (on the command line: --set NUM_CLASSES=81)"
            )
        config = Config.from_dict({"NAME": "mrcnn", **stored, **settings})
        model = cls(mode, config, model_dir)
        report = model.load_weights(path, verbose=0)
        if report.missing:
            print(report)
        return model

    def build(self, mode: str, config: Config) -> keras.Model:
        """Return a new training or inference model, on as many devices as GPU_COUNT."""
        keras.utils.set_random_seed(config.SEED)
        self.strategy = distribution.strategy(config.GPU_COUNT if mode == "training" else 1)
        with self.strategy.scope():
            self.network = networks.build(config)
            self.training_model = trainer.TrainingModel(self.network, config)
        self.predictor = Predictor(self.network.inference, config)
        return self.training_model if mode == "training" else self.network.inference

    # Weights and log folders

    def load_weights(
        self,
        filepath: str | Path,
        by_name: bool = True,
        exclude: Iterable[str] | None = None,
        *,
        verbose: int = 1,
    ) -> hdf5.LoadReport:
        """Load a weight file by layer name; print and return what was loaded, skipped, missed.

        Args:
            filepath: A file, or "nuclei" (bundled), "imagenet", "coco" (downloaded), "last" (the
                newest checkpoint under model_dir).
            by_name: Accepted for Matterport's callers; loading is always by name.
            exclude: Names of layers to leave as they are.
            verbose: 0 prints nothing.

        Raises:
            ValueError: When the file is unreadable, of another shape, or matches nothing.
        """
        del by_name
        path = catalog.resolve(filepath, self.model_dir, self.config.NAME)
        report = hdf5.load(path, self.network.inference, exclude or ())
        if verbose:
            print(report)
        self.set_log_dir(path)
        return report

    def find_last(self) -> str:
        """Return the newest checkpoint of this NAME under model_dir.

        Raises:
            FileNotFoundError: When there is none.
        """
        return str(catalog.last_checkpoint(Path(self.model_dir), self.config.NAME))

    def set_log_dir(self, model_path: str | Path | None = None) -> None:
        """Set log folder, checkpoint path and epoch: a checkpoint's, or those of a new run."""
        name = (self.config.NAME or "").lower()
        self.epoch = 0
        self._resumed = None
        self.log_dir = str(_new_folder(Path(self.model_dir), name))
        if model_path is not None and catalog.CHECKPOINT.fullmatch(Path(model_path).name):
            stored = hdf5.read_settings(Path(model_path))
            if "epoch" in stored:
                self.epoch = int(stored["epoch"])
                self.log_dir = str(Path(model_path).parent)
                self._resumed = Path(model_path)
        self.checkpoint_path = str(Path(self.log_dir) / f"mask_rcnn_{name}_{{epoch:04d}}.h5")

    def save_weights(self, filepath: str | Path, *, kernel_dtype: str = "float32") -> None:
        """Write weights and settings; see `hdf5.save`."""
        settings = {"config": self.config.to_dict(), "epoch": self.epoch}
        hdf5.save(Path(filepath), self.network.inference, settings, kernel_dtype=kernel_dtype)

    # Training

    def train(
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
            custom_callbacks: Called beside this package's own.
            no_augmentation_sources: Sources whose images are not augmented.

        Raises:
            TrainingDiverged: When a loss is not finite; the last checkpoint is good.
            RuntimeError: When more than a tenth of the images are bad.
            KeyboardInterrupt: After a checkpoint was written.
        """
        if self.mode != "training":
            raise ValueError('train needs MaskRCNN(mode="training")')
        if epochs <= self.epoch:
            print(f"Nothing to train: epoch {self.epoch} is finished, epochs is {epochs}")
        self._compile(learning_rate, layers)
        stream = training_run.training_stream(
            train_dataset,
            self.config,
            _augmentations(augmentation, self.config),
            no_augmentation_sources or (),
            self.epoch,
        )
        validation = None
        if val_dataset is not None and self.config.VALIDATION_STEPS:
            validation = training_run.validation_stream(val_dataset, self.config)
        Path(self.log_dir).mkdir(parents=True, exist_ok=True)
        print(f"\nStarting at epoch {self.epoch + 1}. LR={learning_rate}\n")
        print(f"Checkpoint Path: {self.checkpoint_path}")
        checkpoint = Checkpoint(self.checkpoint_path, self._write_checkpoint)
        checkpoint.finished = self.epoch
        try:
            return training_run.fit(
                self.training_model,
                stream,
                validation,
                range(self.epoch, epochs),
                checkpoint,
                Path(self.log_dir),
                custom_callbacks or (),
            )
        finally:
            self.epoch = checkpoint.finished
            skipped = training_run.bad_images(stream, validation)
            if skipped:
                print(f"{len(skipped)} bad images were skipped")

    def set_trainable(self, layer_regex: str, verbose: int = 1) -> None:
        """Let layers train whose whole name matches; takes effect with the next training."""
        chosen = trainer.set_trainable(self.network.inference, layer_regex)
        if verbose:
            print(f"Selecting layers to train: {len(chosen)} layers")

    def _compile(self, learning_rate: float, layers: str) -> None:
        self.set_trainable(layers)
        with self.strategy.scope():
            optimizer = trainer.make_optimizer(
                self.config, learning_rate, self.config.LEARNING_MOMENTUM
            )
            self.training_model.compile(optimizer)
        step = self.epoch * self.config.STEPS_PER_EPOCH
        state = hdf5.read_optimizer(self._resumed) if self._resumed else {}
        count = trainer.restore_optimizer(
            self.training_model, {"iterations": np.asarray(step), **state}
        )
        if state:
            print(f"Optimizer resumed at step {int(state['iterations'])}, {count} momentums")
        # The state is that of the file; after this training it is out of date.
        self._resumed = None

    def _write_checkpoint(self, path: Path, epoch: int) -> None:
        settings = {"config": self.config.to_dict(), "epoch": epoch}
        state = trainer.optimizer_state(self.training_model)
        hdf5.save(path, self.network.inference, settings, state)

    # Detection

    def detect(self, images: Sequence[np.ndarray], verbose: int = 0) -> list[dict[str, np.ndarray]]:
        """Return the objects of each image, best first.

        Args:
            images: Any number of any sizes: (H, W), (H, W, 1), (H, W, 3) or (H, W, 4), 8 or 16
                bits; or one array (B, H, W, C).
            verbose: 1 shows a progress bar.

        Returns:
            A dict an image: rois (N, 4) int32 (y1, x1, y2, x2) in pixels of the image, class_ids
            (N,) int32, scores (N,) float32, masks (H, W, N) bool.
        """
        if isinstance(images, np.ndarray) and images.ndim < 4:
            raise ValueError(
                f"detect takes a list of images, got one array of shape {images.shape}; write "
                "detect([image])"
            )
        found = self.detect_each(images)
        if verbose:
            bar = keras.utils.Progbar(len(images))
            return [(bar.add(1), result)[1] for result in found]
        return list(found)

    def detect_each(self, images: Iterable[np.ndarray]) -> Iterator[dict[str, np.ndarray]]:
        """Yield what `detect` returns, image by image, so that a folder need not fit in memory."""
        return self.predictor.detect_each(images)

    def evaluate(self, dataset: Dataset, verbose: int = 1) -> dict[str, dict[str, Any]]:
        """Return the COCO scores of masks ("segm") and boxes ("bbox") on a dataset.

        Up to DETECTION_MAX_INSTANCES detections an image count; see `evaluation.coco.score`.

        Args:
            dataset: Prepared, with the classes of the network in the same order.
            verbose: 1 prints the table.
        """
        truth = coco.ground_truth_of(dataset)
        category_ids = range(self.config.NUM_CLASSES)
        scores = self.score_against(truth, dataset, dataset.image_ids.tolist(), category_ids)
        if verbose:
            print(coco.format_table(scores))
        return scores

    def score_against(
        self,
        truth: Any,
        dataset: Dataset,
        truth_ids: Sequence[int],
        category_ids: Sequence[int | None],
        progress: Callable[[Sequence[Any]], Iterable[Any]] = iter,
    ) -> dict[str, dict[str, Any]]:
        """Return the scores of detections in the dataset's images against a ground truth.

        Images that cannot be read are left out with a warning each.

        Args:
            truth: From `evaluation.coco`.
            truth_ids: Its id of each of the dataset's images.
            category_ids: The truth's category of each class of the network.
            progress: Wraps the list of images that is gone through.

        Raises:
            RuntimeError: When more than a tenth of the images cannot be read.
        """
        results, seen, bad = [], [], []
        pairs = list(zip(dataset.image_ids, truth_ids, strict=True))
        for image_id, truth_id in progress(pairs):
            try:
                image = dataset.load_image(image_id)
            except (ValueError, OSError) as error:
                logger.warning("left out of the scores: %s", error)
                bad.append(str(error))
                continue
            results += coco.to_results(self.detect([image])[0], truth_id, category_ids)
            seen.append(truth_id)
        if 10 * len(bad) > len(dataset.image_ids):
            raise RuntimeError(f"{len(bad)} images cannot be read, more than a tenth: {bad[0]}")
        most = self.config.DETECTION_MAX_INSTANCES
        return coco.score(truth, results, max_detections=most, image_ids=seen)

    def get_anchors(self, image_shape: Sequence[int]) -> np.ndarray:
        """Return the anchors for an input of this shape, normalized: (N, 4) float32."""
        return self.predictor.anchors(image_shape)


def _new_folder(model_dir: Path, name: str) -> Path:
    """Return the folder of a run that starts now; names tell minutes, so some runs must move on."""
    start = datetime.datetime.now()
    while (folder := model_dir / f"{name}{start:%Y%m%dT%H%M}").exists():
        start += datetime.timedelta(minutes=1)
    return folder


def _augmentations(augmentation: Any, config: Config) -> list[augment.Augmentation]:
    """Return the augmentations that were passed, or those that the settings name."""
    if augmentation is None:
        return [augment.by_name(name) for name in config.AUGMENTATIONS]
    if hasattr(augmentation, "to_deterministic"):
        return [augment.from_imgaug(augmentation)]
    return list(augmentation) if isinstance(augmentation, Sequence) else [augmentation]
