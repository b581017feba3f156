"""The results file of `mrcnn detect`: valid JSON after every image, whatever stops the run."""

import json
import os
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from mrcnn.data.formats import files as texts

KEYS = {"image_id", "file_name", "category_id", "bbox", "score"}  # of every row
CLOSING = b"\n]\n"


class ResultsFile:
    """A list in COCO's results format, one line per object, written incrementally.

    The closing bracket is rewritten after each image: the file can be read while it grows, or
    after a run was killed, and contains all images processed so far.

    Args:
        path: a file that does not exist, or is to be overwritten.
    """

    def __init__(self, path: Path) -> None:
        # Existing content is kept until the file is known to be writable.
        self._file = open(path, "r+b" if path.exists() else "w+b", buffering=0)  # noqa: SIM115
        self._end, self.count = 0, 0
        self._file.truncate(0)
        self._append(b"[")

    def add(self, rows: Sequence[dict[str, Any]]) -> None:
        """Add the objects of an image: all, or none if the disk is full.

        Raises:
            OSError: If they cannot be written; previous content stays intact.
        """
        if rows:
            lines = ",\n".join(json.dumps(row) for row in rows)
            self._append((",\n" if self.count else "\n").encode() + lines.encode())
            self.count += len(rows)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        self._file.close()

    def _append(self, text: bytes) -> None:
        try:
            self._write(text + CLOSING)
        except BaseException:  # including Ctrl-C
            self._file.truncate(self._end)
            self._write(CLOSING)
            raise
        self._end += len(text)

    def _write(self, text: bytes) -> None:
        self._file.seek(self._end)
        while text:
            text = text[os.write(self._file.fileno(), text) :]


def is_ours(path: Path) -> bool:
    """Return whether a file was written by `mrcnn detect`."""
    try:
        rows = json.loads(texts.read_text(path) or "[]")
    except ValueError:
        return False
    return isinstance(rows, list) and all(
        isinstance(row, dict) and row.keys() >= KEYS for row in rows
    )
