import re
from pathlib import Path

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
    assert script.count("pytest") == 1
