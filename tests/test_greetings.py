import os
import subprocess
import sys

import pytest

from mrcnn import greetings

LINES = [
    "WARNING: All log messages before absl::InitializeLog() is called are written to STDERR",
    "I0000 00:00:1795793816.081793   17346 cudart_stub.cc:31] Could not find cuda drivers",
    "2024-03-01 10:00:00.123456: I tensorflow/core/util/port.cc:113] oneDNN custom operations",
    "E0000 00:00:1.2 3 cuda_platform.cc:52] failed call to cuInit: UNKNOWN ERROR (303)",
    "E0000 00:00:1.2 3 cuda_dnn.cc:8310] Unable to register cuDNN factory: Attempting to",
]
FAULTS = [
    "E0000 00:00:1.2 3 a.cc:1] Could not load library libcudnn.so.9: version too old",
    "E0000 00:00:1.2 3 cuda_platform.cc:52] failed call to cuInit: SYSTEM_DRIVER_MISMATCH (803)",
]


@pytest.mark.parametrize(("level", "is_hidden"), [(None, True), ("3", True), ("0", False)])
def test_greetings_are_hidden_and_faults_are_not(capfd, monkeypatch, level, is_hidden):
    monkeypatch.delenv(greetings.LEVEL, raising=False)
    if level:
        monkeypatch.setenv(greetings.LEVEL, level)
    with greetings.hidden():
        for line in [*LINES, *FAULTS]:
            os.write(2, f"{line}\n".encode())
    shown = capfd.readouterr().err.splitlines()
    assert shown == (FAULTS if is_hidden else [*LINES, *FAULTS])


def test_what_is_written_before_an_error_is_shown(capfd):
    def fail():
        os.write(2, b"no such library\n")
        raise ImportError

    with pytest.raises(ImportError), greetings.hidden():
        fail()
    assert capfd.readouterr().err == "no such library\n"


@pytest.mark.parametrize(("before", "after"), [(None, "2"), ("0", "0"), ("3", "3")])
def test_errors_are_shown_unless_the_user_has_chosen(monkeypatch, before, after):
    monkeypatch.delenv(greetings.LEVEL, raising=False)
    if before:
        monkeypatch.setenv(greetings.LEVEL, before)
    greetings.set_level()
    assert os.environ[greetings.LEVEL] == after


@pytest.mark.slow
def test_an_import_and_a_network_write_nothing():
    program = (
        "from mrcnn.model import MaskRCNN; from small import SmallConfig; "
        "MaskRCNN('inference', SmallConfig(), 'logs')"
    )
    environment = {k: v for k, v in os.environ.items() if k != greetings.LEVEL}
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        check=True,
        cwd=os.path.dirname(__file__),
        env=environment,
    )
    assert done.stderr == ""
    assert done.stdout == ""
