"""Maps annotations to image files, for all readers.

The stated path is tried first, then with ever fewer leading folders; differences in letter case and
Unicode form are tolerated last. It is searched for

1. relative to the folder of the annotations,
2. in the folder that the annotation file's name, or its part of the set, names: `train.json` and
   `instances_val2017.json` mean `train/` and `val2017/`,
3. in the dataset's image folder, and in its subfolders,
4. in neighbouring folders that contain most of the images, if the folder of the annotations is
   named as such, or the neighbour is named like an image folder.

Folders of another part, of masks, and those with their own annotations are excluded.

An entry that matches two files is rejected, as are two entries that match the same file.
"""

import os
import re
from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path
from urllib.parse import unquote

from mrcnn.data.formats import files
from mrcnn.data.problems import Problems
from mrcnn.geometry import image_files

IMAGE_FOLDERS = ("images", "jpegimages", "image", "imgs", "img")
ANNOTATION_SUFFIXES = (".json", ".xml", ".csv")
# fmt: off
_OF_ANNOTATIONS = {
    "annotation", "annotations", "annots", "ann", "anns", "json", "jsons", "label", "labels",
    "labelme", "via", "coco", "xml", "xmls", "gt", "regions", "outlines",
}
_OF_IMAGES = {
    "image", "images", "img", "imgs", "photo", "photos", "picture", "pictures", "jpegimages",
    "jpg", "png",
}
SAY_NOTHING = {"..", *_OF_IMAGES, "JPEGImages"}  # of a folder in a path
_OF_MASKS = {"mask", "masks", "label", "labels", "seg", "segmentation", "annotations", "gt"}
# fmt: on
MOST_FOLDERS = 1000  # maximum number of subfolders searched in image folders
SAMPLE = 200  # number of entries used to judge neighbouring folders
REMEDY = "pass --images DIR (or --val-images DIR), or write the path into the annotations"
_PARTS = {
    "train": {"train", "training"},
    "val": {"val", "valid", "validation", "dev"},
    "test": {"test", "testing"},
}
Match = tuple[Path, str]


def part_of(name: str) -> str | None:
    """Return the dataset part in a name: train, val or test; None: none, or several."""
    found = [part for part, known in _PARTS.items() if _words(name) & known]
    return found[0] if len(found) == 1 else None


def part_called(folder: Path) -> str | None:
    """Return the dataset part that a folder is named after, if its name has no other words."""
    own = _words(folder.name).difference(*_PARTS.values())
    return part_of(folder.name) if own <= _OF_IMAGES | _OF_ANNOTATIONS else None


class Stems:
    """Files by stem, ignoring letter case and Unicode form.

    Args:
        paths: paths of the files.
    """

    def __init__(self, paths: Sequence[Path]) -> None:
        self._exact: dict[str, list[Path]] = {}
        self._loose: dict[str, list[Path]] = {}
        for path in paths:
            self._exact.setdefault(path.stem, []).append(path)
            self._loose.setdefault(files.same_name(path.stem), []).append(path)

    def find(self, stem: str) -> list[Path]:
        """Return the files with this stem; more than one is a tie."""
        return self._exact.get(stem) or self._loose.get(files.same_name(stem), [])


class ImageLookup:
    """Finds the image files that annotations refer to; each folder is listed only once.

    Args:
        file: the annotation file of all images; or the folder of annotation files per image.
        images: the image folder; None: looked for nearby.
        names: possible file names of each entry, the stated one first.
        problems: collects ties.

    Raises:
        ValueError: If the given folder does not exist.
    """

    def __init__(
        self,
        file: Path,
        images: str | os.PathLike | None,
        names: Sequence[Sequence[str]],
        problems: Problems,
    ) -> None:
        is_file = file.is_file()
        self._here = file.resolve().parent if is_file else file.resolve()
        self._stem = file.stem if is_file else ""
        self._given = Path(images) if images is not None else None
        if self._given is not None and not self._given.is_dir():
            raise ValueError(f"{images}: there is no such folder of images (--images)")
        self._names = names
        self._problems = problems
        self._folders: dict[Path, _Folder] = {}
        self._owners: dict[str, str] = {}

    def find(self, names: Sequence[str], stem: str | None = None) -> str:
        """Return the path of the image with one of these names, or the path where it is missing.

        Args:
            names: possible file names, the stated one first.
            stem: stem of this image's own annotation file, used if no name matches.
        """
        found = self._candidates(names, stem)
        stated = names[0] if names else stem or ""
        if not found:
            return self._missing(stated)
        if len(found) > 1:
            self._problems.error(
                "ambiguous-image",
                f"{stated!r} can be {found[0]} or {found[1]}",
                image=stated,
                remedy=REMEDY,
            )
        return self._claimed(str(found[0]), stated)

    def exists(self, names: Sequence[str], stem: str | None = None) -> bool:
        """Return whether there is a file with one of these names."""
        return bool(self._candidates(names, stem))

    def _candidates(self, names: Sequence[str], stem: str | None) -> list[Path]:
        """Return the file with one of these names, or all tied candidates."""
        spelled = [*names, *(other for name in names for other in _other_spellings(name))]
        found = next((match for name in spelled if (match := self._matches(name))), [])
        return self._by_stem(stem) if not found and stem is not None else found

    def _missing(self, stated: str) -> str:
        return str((self._given or self._here).joinpath(*_parts(stated)))

    def _claimed(self, path: str, stated: str) -> str:
        """Return a path after recording which entry claims it."""
        path = os.path.normpath(path)
        name = os.path.normpath("/".join(_parts(stated)) or stated)
        if os.path.normpath(self._here / name) == path:  # in any notation
            name = os.path.basename(path)
        owner = self._owners.setdefault(path, name)
        if owner != name:
            self._problems.error(
                "shared-image",
                f"{owner!r} and {name!r} would both be the file {path}",
                image=name,
                remedy="put both files where the annotations say, or remove one entry",
            )
            return self._missing(stated)
        return path

    def _matches(self, name: str) -> list[Path]:
        """Return the files that match a name, from the first tier with any matches."""
        if os.path.isabs(name) and os.path.isfile(name):
            return [Path(name)]
        parts = _parts(name)
        for is_exact in (True, False):
            for start in range(len(parts)):
                # 101/1.png is not 100/1.png, but C:\\photos\\1.png and images/1.png may be.
                is_free = is_of_elsewhere(name) or set(parts[:start]) <= SAY_NOTHING
                is_path = len(parts) - start > 1
                for tier in self._tiers(is_path=is_path, in_others=is_free or is_path):
                    if found := self._in(tier, parts[start:], is_exact):
                        return found
        return []

    def _by_stem(self, stem: str) -> list[Path]:
        for tier in self._tiers():
            found = [path for folder in tier for path in self._folder(folder).stems.find(stem)]
            if found:
                return found
        return []

    def _in(self, tier: Sequence[Path], parts: Sequence[str], is_exact: bool) -> list[Path]:
        """Return the files of this relative path in the folders of a tier."""
        found: list[Path] = []
        for folder in tier:
            inside = folder.joinpath(*parts[:-1]) if len(parts) > 1 else folder
            named = self._folder(inside).named(parts[-1], is_exact)
            found += [inside / each for each in named]
        if len(found) < 2:
            return found
        return list({os.path.realpath(path): path for path in reversed(found)}.values())[::-1]

    def _folder(self, path: Path) -> "_Folder":
        if path not in self._folders:
            self._folders[path] = _Folder(path)
        return self._folders[path]

    def _tiers(self, *, is_path: bool = False, in_others: bool = True) -> Iterator[Sequence[Path]]:
        """Yield the folders to search, in tiers of equal priority.

        Args:
            is_path: for a name with folders, which may be relative to the root of the dataset.
            in_others: include folders whose names are more specific than "images".
        """
        if self._given is not None:
            yield [self._given]
            yield self._of_part_in([self._given])
            if in_others:
                yield self._below_given
            return
        yield [self._here]
        yield self._of_part
        yield [*self._of_images, self._here.parent] if is_path else self._of_images
        if in_others:
            yield self._in_images
            yield self._neighbours

    @cached_property
    def part(self) -> str | None:
        """The dataset part of the annotation file, from its name or its folder's."""
        return part_of(self._stem) or part_called(self._here)

    @cached_property
    def _bases(self) -> list[Path]:
        """The folders that may be the root of the dataset."""
        above = self._here.parent
        is_nested = part_called(self._here) is not None
        return [self._here, above, *([above.parent] if is_nested else [])]

    @cached_property
    def _of_images(self) -> list[Path]:
        """The folders named images or similar, and the parent of an annotation folder."""
        above = [self._here.parent] if _is_called(self._here, _OF_ANNOTATIONS) else []
        return [folder for base in self._bases for folder in _image_folders(base)] + above

    @cached_property
    def _of_part(self) -> list[Path]:
        inside = [folder for base in self._bases for folder in _image_folders(base)]
        return self._of_part_in([*self._bases, *inside])

    def _of_part_in(self, bases: Sequence[Path]) -> list[Path]:
        """Return the folders that the annotation file's name or part names, with their images/."""
        named = {files.same_name(word) for word in (self._stem, *re.split(r"[-_\s.]+", self._stem))}
        inside = [folder for base in bases for folder in files.list_folders(base)]
        inside = [
            folder
            for folder in dict.fromkeys(inside)
            if folder != self._here and not self._is_foreign(folder)
        ]
        found = [
            folder
            for folder in inside
            if files.same_name(folder.name) in named and folder.name.lower() not in IMAGE_FOLDERS
        ]
        if not any(part_called(folder) == self.part for folder in found):
            found += [f for f in inside if self.part and part_called(f) == self.part]
        return [each for folder in found for each in (folder, *_image_folders(folder))]

    @cached_property
    def _in_images(self) -> list[Path]:
        """The subfolders, at any depth."""
        found: list[Path] = []
        pending = [folder for base in self._bases for folder in _image_folders(base)]
        while pending and len(found) < MOST_FOLDERS:
            inside = [each for each in files.list_folders(pending.pop(0)) if each not in found]
            inside = [folder for folder in inside if not self._is_foreign(folder)]
            found += inside
            pending += inside
        return found

    @cached_property
    def _below_given(self) -> list[Path]:
        assert self._given is not None
        found = {path.parent for path in files.list_images(self._given, recursive=True).images}
        return sorted(found)

    @cached_property
    def _neighbours(self) -> list[Path]:
        """The neighbours with most of the images; those with annotations are other datasets."""
        step = max(1, len(self._names) // SAMPLE)
        sample = [[_parts(name)[-1] for name in each if _parts(name)] for each in self._names]
        sample = sample[::step]
        is_beside = _is_called(self._here, _OF_ANNOTATIONS)
        return [
            folder
            for folder in files.list_folders(self._here.parent)
            if folder != self._here
            and (is_beside or _is_called(folder, _OF_IMAGES))
            and not self._is_foreign(folder)
            and not files.list_files(folder, *ANNOTATION_SUFFIXES)
            and 2 * sum(self._folder(folder).holds(each) for each in sample) > len(sample)
        ]

    def _is_foreign(self, folder: Path) -> bool:
        """Return whether a folder belongs to another part of the dataset, or contains masks."""
        part = part_of(folder.name)
        is_of_other = part is not None and self.part is not None and part != self.part
        return is_of_other or bool(_words(folder.name) & _OF_MASKS)


class _Folder:
    """The regular files of a folder by name, and the visible ones by stem."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._names: set[str] = set()
        self._loose: dict[str, list[str]] = {}
        try:
            with os.scandir(path) as entries:
                self._names = {entry.name for entry in entries if entry.is_file()}
        except (OSError, ValueError):  # missing or unreadable folder
            return
        for name in self._names:
            self._loose.setdefault(files.same_name(name), []).append(name)

    def named(self, name: str, is_exact: bool) -> list[str]:
        if is_exact:
            return [name] if name in self._names else []
        return sorted(self._loose.get(files.same_name(name), [])) if self._names else []

    def holds(self, names: Sequence[str]) -> bool:
        """Return whether there is a file with one of these names, by stem."""
        return any(self.stems.find(Path(name).stem) for name in names)

    @cached_property
    def stems(self) -> Stems:
        """The images by stem."""
        return Stems(
            [
                self.path / name
                for name in sorted(self._names)
                if Path(name).suffix.lower() in image_files.SUFFIXES and not files.is_system(name)
            ]
        )


def _is_called(folder: Path, words: set[str]) -> bool:
    """Return whether a folder's name has only these words, and a dataset part."""
    own = _words(folder.name).difference(*_PARTS.values())
    return bool(own) and own <= words


def _words(name: str) -> set[str]:
    return set(re.findall("[a-z]+", name.casefold()))


def _parts(name: str) -> tuple[str, ...]:
    """Return the components of any system's path, without drive, root and "."."""
    path = name.replace("\\", "/")
    parts = (path[2:] if path[1:2] == ":" else path).split("/")
    return tuple(part for part in parts if part not in ("", "."))


def is_of_elsewhere(name: str) -> bool:
    """Return whether a name is an absolute path, of any machine, or a URL."""
    return name[:1] in ("/", "\\") or name[1:2] == ":" or "://" in name


def _other_spellings(name: str) -> list[str]:
    """Return alternatives to a name: a URL's unquoted path, the name without outer whitespace."""
    path = name.partition("?")[0] if "://" in name or name.startswith("/") else name
    return [each for each in dict.fromkeys((unquote(path), name.strip())) if each != name]


def _image_folders(base: Path) -> list[Path]:
    return [f for f in files.list_folders(base) if f.name.lower() in IMAGE_FOLDERS]
