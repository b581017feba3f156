"""The workflow of continuous integration does what the README and CONTRIBUTING say."""

import re
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[1]
TEST = 'python -m pip install -e ".[test]" && python -m pytest'


@pytest.fixture(scope="module")
def jobs() -> dict:
    text = (ROOT / ".github" / "workflows" / "tests.yml").read_text(encoding="utf-8")
    return yaml.safe_load(text)["jobs"]


@pytest.fixture(scope="module")
def contributing() -> str:
    return (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")


def commands(job: dict) -> list[str]:
    lines = (step.get("run", "").splitlines() for step in job["steps"])
    return [line.strip() for each in lines for line in each]


def test_the_tests_run_on_every_system_and_python(jobs):
    matrix = jobs["tests"]["strategy"]["matrix"]
    assert {each.partition("-")[0] for each in matrix["os"]} == {"ubuntu", "macos", "windows"}
    setup = (ROOT / "setup.py").read_text(encoding="utf-8")
    assert matrix["python"] == re.findall(r"Python :: (3\.\d+)", setup)
    assert commands(jobs["tests"]) == [f'{TEST} -m ""']  # the slow ones, too


def test_the_checks_are_those_of_contributors(jobs, contributing):
    check = commands(jobs["checks"])[-1]
    assert re.search(rf"^{re.escape(check)} +# check$", contributing, re.MULTILINE)


def test_the_documentation_is_built_as_by_contributors(jobs, contributing):
    install, build = commands(jobs["docs"])
    assert f"```\n{install}\n{build}\n```" in contributing
    assert " -W " in build


def test_the_wheel_is_used_in_an_environment_without_the_repository(jobs):
    lines = commands(jobs["package"])
    demo = next(n for n, line in enumerate(lines) if line.endswith('/bin/mrcnn" demo'))
    assert any(re.search(r"pip install dist/\*\.whl$", line) for line in lines[:demo])
    assert 'cd "$RUNNER_TEMP"' in lines[:demo]


def test_hooks_run_the_checks_of_contributors(jobs):
    hooks = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8"))["repos"]
    (local,) = (each["hooks"] for each in hooks if each["repo"] == "local")
    entries = [hook["entry"].replace(" --force-exclude", "") for hook in local]
    check = commands(jobs["checks"])[-1]
    assert entries == check.replace(" .", "").split(" && ")
