"""The command `mrcnn`: demo, train, detect, evaluate.

Exit status 0: fine; 2: wrong use or wrong input; 1: failed. TensorFlow is imported only when a
network is needed.
"""

import argparse
import json
import logging
import math
import os
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import mrcnn

if TYPE_CHECKING:
    from mrcnn.config import Config
    from mrcnn.model import MaskRCNN

logger = logging.getLogger("mrcnn")

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".webp", ".gif", ".pgm", ".ppm")
DEMO_SCORE = 0.5


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit status."""
    parser = _parser()
    options = parser.parse_args(arguments)
    logging.basicConfig(format="%(levelname)s: %(message)s", stream=sys.stderr)
    try:
        return options.run(options)
    except KeyboardInterrupt:
        print("Interrupted", file=sys.stderr)
        return 1
    except (ValueError, FileNotFoundError, NotADirectoryError) as error:
        print(f"mrcnn {options.command}: {error}", file=sys.stderr)
        return 2
    except (RuntimeError, OSError) as error:
        print(f"mrcnn {options.command}: {error}", file=sys.stderr)
        return 1


def demo(options: argparse.Namespace) -> int:
    """Segment the bundled micrographs with the bundled weights and write the picture."""
    with _quiet_start():
        from mrcnn import visualize
        from mrcnn.geometry import images as image_math
        from mrcnn.model import MaskRCNN
        from mrcnn.weights import catalog
    started = time.perf_counter()
    model = MaskRCNN.from_checkpoint("nuclei")
    paths = sorted(catalog.ASSETS.glob("nuclei_*.png"))
    pictures = [image_math.read_image(path) for path in paths]
    rows = []
    for path, picture, found in zip(paths, pictures, model.detect_each(pictures), strict=True):
        found = _at_least(found, DEMO_SCORE)
        print(f"{path.name}: {_summary(found)}")
        scale = max(1, round(768 / picture.shape[1]))
        drawn = visualize.draw_instances(picture, found, model.config.CLASS_NAMES, scale=scale)
        enlarged = visualize.enlarge(picture, scale)
        rows.append(visualize.side_by_side(enlarged, drawn))
    visualize.save_image(options.output, visualize.stack(rows))
    print(
        f"Wrote {options.output} in {time.perf_counter() - started:.1f} s: left the image, "
        "right what was found"
    )
    return 0


def train(options: argparse.Namespace) -> int:
    """Train on a COCO file."""
    with _quiet_start():
        from mrcnn.data.formats.coco import load_coco
        from mrcnn.model import MaskRCNN
        from mrcnn.weights.hdf5 import CLASS_LAYERS
    if bool(options.val) != bool(options.val_images):
        raise ValueError("--val and --val-images go together")
    dataset = load_coco(options.train, options.images)
    validation = load_coco(options.val, options.val_images) if options.val else None
    if validation and validation.class_names != dataset.class_names:
        raise ValueError(
            f"the classes of --train {dataset.class_names[1:]} and of --val "
            f"{validation.class_names[1:]} differ"
        )
    config, path, old_names = _training_settings(options, dataset)
    model = MaskRCNN("training", config, options.logs)
    if path is not None:
        exclude = CLASS_LAYERS if list(old_names) != list(config.CLASS_NAMES) else ()
        if exclude:
            print(f"The classes are new: the layers {', '.join(exclude)} start anew")
        model.load_weights(path, exclude=exclude)
    if options.weights != "last":
        model.set_log_dir()
    epochs = options.epochs or model.epoch + 20
    model.train(dataset, validation, config.LEARNING_RATE, epochs, options.layers)
    print(f"\nCheckpoint: {model.checkpoint_path.format(epoch=model.epoch)}")
    return 0


def detect(options: argparse.Namespace) -> int:
    """Detect objects in images and folders; write a picture of each and detections.json."""
    paths = _image_paths(options.images)
    model = _load(options)
    with _quiet_start():
        from mrcnn import visualize
        from mrcnn.evaluation import coco
        from mrcnn.geometry import images as image_math
    output = Path(options.output)
    category_ids = _category_ids(model.config)
    results, failed = [], 0
    for path, target in zip(_progress(paths), _targets(paths, output), strict=True):
        try:
            picture = image_math.read_image(path)
        except ValueError as error:
            logger.warning("%s", error)
            failed += 1
            continue
        found = _at_least(model.detect([picture])[0], options.min_score)
        names = model.config.CLASS_NAMES or _numbered(model.config.NUM_CLASSES)
        visualize.save_image(target, visualize.draw_instances(picture, found, names))
        for row in coco.to_results(found, 0, category_ids):
            results.append({**row, "image_id": _image_id(path), "file_name": path.name})
    _write_json(output / "detections.json", results)
    print(
        f"{len(results)} objects in {len(paths) - failed} images; pictures and detections.json "
        f"in {output}"
    )
    if failed:
        print(f"{failed} images could not be read", file=sys.stderr)
    return 1 if failed else 0


def evaluate(options: argparse.Namespace) -> int:
    """Score a network on a COCO file."""
    model = _load(options)
    with _quiet_start():
        from mrcnn.data.formats.coco import load_coco
        from mrcnn.evaluation import coco
    dataset = load_coco(options.annotations, options.images)
    truth = coco.ground_truth(options.annotations)
    names = model.config.CLASS_NAMES or tuple(dataset.class_names)
    categories = coco.match_categories(names, truth)
    started = time.perf_counter()
    truth_ids = [info["id"] for info in dataset.image_info]
    scores = model.score_against(truth, dataset, truth_ids, categories, progress=_progress)
    print(coco.format_table(scores))
    print(
        f"{dataset.num_images} images, at most {model.config.DETECTION_MAX_INSTANCES} detections "
        f"each, {time.perf_counter() - started:.0f} s"
    )
    if options.json:
        _write_json(Path(options.json), scores)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="mrcnn", description="Mask R-CNN: find objects in images, with a mask for each."
    )
    parser.add_argument("--version", action="version", version=f"mrcnn {mrcnn.__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    command = _command(commands, "demo", demo)
    command.add_argument("--output", default="demo.png", help="the picture (default: %(default)s)")

    _train_options(_command(commands, "train", train))

    command = _command(commands, "detect", detect)
    command.add_argument("images", nargs="+", metavar="IMAGE_OR_DIR")
    command.add_argument("--weights", required=True, help="nuclei, coco, or a file")
    command.add_argument("--output", required=True, metavar="DIR", help="folder for the results")
    command.add_argument("--min-score", type=float, default=0.5, help="(default: %(default)s)")
    _settings(command)

    command = _command(commands, "evaluate", evaluate)
    command.add_argument("--annotations", required=True, metavar="ANN.json")
    command.add_argument("--images", required=True, metavar="DIR")
    command.add_argument("--weights", required=True, help="nuclei, coco, or a file")
    command.add_argument("--json", metavar="OUT", help="also write the scores to this file")
    _settings(command)
    return parser


def _train_options(command: argparse.ArgumentParser) -> None:
    command.add_argument("--train", required=True, metavar="ANN.json", help="COCO annotations")
    command.add_argument("--images", required=True, metavar="DIR", help="their images")
    command.add_argument("--val", metavar="ANN.json", help="annotations of the validation set")
    command.add_argument("--val-images", metavar="DIR", help="images of the validation set")
    command.add_argument("--logs", required=True, metavar="DIR", help="folder of logs, checkpoints")
    command.add_argument(
        "--weights",
        default="none",
        help="none, imagenet, coco, nuclei, last (go on with the newest run) or a file",
    )
    command.add_argument(
        "--epochs",
        type=_positive,
        help="last epoch, counted from the run's beginning (default: 20 more)",
    )
    command.add_argument("--steps", type=_positive, help="steps an epoch (default: one pass)")
    command.add_argument("--layers", default="all", help="heads, 3+, 4+, 5+, all or an expression")
    _settings(command)


def _command(commands: Any, name: str, run: Any) -> argparse.ArgumentParser:
    command = commands.add_parser(name, help=run.__doc__, description=run.__doc__)
    command.set_defaults(run=run)
    return command


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"it must be at least 1, got {number}")
    return number


def _settings(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        dest="settings",
        help="change a setting of mrcnn.config.Config; may be repeated",
    )


def _training_settings(
    options: argparse.Namespace, dataset: Any
) -> tuple["Config", Path | None, Sequence[str]]:
    """Return the settings of a training, the file it starts from and the classes of that file."""
    from mrcnn.config import Config, parse_setting
    from mrcnn.weights import catalog

    chosen = dict(map(parse_setting, options.settings))
    path, stored = None, {}
    if options.weights != "none":
        path = catalog.resolve(options.weights, options.logs, chosen.get("NAME"))
        stored = catalog.settings(options.weights, path)
    old_names = stored.get("CLASS_NAMES", ())
    defaults = {
        "NAME": "mrcnn",
        "AUGMENTATIONS": ["flip_left_right"],
        # Scores want every candidate; `mrcnn detect --min-score` chooses what is shown.
        "DETECTION_MIN_CONFIDENCE": 0.05,
        "DETECTION_EVERY_CLASS": True,
        # Weights from nothing need batch statistics; published ones bring theirs.
        "TRAIN_BN": None if path is None else False,
    }
    classes = {
        "NUM_CLASSES": dataset.num_classes,
        "CLASS_NAMES": list(dataset.class_names),
        "CATEGORY_IDS": [info["id"] for info in dataset.class_info],
    }
    config = Config.from_dict({**defaults, **stored, **classes, **chosen})
    steps = options.steps or chosen.get("STEPS_PER_EPOCH")
    if steps is None and options.weights == "last":
        steps = config.STEPS_PER_EPOCH
    steps = steps or math.ceil(dataset.num_images / config.BATCH_SIZE)
    return config.replace(STEPS_PER_EPOCH=steps), path, old_names


def _load(options: argparse.Namespace) -> "MaskRCNN":
    """Return the network of the file or name of weights, in inference mode."""
    with _quiet_start():
        from mrcnn.config import parse_setting
        from mrcnn.model import MaskRCNN
    return MaskRCNN.from_checkpoint(options.weights, **dict(map(parse_setting, options.settings)))


def _at_least(found: dict[str, Any], score: float) -> dict[str, Any]:
    kept = found["scores"] >= score
    masks = found["masks"][:, :, kept]
    return {key: found[key][kept] for key in ("rois", "class_ids", "scores")} | {"masks": masks}


def _summary(found: dict[str, Any]) -> str:
    if not len(found["scores"]):
        return "nothing found"
    areas = found["masks"].sum(axis=(0, 1))
    return (
        f"{len(areas)} nuclei, median area {sorted(areas)[len(areas) // 2]} pixels, "
        f"scores {found['scores'].min():.2f} to {found['scores'].max():.2f}"
    )


def _image_paths(arguments: Sequence[str]) -> list[Path]:
    paths: list[Path] = []
    for argument in map(Path, arguments):
        if argument.is_dir():
            inside = [p for p in sorted(argument.iterdir()) if p.suffix.lower() in IMAGE_SUFFIXES]
            if not inside:
                raise ValueError(f"{argument}: there are no images in this folder")
            paths += inside
        elif argument.is_file():
            paths.append(argument)
        else:
            raise FileNotFoundError(f"{argument}: there is no such image or folder")
    return paths


def _targets(paths: Sequence[Path], output: Path) -> list[Path]:
    """Return where the picture of each image goes: no image is overwritten, no name used twice."""
    targets: list[Path] = []
    taken = {path.resolve() for path in paths}
    for path in paths:
        target, number = output / f"{path.stem}.png", 1
        while target.resolve() in taken:
            number += 1
            target = output / f"{path.stem}_{number}.png"
        taken.add(target.resolve())
        targets.append(target)
    return targets


def _image_id(path: Path) -> int | str:
    """Return COCO's number where the file is named by it, as in 000000000139.jpg."""
    return int(path.stem) if path.stem.isdecimal() else path.name


def _category_ids(config: "Config") -> Sequence[Any]:
    return config.CATEGORY_IDS or tuple(range(config.NUM_CLASSES))


def _numbered(count: int) -> list[str]:
    return ["BG", *(f"class {index}" for index in range(1, count))]


def _progress(items: Sequence[Any]) -> Iterator[Any]:
    from tqdm import tqdm

    return iter(tqdm(items, unit="image", disable=not sys.stderr.isatty()))


def _write_json(path: Path, content: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.partial")
    partial.write_text(json.dumps(content, indent=1), encoding="utf-8")
    os.replace(partial, path)


@contextmanager
def _quiet_start() -> Iterator[None]:
    """Import TensorFlow without the lines that its libraries write about missing GPUs."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    sys.stderr.flush()
    kept = os.dup(2)
    try:
        with open(os.devnull, "w") as nowhere:
            os.dup2(nowhere.fileno(), 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)


if __name__ == "__main__":
    sys.exit(main())
