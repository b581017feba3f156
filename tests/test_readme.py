import os
import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
DEMO = "python -m pip install -e . && mrcnn demo"
TEST = 'python -m pip install -e ".[test]" && python -m pytest'


def readme_lines() -> list[str]:
    return [line.strip() for line in (ROOT / "README.md").read_text(encoding="utf-8").splitlines()]


def test_the_readme_has_the_command_for_a_first_picture():
    assert DEMO in readme_lines()


def test_the_readme_has_the_command_for_the_tests():
    assert TEST in readme_lines()


def test_continuous_integration_runs_the_readmes_command():
    script = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    (basic,) = re.findall(r"sed -n 's/(.+)/\\1/p' README\.md", script)
    # sed writes groups the other way round.
    pattern = basic.replace(r"\(", "(").replace(r"\)", ")").replace("$", "")
    matched = [line for line in readme_lines() if re.fullmatch(pattern, line)]
    assert matched == [TEST]
    assert 'eval "$command"' in script
    assert script.count("pytest") == 2  # the second are the slow tests


STAND_IN = """#!/usr/bin/env bash
# As python3 it makes the environment, as that one's python it runs nothing but tells.
if [ "$2" = venv ]; then mkdir -p "$3/bin"; cp "$0" "$3/bin/python"
echo "PATH=$3/bin:\\$PATH" > "$3/bin/activate"; exit; fi
echo "python $*"
[ "$*" != "$FAILS" ]
"""


@pytest.mark.skipif(os.name == "nt", reason="the script is for bash")
@pytest.mark.parametrize(
    ("fails", "status"), [("nothing", 0), ("-m pytest", 1), ("-m pytest -m slow", 1)]
)
def test_continuous_integration_fails_where_quick_or_slow_tests_fail(tmp_path, fails, status):
    stand_in = tmp_path / "python3"
    stand_in.write_text(STAND_IN)
    stand_in.chmod(0o755)
    environment = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}", "FAILS": fails}
    script = [str(ROOT / ".ci" / "run")]
    done = subprocess.run(script, env=environment, capture_output=True, text=True, check=False)
    ran = ["python -m pip install -e .[test]", "python -m pytest", "python -m pytest -m slow"]
    assert (done.returncode, done.stdout.splitlines()) == (status, ran)
