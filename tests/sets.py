"""Small sets of annotations in several formats, for the tests of readers and of the doctor."""

import json
from pathlib import Path

import numpy as np
import PIL.Image

NUT, BOLT = [8, 8, 24, 8, 24, 24, 8, 24], [36, 12, 56, 12, 56, 36, 36, 36]  # x, y: 256, 480 pixels


def picture(path: Path, level: int = 0, size: tuple[int, int] = (64, 48)) -> Path:
    """Write a grey picture of this width and height; folders are made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    PIL.Image.new("RGB", size, (level, level, level)).save(path)
    return path


def coco(path: Path, names=("a.png",), outlines=(NUT,), classes=("nut",), **changes) -> Path:
    """Write a COCO file in which every image has these outlines, of the classes in turn.

    Args:
        changes: of every annotation.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    content = {
        "images": [
            {"id": n, "file_name": name, "width": 64, "height": 48} for n, name in enumerate(names)
        ],
        "categories": [{"id": n, "name": name} for n, name in enumerate(classes, start=1)],
        "annotations": [
            {
                "id": len(outlines) * n + k,
                "image_id": n,
                "category_id": 1 + k % len(classes),
                "segmentation": [outline],
                **changes,
            }
            for n in range(len(names))
            for k, outline in enumerate(outlines)
        ],
    }
    path.write_text(json.dumps(content))
    return path


def via(path: Path, entries: dict[str, list]) -> Path:
    """Write a VIA file: a polygon for each outline of an image, without a class."""
    path.parent.mkdir(parents=True, exist_ok=True)
    content = {
        name: {
            "filename": name,
            "size": 1,
            "regions": [
                {
                    "shape_attributes": {
                        "name": "polygon",
                        "all_points_x": outline[::2],
                        "all_points_y": outline[1::2],
                    },
                    "region_attributes": {},
                }
                for outline in outlines
            ],
        }
        for name, outlines in entries.items()
    }
    path.write_text(json.dumps(content))
    return path


def labelme(path: Path, shapes: list[dict], **changes) -> Path:
    """Write a labelme file of an image of 64 x 48."""
    path.parent.mkdir(parents=True, exist_ok=True)
    content = {
        "version": "5.2.1",
        "imagePath": f"{path.stem}.png",
        "imageData": None,
        "imageHeight": 48,
        "imageWidth": 64,
        "shapes": shapes,
        **changes,
    }
    path.write_text(json.dumps(content))
    return path


def corners(outline: list) -> list[list]:
    """Return an outline as pairs of x and y."""
    return np.reshape(outline, (-1, 2)).tolist()
