"""Small sets in the form of VGG Image Annotator."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import PIL.Image


def rectangle(x, y, width, height, **attributes) -> dict:
    shape = {"name": "rect", "x": x, "y": y, "width": width, "height": height}
    return {"shape_attributes": shape, "region_attributes": attributes}


def polygon(*points, **attributes) -> dict:
    x, y = zip(*points, strict=True)
    shape = {"name": "polygon", "all_points_x": list(x), "all_points_y": list(y)}
    return {"shape_attributes": shape, "region_attributes": attributes}


def write_via(
    folder: Path,
    images: Mapping[str, Sequence[dict]],
    *,
    size: tuple[int, int] = (64, 64),
    channels: int = 3,
) -> Path:
    """Write noise with regions, and return the JSON file; every image differs."""
    folder.mkdir(parents=True, exist_ok=True)
    entries = {}
    for number, (name, regions) in enumerate(images.items()):
        rng = np.random.default_rng([number, len(str(folder))])
        pixels = rng.integers(0, 256, (*size, channels), np.uint8)
        PIL.Image.fromarray(pixels).save(folder / name)
        entries[name] = {"filename": name, "regions": list(regions)}
    path = folder / "via.json"
    path.write_text(json.dumps(entries))
    return path
