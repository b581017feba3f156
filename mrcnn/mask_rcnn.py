"""Mask R-CNN as an object: predict, train, evaluate, load, save."""

from mrcnn import quiet_keras  # noqa: F401 (before anything else imports Keras)

# isort: split
import functools
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import keras
import numpy as np

from mrcnn import class_agreement, randomness, terminal
from mrcnn.config import Config
from mrcnn.data.dataset import Dataset
from mrcnn.evaluation import coco, detecting
from mrcnn.network.network import Network
from mrcnn.predictor import MASKS, Predictor
from mrcnn.training import distribution
from mrcnn.training.options import Options
from mrcnn.training.run_folder import RunFolder
from mrcnn.training.scoring import Scorer
from mrcnn.training.trainer import Trainer
from mrcnn.training.training_model import TrainingModel
from mrcnn.weights import catalog, hdf5, loading

SHOWN = 60  # letters of the names of classes in a description


class MaskRCNN:
    """A network that can be trained on a `Dataset` and detect objects in images.

    Args:
        config: The settings.
        model_dir: Folder in which every training run creates its own subfolder.
        devices: Number of GPUs that training is distributed over.

    Attributes:
        network: the `Network`.
        predictor: runs its inference graph on images.
        trainer: trains it; built lazily, together with the training graph.
        run: the `RunFolder` of the current training run.
        load_report: the report of the last `load`.
    """

    config: Config
    network: Network
    predictor: Predictor
    run: RunFolder
    load_report: hdf5.LoadReport

    def __init__(self, config: Config, model_dir: str | Path = "logs", *, devices: int = 1) -> None:
        self.config = config
        self.run = RunFolder(Path(model_dir), config.NAME or "")
        self._build(config, devices)

    @classmethod
    def from_checkpoint(
        cls,
        weights: str | Path,
        *,
        classes: Sequence[str] | None = None,
        model_dir: str | Path = "logs",
        devices: int = 1,
        **settings: Any,
    ) -> Self:
        """Return a network with the settings and weights of one of this package's checkpoints.

        Args:
            weights: A file, or a name such as "nuclei"; see `load`.
            classes: Names of the classes to train, without background, if they are others than
                those of the weights: the layers of classes then start anew, in a new run.
            model_dir, devices: See the class.
            settings: Settings to override.

        Raises:
            ValueError: If the file contains no settings.
        """
        path, stored, config = stored_config(weights, model_dir, settings, classes)
        return cls(config, model_dir, devices=devices)._start_from(path, stored)

    def _start_from(self, path: Path, stored: Mapping[str, Any]) -> Self:
        """Load weights, without those of other classes; say so, and what is missing."""
        anew = loading.of_other_classes(stored, self.config, self.network.inference)
        report = self.load(path, exclude=anew)
        if anew:
            self.run.begin()
        if report.missing:
            terminal.show(report)
        return self

    def __repr__(self) -> str:
        """Return what the network is: settings, classes, run."""
        config = self.config
        backbone = config.BACKBONE if isinstance(config.BACKBONE, str) else "its own backbone"
        names = ", ".join(map(str, config.CLASS_NAMES[1:])) or "without names"
        if len(names) > SHOWN:
            names = f"{names[:SHOWN]}..."
        epoch = f", epoch {self.run.epoch} of {self.run.folder}" if self.run.epoch else ""
        return (
            f"<{type(self).__name__} {config.NAME!r}: {backbone}, {config.CONVENTIONS}, "
            f"{config.NUM_CLASSES - 1} classes ({names}){epoch}>"
        )

    def _build(self, config: Config, devices: int) -> None:
        distribution.check_running()
        self.__dict__.pop("trainer", None)  # of the network built before
        self.strategy = distribution.strategy(devices)
        with randomness.repeatable(config.SEED), self.strategy.scope():
            self.network = Network(config)
        first = self.network.inference.weights[0]
        self._initial = keras.ops.convert_to_numpy(first).copy()
        self.predictor = Predictor(self.network.inference, config)

    @functools.cached_property
    def trainer(self) -> Trainer:
        """The `Trainer` of the network."""
        with self.strategy.scope():
            model = self._training_model()
        return Trainer(model, self.network.inference, self.run, self._initial)

    def _training_model(self) -> TrainingModel:
        return TrainingModel(self.network, self.config)

    def _settings(self, *, training: bool = False) -> Config:
        """Return the current settings; a subclass may let them change after building.

        Args:
            training: Including those of the training graph.
        """
        del training
        return self.config

    def load(self, weights: str | Path, *, exclude: Iterable[str] = ()) -> hdf5.LoadReport:
        """Load a weights file by layer name; report what was loaded, skipped and missing.

        Args:
            weights: A file of this package, Matterport, Keras 2 or torchvision, or "nuclei"
                (bundled), "imagenet", "coco", "torchvision-v2" and others of
                `catalog.PUBLISHED` (downloaded), "last" (the newest checkpoint under model_dir).
            exclude: Names of layers to skip.

        Raises:
            ValueError: If the file is unreadable, has other shapes, or matches no layer.
        """
        config = self._settings()
        path = catalog.resolve(weights, self.run.model_dir, config.NAME)
        self.load_report = loading.load(path, self.network.inference, exclude, config=config)
        self.run.begin(path)
        return self.load_report

    def save(self, path: str | Path, *, kernel_dtype: str = "float32") -> None:
        """Write weights and settings; see `hdf5.save`."""
        settings = {"config": self._settings().to_dict(), "epoch": self.run.epoch}
        hdf5.save(Path(path), self.network.inference, settings, kernel_dtype=kernel_dtype)

    def predict(
        self, images: Iterable[np.ndarray], masks: str = "full"
    ) -> Iterator[dict[str, Any]]:
        """Yield the detections of each image, highest score first, one image at a time.

        Args:
            images: Any number of images of any size: (H, W), (H, W, 1), (H, W, 3) or (H, W, 4),
                8 or 16 bits.
            masks: "full" for arrays of the image's size, "rle" for COCO's RLE, which takes less
                memory and time.

        Yields:
            A dict per image: rois (N, 4) int32 (y1, x1, y2, x2) in image pixels, class_ids (N,)
            int32, scores (N,) float32, masks (H, W, N) bool, or N dicts {"size", "counts"}.
        """
        if masks not in MASKS:
            raise ValueError(f"masks must be one of {sorted(MASKS)}, got {masks!r}")
        self._settings()
        return self.predictor.detect_each(images, masks)

    def train(
        self, dataset: Dataset, validation: Dataset | None, options: Options
    ) -> keras.callbacks.History:
        """Train up to an epoch or for a time; see `Trainer.train`.

        After epochs the network is scored on the validation images, in a fifth of the time at
        most; the best weights are kept as `best.h5` in the folder of the run.

        Args:
            dataset, validation: Prepared; classes are matched by name.
        """
        config = self._settings(training=True)
        dataset, validation = class_agreement.adopt_classes(config, dataset, validation)
        class_agreement.adopt_keypoints(config, dataset)
        self.trainer.run = self.run
        scorer = None if validation is None else self._scorer(validation)
        return self.trainer.train(dataset, validation, options, scorer)

    def _scorer(self, dataset: Dataset) -> Scorer | None:
        """Return what scores the network as it is then; the ground truth is read once."""
        image_ids = dataset.image_ids.tolist()
        num_classes = self.config.NUM_CLASSES
        truth = functools.cache(lambda: coco.truth_of(dataset, image_ids, num_classes))

        def score() -> dict[str, dict[str, Any]]:
            config = self.config
            # A network that has hardly learned detects as much as it may: nothing to warn about.
            detected = detecting.detect_dataset(
                self._detect_to_score, dataset, truth(), max_detections=None
            )
            return coco.score(
                truth().coco,
                detected.results,
                max_detections=config.DETECTION_MAX_INSTANCES,
                image_ids=detected.truth_ids,
                iou_types=config.iou_types,
            )

        def estimate() -> float:
            image = dataset.load_image(image_ids[0])
            self._detect_to_score(image)  # compiles
            started = time.monotonic()
            self._detect_to_score(image)
            return len(image_ids) * (time.monotonic() - started)

        return Scorer(score, estimate)

    def evaluate(
        self, dataset: Dataset, verbose: int = 1, *, limit: int | None = None
    ) -> dict[str, dict[str, Any]]:
        """Return the COCO scores of masks ("segm") and boxes ("bbox") on a dataset.

        At most DETECTION_MAX_INSTANCES detections per image count; see `evaluation.coco.score`.

        Args:
            dataset: Prepared; classes are matched by name.
            verbose: 1 prints the table.
            limit: Score only the first `limit` images; None for all.
        """
        config = self._settings()
        dataset = class_agreement.by_name(config, dataset)
        image_ids = dataset.image_ids[:limit].tolist()
        truth = coco.truth_of(dataset, image_ids, config.NUM_CLASSES)
        scores = self.score_against(truth, dataset, image_ids=image_ids)
        if verbose:
            terminal.show(coco.format_table(scores))
        return scores

    def score_against(
        self, truth: coco.Truth, dataset: Dataset, **options: Any
    ) -> dict[str, dict[str, Any]]:
        """Return the scores of the detections on a dataset; see `detecting.score_detector`."""
        config = self._settings()
        return detecting.score_detector(
            self._detect_to_score,
            dataset,
            truth,
            max_detections=config.DETECTION_MAX_INSTANCES,
            iou_types=config.iou_types,
            **options,
        )

    def detect_dataset(
        self, truth: coco.Truth, dataset: Dataset, **options: Any
    ) -> detecting.Detected:
        """Return the detections on a dataset, as RLE; see `detecting.detect_dataset`."""
        most = self._settings().DETECTION_MAX_INSTANCES
        return detecting.detect_dataset(
            self._detect_to_score, dataset, truth, max_detections=most, **options
        )

    def _detect_to_score(self, image: np.ndarray) -> dict[str, Any]:
        return next(self.predictor.detect_each([image], "rle", tells_limit=False))


def stored_config(
    weights: str | Path,
    model_dir: str | Path,
    settings: dict[str, Any],
    classes: Sequence[str] | None = None,
) -> tuple[Path, dict[str, Any], Config]:
    """Return the file that `weights` names, its settings, and those with overrides applied.

    Args:
        classes: Names of other classes, without background; None for those of the file.

    Raises:
        ValueError: If the file contains no settings.
    """
    path = catalog.resolve(weights, model_dir)
    stored = catalog.settings(weights, path)
    if classes is not None:
        names = ["BG", *classes]
        numbers = list(range(len(names)))
        own = {"NUM_CLASSES": len(names), "CLASS_NAMES": names, "CATEGORY_IDS": numbers}
        settings = {**own, **settings}
    if "NUM_CLASSES" not in {**stored, **settings}:
        raise ValueError(
            f"{path}: the file carries no settings of a network that detects, so give at "
            "least NUM_CLASSES and, unless it is resnet101, BACKBONE (on the command line: "
            "--set NUM_CLASSES=81)"
        )
    config = Config.from_dict({"NAME": "mrcnn", **stored, **settings})
    # Settings that the caller overrides are no other classes, unless the classes are named.
    return path, stored if classes is not None else config.to_dict(), config
