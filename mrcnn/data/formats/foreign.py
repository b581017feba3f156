"""Known but unsupported formats, each with the export to choose instead."""

from collections.abc import Callable
from typing import Any

CVAT = "a file of CVAT: in CVAT, export the task as COCO 1.0"
_CHOOSE_COCO = "export the project as COCO (with images)"


def described(content: Any) -> str | None:
    """Describe a JSON file's format, with the export to choose; None: unknown."""
    return next((text for text, is_it in _KNOWN.items() if is_it(content)), None)


def _is_label_studio(content: Any) -> bool:
    first = _first(content)
    full = "data" in first and ("annotations" in first or "completions" in first)
    return full or "annotation_id" in first or "lead_time" in first


def _is_supervisely(content: Any) -> bool:
    if not isinstance(content, dict):
        return False
    is_meta = isinstance(content.get("classes"), list) and "tags" in content
    is_image = isinstance(content.get("objects"), list) and isinstance(content.get("size"), dict)
    return is_meta or is_image


def _is_datumaro(content: Any) -> bool:
    return (
        isinstance(content, dict)
        and isinstance(content.get("items"), list)
        and isinstance(content.get("categories"), dict)
    )


def _is_panoptic(content: Any) -> bool:
    return isinstance(content, dict) and "segments_info" in _first(content.get("annotations"))


def _is_captions(content: Any) -> bool:
    return isinstance(content, dict) and "caption" in _first(content.get("annotations"))


def _is_via_3(content: Any) -> bool:
    return isinstance(content, dict) and {"project", "file", "metadata", "view"} <= set(content)


def _is_createml(content: Any) -> bool:
    return {"image", "annotations"} <= set(_first(content))


def _is_detections(content: Any) -> bool:
    return {"image_id", "category_id", "score"} <= set(_first(content))


def _first(content: Any) -> dict:
    """Return the first entry of a list of objects, or an empty one."""
    is_list = isinstance(content, list) and bool(content) and isinstance(content[0], dict)
    return content[0] if is_list else {}


_KNOWN: dict[str, Callable[[Any], bool]] = {
    f"a file of Label Studio: in Label Studio, {_CHOOSE_COCO}": _is_label_studio,
    f"a file of Supervisely: in Supervisely, {_CHOOSE_COCO}": _is_supervisely,
    "a file of Datumaro: run `datum convert -f coco_instances`": _is_datumaro,
    "a panoptic file of COCO: pass the one of instances": _is_panoptic,
    "a file of captions: pass the one of instances": _is_captions,
    "a project of VIA 3: in VIA 3, export as COCO, or draw in VIA 2": _is_via_3,
    f"a file of CreateML, which has boxes only: {_CHOOSE_COCO}": _is_createml,
    "a list of detections, no annotations: pass the file with images and categories": (
        _is_detections
    ),
}
