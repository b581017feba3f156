"""A short run of the fuzzer of annotations; `python tests/fuzz_annotations.py` is the long one."""

import subprocess
import sys
from pathlib import Path

import pytest
from fuzz_annotations import CASES

FUZZER = Path(__file__).parent / "fuzz_annotations.py"


@pytest.fixture(scope="module")
def done() -> subprocess.CompletedProcess:
    """A process of its own, whose memory is measured."""
    arguments = [sys.executable, FUZZER, "--count", "60", "--seed", "7"]
    return subprocess.run(arguments, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("name", CASES)
def test_whatever_a_field_says_it_is_read_or_refused_in_a_line(name, done):
    assert f"\n{name}: 60 changes, 0 failures" in done.stdout, (done.stdout + done.stderr)[-6000:]


def test_the_process_ends_well(done):
    assert done.returncode == 0, done.stderr[-3000:]
