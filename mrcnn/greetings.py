"""Harmless lines that TensorFlow's libraries print when they start."""

import os
import re
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO

LEVEL = "TF_CPP_MIN_LOG_LEVEL"  # 0: everything, 1: no INFO, 2: errors only, 3: nothing
ERRORS = "2"
# Harmless lines logged as errors, or before the level is set.
KNOWN = re.compile(
    rb"WARNING: All log messages before absl::InitializeLog"
    rb"|^I\d{4} |^\d{4}-\d\d-\d\d [\d:.]+: I "
    rb"|failed call to cuInit.*(\(303\)|NO_DEVICE|no CUDA-capable)"  # without a GPU
    rb"|Unable to register cu\w+ (plugin )?factory"  # with a GPU
    rb"|computation placer already registered"
)


def set_level() -> None:
    """Let TensorFlow log errors only, unless the user has chosen a level."""
    os.environ.setdefault(LEVEL, ERRORS)


@contextmanager
def hidden() -> Iterator[None]:
    """Filter harmless lines from stderr while libraries are imported or look for devices.

    All other lines are written at the end. If the user asked for INFO messages, nothing is
    filtered.
    """
    is_asked_for = os.environ.get(LEVEL, ERRORS) in ("0", "1")
    try:
        written = None if is_asked_for else tempfile.TemporaryFile()  # noqa: SIM115
        kept = os.dup(2) if written else -1
    except OSError:  # no stderr, or no writable temporary folder
        written, kept = None, -1
    if written is None:
        yield
        return
    if sys.stderr is not None:
        sys.stderr.flush()
    with written:
        try:
            os.dup2(written.fileno(), 2)
            yield
        finally:
            os.dup2(kept, 2)
            os.close(kept)
            _pass_on(written)


def _pass_on(written: IO[bytes]) -> None:
    written.seek(0)
    for line in written:
        if not KNOWN.search(line):
            os.write(2, line)
