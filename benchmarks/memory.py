"""Measures the memory that trainings take, beside what `mrcnn.training.estimate` expects.

    python benchmarks/memory.py                              # the table in docs/performance.md
    python benchmarks/memory.py resnet50 512 2 [NAME=VALUE]  # backbone, side, images a batch

Each training has a process of its own, of a few steps on random images; what is measured is the
most that the process held in memory (on a GPU: its allocator's peak). Windows has no such figure.
"""

import json
import resource
import subprocess
import sys
import tempfile

import numpy as np

from mrcnn.config import Config
from mrcnn.data.dataset import Dataset
from mrcnn.setting_values import parse_setting

STEPS = 3
TABLE = [
    ("resnet18", 256, 1),
    ("resnet18", 256, 4),
    ("resnet18", 512, 2),
    ("resnet50", 256, 1),
    ("resnet50", 256, 4),
    ("resnet50", 512, 1),
    ("resnet50", 512, 2),
    ("resnet50", 1024, 1),
    ("resnet101", 256, 2),
    ("resnet101", 512, 1),
]


class Noise(Dataset):
    """Images of noise, with a square object each."""

    def __init__(self, side: int) -> None:
        super().__init__()
        self.side = side
        self.add_class("noise", 1, "square")
        for number in range(4):
            self.add_image("noise", number, f"{number}.png")
        self.prepare()

    def load_image(self, image_id: int) -> np.ndarray:
        """Return noise: (side, side, 3) uint8."""
        shape = (self.side, self.side, 3)
        return np.random.default_rng(image_id).integers(0, 255, shape, np.uint8)

    def load_mask(self, image_id: int) -> tuple[np.ndarray, np.ndarray]:
        """Return the mask of a quarter of the image, and its class."""
        mask = np.zeros((self.side, self.side, 1), bool)
        mask[20 + image_id : self.side // 2, 20 : self.side // 2] = True
        return mask, np.ones(1, np.int32)


def measure(name: str, side: int, images: int, settings: dict) -> None:
    """Train in this process and print its figures as JSON."""
    from mrcnn.model import MaskRCNN
    from mrcnn.training import estimate

    changes = {"NAME": "noise", "BACKBONE": name, "NUM_CLASSES": 2, "IMAGES_PER_GPU": images}
    changes |= {"IMAGE_MIN_DIM": side, "IMAGE_MAX_DIM": side, "STEPS_PER_EPOCH": STEPS}
    config = Config.from_dict({**changes, "TRAIN_BN": None, "VALIDATION_STEPS": 0, **settings})
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    with tempfile.TemporaryDirectory() as folder:
        model = MaskRCNN("training", config, folder)
        model.trainer.write_checkpoint = lambda *_: None
        model.train(Noise(side), None, 0.0001, 1, "all")
    weights = sum(weight.value.shape.num_elements() for weight in model.training_model.weights)
    row = {
        "backbone": name,
        "side": side,
        "images": images,
        "start": before,
        "peak": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
        "weights": weights,
        "values": estimate.map_values(config),  # of one image; of its positive RoIs
    }
    sys.stdout.write(json.dumps(row) + "\n")


def main() -> None:
    """Measure one training, or the table of them."""
    if len(sys.argv) > 1:
        name, side, images, *settings = sys.argv[1:]
        measure(name, int(side), int(images), dict(map(parse_setting, settings)))
        return
    for row in TABLE:
        command = [sys.executable, __file__, *map(str, row)]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        print(done.stdout.splitlines()[-1], flush=True)


if __name__ == "__main__":
    main()
