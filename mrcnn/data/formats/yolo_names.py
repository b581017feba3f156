"""The names of classes in the YAML file of a YOLO set.

Only `names:` is read, in the forms in which people and tools write it, so that no YAML library
is needed: a list or a mapping, each as a block or in brackets. Anything else is refused.
"""

import re
from pathlib import Path

from mrcnn.data.formats import files

_ITEM = re.compile(r"-\s+(.+)")
_PAIR = re.compile(r"(\d+)\s*:\s*(.+)")
_QUOTED = re.compile(r"""'(?:[^']|'')*'|"(?:[^"\\]|\\.)*\"""")


def read_names(path: Path) -> dict[int, str]:
    """Return the name of each class id.

    Raises:
        ValueError: there is no `names`, or it is written in another form.
    """
    lines = [_without_comment(line) for line in files.read_text(path).splitlines()]
    start = next((n for n, line in enumerate(lines) if re.match(r"names\s*:", line)), None)
    if start is None:
        raise ValueError(f"{path} has no names")
    first = lines[start].partition(":")[2].strip()
    try:
        if first[:1] in ("[", "{"):
            return _bracketed(" ".join([first, *lines[start + 1 :]]))
        if first:
            raise ValueError(first)
        return _block(lines[start + 1 :])
    except ValueError as error:
        raise ValueError(
            f"{path}: names must be a list or a mapping from numbers, cannot read {error}"
        ) from error


def _block(lines: list[str]) -> dict[int, str]:
    names: dict[int, str] = {}
    for line in filter(str.strip, lines):
        item, pair = _ITEM.fullmatch(line.strip()), _PAIR.fullmatch(line.strip())
        if item:
            names[len(names)] = _plain(item[1])
        elif pair and line[0].isspace():
            names[int(pair[1])] = _plain(pair[2])
        elif line[0].isspace():
            raise ValueError(line.strip())
        else:
            break
    if not names:
        raise ValueError("nothing")
    return names


def _bracketed(text: str) -> dict[int, str]:
    closing = {"[": "]", "{": "}"}[text[0]]
    entries = [""]
    for part in re.findall(rf"{_QUOTED.pattern}|[^'\"]|.", text[1:]):
        if part == closing:
            break
        if part == ",":
            entries.append("")
        else:
            entries[-1] += part
    else:
        raise ValueError(f"{text[:40]} (no {closing} follows)")
    entries = [entry.strip() for entry in entries if entry.strip()]
    if closing == "]":
        return dict(enumerate(map(_plain, entries)))
    pairs = [_PAIR.fullmatch(entry) for entry in entries]
    if not all(pairs):
        raise ValueError(text[:40])
    return {int(pair[1]): _plain(pair[2]) for pair in pairs if pair}


def _plain(text: str) -> str:
    text = text.strip()
    if _QUOTED.fullmatch(text):
        inside = text[1:-1]
        return inside.replace("''", "'") if text[0] == "'" else inside.replace('\\"', '"')
    if text[:1] in tuple("[{&*!|>%@`'\""):
        raise ValueError(text)
    return text


def _without_comment(line: str) -> str:
    parts = re.findall(rf"{_QUOTED.pattern}|\s#.*|^#.*|.", line)
    return "".join(part for part in parts if not part.lstrip().startswith("#")).rstrip()
