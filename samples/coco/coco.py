"""COCO: training and evaluation on the data set of the paper.

    python samples/coco/coco.py train --dataset=DIR --model=imagenet
    python samples/coco/coco.py train --dataset=DIR --model=last --year=2017 --download=True
    python samples/coco/coco.py evaluate --dataset=DIR --model=coco --limit=500

DIR holds annotations/instances_train2017.json, train2017/*.jpg and so on.
"""

import argparse
import os
import sys
import time
import zipfile
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

from mrcnn.cli import common
from mrcnn.config import Config
from mrcnn.data.dataset import Dataset
from mrcnn.data.formats.coco import load_coco
from mrcnn.weights import download
from mrcnn.weights.coco_classes import COCO_CLASSES

YEAR = "2014"
SERVER = "http://images.cocodataset.org"
# Layers, last epoch and part of the learning rate of each stage of the training.
STAGES = (("heads", 40, 1.0), ("4+", 120, 1.0), ("all", 160, 0.1))


class CocoConfig(Config):
    """Settings for the 80 classes of COCO."""

    NAME = "coco"
    IMAGES_PER_GPU = 2
    NUM_CLASSES = 1 + 80
    CLASS_NAMES = ("BG", *COCO_CLASSES.values())
    CATEGORY_IDS = (0, *COCO_CLASSES)
    AUGMENTATIONS = ("flip_left_right",)


class CocoDataset(Dataset):
    """Images of COCO's subsets."""

    def load_coco(
        self,
        dataset_dir: str | Path,
        subset: str,
        year: str = YEAR,
        class_ids: Collection[int] | None = None,
        class_map: Any = None,
        return_coco: bool = False,
        auto_download: bool | str = False,
    ) -> Any:
        """Add a subset: train, val, or of 2014 also minival and valminusminival.

        Args:
            class_ids: COCO's ids of the classes to load, with the images that show them; None for
                all.
            class_map: Not used.
            return_coco: Return the annotations as pycocotools' COCO.
            auto_download: Download the subset if it is not there (train and val).
        """
        del class_map
        if str(auto_download) == "True":
            self.auto_download(dataset_dir, subset, year)
        path = Path(dataset_dir) / "annotations" / f"instances_{subset}{year}.json"
        folder = "val" if subset in ("minival", "valminusminival") else subset
        loaded = load_coco(path, Path(dataset_dir) / f"{folder}{year}")
        chosen = None
        if class_ids is not None:
            ids = [info["id"] for info in loaded.class_info]
            chosen = [ids.index(class_id) for class_id in class_ids]
        self.add_dataset("coco", loaded, chosen)
        if return_coco:
            from mrcnn.evaluation import coco

            return coco.ground_truth(path)
        return None

    def auto_download(self, data_dir: str | Path, data_type: str, data_year: str) -> None:
        """Download images and annotations of train or val, unless they are there."""
        if data_type not in ("train", "val"):
            raise ValueError(
                f"the subset {data_type!r} cannot be downloaded; train and val can, for instance "
                "with --year=2017"
            )
        root = Path(data_dir)
        _download(f"zips/{data_type}{data_year}.zip", root, root / f"{data_type}{data_year}")
        annotations = root / "annotations" / f"instances_{data_type}{data_year}.json"
        _download(f"annotations/annotations_trainval{data_year}.zip", root, annotations)

    def image_reference(self, image_id: int) -> str:
        """Return the page of an image on COCO's site."""
        return f"http://cocodataset.org/#explore?id={self.image_info[image_id]['id']}"


def evaluate_coco(
    model: Any,
    dataset: Dataset,
    coco: Any,
    eval_type: str = "bbox",
    limit: int = 0,
    image_ids: Sequence[int] | None = None,
) -> dict[str, Any]:
    """Print and return COCO's scores of a model on (some of) a dataset's images.

    Args:
        coco: The ground truth, as `load_coco(return_coco=True)` returns it.
        eval_type: bbox or segm; all that is returned, both are printed.
        limit: Only so many of the images; 0 for all.
        image_ids: Only these, of `dataset.image_ids`.
    """
    from mrcnn.evaluation import coco as scoring

    chosen = list(dataset.image_ids if image_ids is None else image_ids)[: limit or None]
    started = time.perf_counter()
    coco_ids = [dataset.image_info[image_id]["id"] for image_id in chosen]
    category_ids = [None, *(info["id"] for info in dataset.class_info[1:])]
    truth = scoring.Truth(coco, coco_ids, category_ids)
    scores = model.score_against(truth, dataset, image_ids=chosen, progress=common.progress)
    print(scoring.format_table(scores))
    print(f"{len(chosen)} images, {time.perf_counter() - started:.0f} s")
    return scores[eval_type]


def train(options: argparse.Namespace) -> None:
    """Train in three stages: heads, from the fourth stage on, everything."""
    with common.quiet_start():
        from mrcnn.model import MaskRCNN
    config = common.changed(CocoConfig, options)
    training, validation = CocoDataset(), CocoDataset()
    training.load_coco(options.dataset, "train", options.year, auto_download=options.download)
    held_out = "val"
    if options.year in ("2014", 2014):  # of which Matterport trained on most of val, too
        training.load_coco(options.dataset, "valminusminival", options.year)
        held_out = "minival"
    validation.load_coco(options.dataset, held_out, options.year, auto_download=options.download)
    training.prepare()
    validation.prepare()
    model = MaskRCNN("training", config, options.logs)
    if options.model != "none":
        model.load_weights(options.model)
    for layers, last, part in STAGES:
        epochs = min(last, options.epochs)
        if model.epoch < epochs:
            model.train(training, validation, part * config.LEARNING_RATE, epochs, layers)


def evaluate(options: argparse.Namespace) -> None:
    """Print COCO's scores on validation images."""
    with common.quiet_start():
        from mrcnn.model import MaskRCNN
    # Scores want every candidate.
    alone = {"GPU_COUNT": 1, "IMAGES_PER_GPU": 1, "DETECTION_MIN_CONFIDENCE": 0}
    model = MaskRCNN("inference", common.changed(CocoConfig, options, **alone), options.logs)
    model.load_weights(options.model)
    dataset = CocoDataset()
    truth = dataset.load_coco(
        options.dataset,
        "minival" if options.year == "2014" else "val",
        options.year,
        return_coco=True,
        auto_download=options.download,
    )
    dataset.prepare()
    print(f"Running COCO evaluation on {options.limit or 'all'} images.")
    evaluate_coco(model, dataset, truth, "segm", limit=options.limit)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit status: 0 fine, 2 wrong use, 1 failed."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("command", choices=["train", "evaluate"])
    parser.add_argument("--dataset", required=True, metavar="DIR", help="folder of COCO")
    parser.add_argument("--year", default=YEAR, help="2014 or 2017 (default: %(default)s)")
    parser.add_argument("--model", required=True, help="coco, imagenet, last, none or a file")
    parser.add_argument("--logs", default="logs", metavar="DIR", help="(default: %(default)s)")
    parser.add_argument(
        "--limit", type=int, default=500, help="images to evaluate, 0 for all (default: 500)"
    )
    parser.add_argument("--download", default=False, help="True downloads COCO (18 GB and more)")
    parser.add_argument(
        "--epochs", type=common.positive, default=STAGES[-1][1], help="(default: %(default)s)"
    )
    common.add_settings(parser)
    parser.set_defaults(run=lambda options: globals()[options.command](options))
    return common.run_command(parser.parse_args(arguments), "coco")


def _download(name: str, root: Path, product: Path) -> None:
    """Download and unpack an archive of COCO's server, unless what it makes is there."""
    if product.exists():
        return
    archive = download.fetch(f"{SERVER}/{name}", root / Path(name).name)
    with zipfile.ZipFile(archive) as content:
        content.extractall(root)
    archive.unlink()


if __name__ == "__main__":
    sys.exit(main())
