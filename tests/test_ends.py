"""Trainings that signals end; `ends.py` does it more often."""

import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.slow
def test_a_run_that_signals_ended_is_the_unbroken_one():
    program = Path(__file__).with_name("ends.py")
    done = subprocess.run(
        [sys.executable, program, "8"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "'ends': 8" in done.stdout.splitlines()[-1]
