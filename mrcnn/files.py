"""Files that are whole or not there: written beside their place, then renamed."""

import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from os import PathLike
from pathlib import Path


@contextmanager
def replacing(path: str | PathLike[str]) -> Iterator[Path]:
    """Yield a new path beside `path`, which takes its place when the block ends well.

    The suffix is kept, for writers that go by it. When the block raises, what it wrote is removed
    and an older file at `path` is untouched. Missing folders are made.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    # Beside the target, since a file can be renamed at a stroke only within one file system.
    partial = path.with_name(f".{path.stem}.{uuid.uuid4().hex}{path.suffix}")
    try:
        yield partial
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)
