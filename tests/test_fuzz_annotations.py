"""A short run of the fuzzer of annotations; `python tests/fuzz_annotations.py` is the long one."""

import subprocess
import sys
from pathlib import Path

import pytest
from fuzz_annotations import CASES

FUZZER = Path(__file__).parent / "fuzz_annotations.py"


@pytest.mark.parametrize("name", CASES)
def test_whatever_a_field_says_it_is_read_or_refused_in_a_line(name):
    arguments = [sys.executable, FUZZER, "--format", name, "--count", "60", "--seed", "7"]
    done = subprocess.run(arguments, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert f"{name}: 60 changes, 0 failures" in done.stdout
