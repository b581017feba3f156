"""Pictures of annotated images with what `mrcnn check` found in them, the worst first."""

import html
import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote

import numpy as np
from PIL import Image
from pycocotools import mask as coco_mask

from mrcnn import files
from mrcnn.cli import common
from mrcnn.data import outlines
from mrcnn.data.annotated import AnnotatedDataset
from mrcnn.data.problems import SEVERITIES, Finding
from mrcnn.drawing import colors, instances, pictures

SOFTWARE = "mrcnn check"  # "Software" metadata of the pictures
INDEX = "index.html"
MARK = f'<meta name="generator" content="{SOFTWARE}">'
MOST = 40
LARGEST, LEGIBLE = 1024, 512  # pixels: larger pictures are shrunk, smaller ones enlarged
# Colours of objects that a finding names, and of the others in the same picture.
FAULTY, SOUND = (230, 0, 0), (0, 150, 200)
RANKED = re.compile(r"\d{3,}_(error|warning|info|sample)_.*\.png")
STYLE = """body { font-family: sans-serif; max-width: 70em; margin: 2em auto; padding: 0 1em }
img { max-width: 100%; border: 1px solid #999 } h2 { margin-top: 2em; font-size: 1.1em }
.error { color: #b00 } .warning { color: #a60 } .info { color: #555 }"""


class Ranked(NamedTuple):
    """An image to draw: of which part, its number, what was found in it, and how bad that is."""

    part: str
    image_id: int
    findings: list[Finding]
    severity: str


def write(
    folder: Path,
    loaded: Mapping[str, AnnotatedDataset],
    findings: Sequence[Finding],
    most: int = MOST,
    seed: int = 0,
) -> int:
    """Write a picture of each of the worst images, and a page that shows them with the findings.

    Pictures of an earlier run in the folder are removed.

    Args:
        folder: of the pictures and index.html; made where it is missing.
        loaded: datasets by part.
        findings: of all parts.
        most: number of pictures.
        seed: of the sample of images without findings.

    Returns:
        The number of pictures.

    Raises:
        ValueError: If a file of another program would be overwritten.
    """
    chosen = ranked(loaded, findings, seed)[:most]
    names = [_file_name(rank, each, loaded) for rank, each in enumerate(chosen, start=1)]
    _make_room(folder, names)
    sections, drawn = [], 0
    for name, each in zip(common.progress(names), chosen, strict=True):
        dataset = loaded[each.part]
        try:
            pictures.save_image(folder / name, draw(dataset, each), software=SOFTWARE)
            shown, drawn = f'<img src="{quote(name)}" alt="{html.escape(name)}">', drawn + 1
        except ValueError as error:  # of an image or a mask that cannot be read
            shown = f"<p>No picture: {html.escape(str(error))}</p>"
        path = Path(dataset.image_info[each.image_id]["path"])
        title = f"{each.part}: {path.name}" if len(loaded) > 1 else path.name
        sections.append(f"<h2>{html.escape(title)}</h2>\n{_list(each.findings)}\n{shown}")
    of_sets = [each for each in findings if each.image is None and each.severity != "info"]
    with files.replacing(folder / INDEX) as partial:
        partial.write_text(_page(_list(of_sets), sections), encoding="utf-8")
    return drawn


def ranked(
    loaded: Mapping[str, AnnotatedDataset], findings: Sequence[Finding], seed: int = 0
) -> list[Ranked]:
    """Return all images: by severity of the worst finding, by number, then the others shuffled."""
    by_name: dict[tuple[str, str], list[Finding]] = defaultdict(list)
    for finding in findings:
        for part in [finding.part] if finding.part else loaded:
            if finding.image is not None:
                by_name[part, finding.image].append(finding)
    found: list[Ranked] = []
    others: list[Ranked] = []
    for part, dataset in loaded.items():
        for image_id in map(int, dataset.image_ids):
            own = by_name.get((part, Path(dataset.image_info[image_id]["path"]).name), [])
            worst = min((each.severity for each in own), key=SEVERITIES.index, default="sample")
            (found if own else others).append(Ranked(part, image_id, own, worst))
    found.sort(key=lambda each: (SEVERITIES.index(each.severity), -len(each.findings)))
    order = np.random.default_rng(seed).permutation(len(others))
    return found + [others[place] for place in order]


def draw(dataset: AnnotatedDataset, image: Ranked) -> np.ndarray:
    """Return an image with its objects, (H, W, 3) uint8; those that findings name are red.

    Raises:
        ValueError: If the image or a mask cannot be read.
    """
    pixels = pictures.visible(dataset.load_image(image.image_id))
    scale = int(np.clip(LEGIBLE // max(pixels.shape[:2]), 1, 4))
    canvas = instances.draw_objects(pixels, _objects(dataset, image), scale=scale)
    picture = Image.fromarray(canvas)
    picture.thumbnail((LARGEST, LARGEST))
    return np.asarray(picture)


def _objects(dataset: AnnotatedDataset, image: Ranked) -> instances.Objects:
    """Return the objects that have a pixel, with their classes as texts, faulty ones first."""
    objects = dataset.objects(image.image_id)
    size = dataset.object_size(image.image_id)
    rles = outlines.encode_each(objects, size)
    drawn = [item for item, rle in zip(objects, rles, strict=True) if coco_mask.area(rle)]
    masks = [record["segmentation"] for record in dataset.records(image.image_id)]
    faulty = {finding.object for finding in image.findings if finding.object is not None}
    class_ids = np.array([dataset.class_id_of(item) for item in drawn], np.int32)
    shades = colors.default_colors(class_ids, dataset.num_classes)
    if any(item.id in faulty for item in drawn):
        shades = np.full_like(shades, SOUND)
    texts = []
    for place, item in enumerate(drawn):
        text = dataset.class_names[abs(class_ids[place])]
        if item.id in faulty:
            shades[place] = FAULTY
            text = f"{text}, object {item.id}"
        texts.append(f"{text} (crowd)" if class_ids[place] < 0 else text)
    boxes = coco_mask.toBbox(masks).reshape(-1, 4) if masks else np.zeros((0, 4))
    rois = np.concatenate([boxes[:, 1::-1], boxes[:, 1::-1] + boxes[:, :1:-1]], axis=1)
    order = sorted(range(len(drawn)), key=lambda place: drawn[place].id not in faulty)
    return instances.Objects(
        rois[order].round().astype(np.int32),
        [masks[place] for place in order],
        shades[order],
        [texts[place] for place in order],
    )


def _file_name(rank: int, image: Ranked, loaded: Mapping[str, AnnotatedDataset]) -> str:
    path = Path(loaded[image.part].image_info[image.image_id]["path"])
    stem = re.sub(r"[^\w.-]", "_", path.stem)[:80]
    return f"{rank:03d}_{image.severity}_{stem}.png"


def _make_room(folder: Path, names: Sequence[str]) -> None:
    """Remove the pictures of an earlier run, unless a file is another program's.

    Raises:
        ValueError: If a file of another program has the name of one to be written.
    """
    files.make_folder(folder)
    index = folder / INDEX
    foreign = [
        path
        for path in (folder / name for name in names)
        if path.exists() and not pictures.is_written_by(path, SOFTWARE)
    ]
    if index.exists() and MARK not in index.read_text(encoding="utf-8", errors="replace"):
        foreign.append(index)
    if foreign:
        raise ValueError(f"{foreign[0]} is not of mrcnn check: give another folder as --pictures")
    for path in folder.iterdir():
        if RANKED.fullmatch(path.name) and pictures.is_written_by(path, SOFTWARE):
            path.unlink()


def _list(findings: Sequence[Finding]) -> str:
    lines = [
        f'<li class="{each.severity}">{each.severity}: {html.escape(str(each))}'
        + (f" &rarr; {html.escape(each.remedy)}" if each.remedy else "")
        + "</li>"
        for each in findings
    ]
    return "\n".join(["<ul>", *lines, "</ul>"]) if lines else ""


def _page(summary: str, sections: Sequence[str]) -> str:
    body = "\n".join([summary, *sections])
    return (
        f'<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">{MARK}\n'
        f"<title>{SOFTWARE}</title><style>{STYLE}</style></head>\n"
        f"<body><h1>{SOFTWARE}</h1>\n{body}\n</body></html>\n"
    )
