"""torchvision's Mask R-CNN, to run beside ours with the same weights on the same inputs."""

import contextlib
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

# Now, since it cannot be imported after TensorFlow: both have an LLVM.
try:
    import torch
    import torchvision
    from torchvision.models.detection import MaskRCNN, backbone_utils
    from torchvision.models.detection.roi_heads import paste_masks_in_image
except ImportError:
    torchvision = None


def is_there() -> bool:
    """Tell whether torch and torchvision are installed (pip install -e ".[bench]")."""
    return torchvision is not None


class Torchvision:
    """A network of random weights: batch norm with stored statistics, all layers train.

    Args:
        backbone: "resnet50" or "resnet101".
        side: of the square images.
        settings: of torchvision's MaskRCNN.
    """

    def __init__(self, backbone: str, side: int, num_classes: int, **settings: Any) -> None:
        torch.manual_seed(0)
        features = backbone_utils.resnet_fpn_backbone(
            backbone_name=backbone,
            weights=None,
            norm_layer=torchvision.ops.FrozenBatchNorm2d,
            trainable_layers=5,
        )
        self.network = MaskRCNN(
            features, num_classes=num_classes, min_size=side, max_size=side, **settings
        )
        for name, module in self.network.named_modules():
            if name.endswith("bn3"):  # sums of many random residuals would grow without end
                module.weight.fill_(0.25)

    def hand_weights_to(self, model: Any) -> None:
        """Let one of our networks load these weights."""
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "weights.pth"
            torch.save(self.network.state_dict(), path)
            model.load_weights(path, verbose=0)

    def forward(self, pixels: np.ndarray, *, bfloat16: bool = False) -> Callable[[], Any]:
        """Return the network alone on an image (H, W, 3) uint8: no resize, no pasting."""
        network = self.network.eval()
        images, _ = network.transform([_tensor(pixels)])

        def run() -> Any:
            with torch.inference_mode(), _autocast(bfloat16):
                features = network.backbone(images.tensors)
                proposals, _ = network.rpn(images, features)
                found, _ = network.roi_heads(features, proposals, images.image_sizes)
            return found[0]

        return run

    def detect(self, pixels: np.ndarray, *, bfloat16: bool = False) -> Callable[[], Any]:
        """Return all that the network does with an image, to masks of its size."""
        network = self.network.eval()

        def run() -> Any:
            with torch.inference_mode(), _autocast(bfloat16):
                (found,) = network([_tensor(pixels)])
            return found["masks"].float().numpy() >= 0.5

        return run

    def train(
        self, images: np.ndarray, objects: Sequence[dict[str, np.ndarray]], *, bfloat16: bool
    ) -> Callable[[], Any]:
        """Return a step of training on images (B, H, W, 3) uint8.

        Args:
            objects: of each image boxes (n, 4), class_ids (n,) and masks (n, H, W).
        """
        network = self.network.train()
        tensors = [_tensor(pixels) for pixels in images]
        targets = [
            {
                "boxes": torch.tensor(found["boxes"][:, [1, 0, 3, 2]]),
                "labels": torch.tensor(found["class_ids"], dtype=torch.int64),
                "masks": torch.tensor(found["masks"], dtype=torch.uint8),
            }
            for found in objects
        ]
        optimizer = torch.optim.SGD(network.parameters(), lr=1e-5, momentum=0.9, weight_decay=1e-4)

        def run() -> float:
            with _autocast(bfloat16):
                loss = sum(network(tensors, targets).values())
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            return float(loss.detach())

        return run


def pasting(
    probabilities: np.ndarray, boxes: np.ndarray, image_shape: tuple[int, int]
) -> Callable[[], Any]:
    """Return the pasting of masks (N, h, w) in boxes (N, 4) into an image."""
    masks = torch.tensor(probabilities)[:, None]
    corners = torch.tensor(boxes[:, [1, 0, 3, 2]]).float()
    return lambda: paste_masks_in_image(masks, corners, image_shape) >= 0.5


def _tensor(pixels: np.ndarray) -> Any:
    return torch.tensor(pixels).permute(2, 0, 1).float() / 255


def _autocast(bfloat16: bool) -> Any:
    if not bfloat16:
        return contextlib.nullcontext()
    return torch.autocast("cpu", dtype=torch.bfloat16)
