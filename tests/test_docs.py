"""The pages of the documentation: the command's options, links, and the code in them."""

import argparse
import ast
import importlib
import re
import shlex
from pathlib import Path

import pytest

from mrcnn import cli
from mrcnn.config import Config
from mrcnn.model import MaskRCNN

ROOT = Path(__file__).resolve().parents[1]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md"), *ROOT.glob("docs/reference/*")])
COMMAND = (ROOT / "docs" / "command.md").read_text(encoding="utf-8")
OF_INSTANCES = {"config", "epoch", "keras_model", "log_dir"}  # set in MaskRCNN's __init__
every_page = pytest.mark.parametrize(
    "page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix()
)


def blocks(page: Path, language: str) -> list[str]:
    """Return a page's blocks of code in a language, "" for those without one."""
    text = page.read_text(encoding="utf-8")
    found = re.findall(r"^```([^\n]*)\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    return [code for name, code in found if name == language]


def named(pages: list[Path], found) -> list:
    """Return what was found in pages as parameters, named after the page and counted."""
    return [
        pytest.param(each, id=f"{page.relative_to(ROOT).as_posix()} {number}")
        for page in pages
        for number, each in enumerate(found(page), start=1)
    ]


def commands(page: Path) -> list[str]:
    """Return the lines of a page's blocks that call the command, with arguments."""
    lines = "\n".join(blocks(page, "")).splitlines()
    return [line[len("mrcnn ") :] for line in lines if re.match(r"mrcnn [a-z]", line)]


def verbs() -> dict[str, argparse.ArgumentParser]:
    (commands,) = cli._parser()._subparsers._group_actions
    return commands.choices


def options_of(parser: argparse.ArgumentParser) -> set[str]:
    names = {action.option_strings[-1] for action in parser._actions if action.option_strings}
    places = {action.metavar for action in parser._actions if not action.option_strings}
    return (names | places) - {"--help"}


def section(verb: str) -> str:
    return re.split(r"^## ", COMMAND.partition(f"\n## {verb}\n")[2], flags=re.MULTILINE)[0]


def documented(verb: str) -> set[str]:
    """Return the options in the first column of a verb's table."""
    rows = re.findall(r"^\| (`[^|]+) \|", section(verb), re.MULTILINE)
    return {name for row in rows for name in re.findall(r"`([^`]+)`", row)}


def prose(page: Path) -> str:
    """Return a page without its blocks of code."""
    return re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.M | re.S)


def anchors(page: Path) -> set[str]:
    """Return the anchors of a page's headings, as code hosts form them."""
    headings = re.findall(r"^#+ (.+)$", prose(page), re.MULTILINE)
    kept = (re.sub(r"[^\w\- ]", "", heading.lower()) for heading in headings)
    return {heading.strip().replace(" ", "-") for heading in kept}


def test_the_page_of_the_command_has_every_verb_and_no_other():
    listed = re.findall(r"^\| \[(\w+)\]\(#\w+\) \|", COMMAND, re.MULTILINE)
    assert sorted(listed) == sorted(verbs())


@pytest.mark.parametrize("verb", verbs())
def test_the_page_of_the_command_has_every_option_of_a_verb_and_no_other(verb):
    assert documented(verb) == options_of(verbs()[verb])


@pytest.mark.parametrize("verb", verbs())
def test_the_example_of_a_verb_is_understood(verb):
    (example,) = re.findall(r"^mrcnn (.+)$", section(verb), re.MULTILINE)
    assert cli._parser().parse_args(example.split()).command == verb


@every_page
def test_links_lead_to_files_and_headings(page):
    for link in re.findall(r"\]\(([^)\s]+)\)", prose(page)):
        if re.match(r"https?://", link):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.is_file(), link
        if anchor:
            assert anchor in anchors(target), link


@every_page
def test_paths_in_prose_exist(page):
    paths = re.findall(r"`((?:tests|mrcnn|samples|benchmarks|docs)/[\w./]+)`", prose(page))
    assert [path for path in paths if not (ROOT / path).exists()] == []


@every_page
def test_tables_have_as_many_cells_in_every_row(page):
    for table in re.findall(r"(?:^\|.*\|\n)+", prose(page), re.MULTILINE):
        widths = {len(re.findall(r"(?<!\\)\|", row)) for row in table.splitlines()}
        assert len(widths) == 1, table


@pytest.mark.parametrize("command", named(PAGES, commands))
def test_commands_are_understood_and_set_what_there_is(command):
    words = shlex.split(command, comments=True)
    options = cli._parser().parse_args(words)
    # argparse takes shortened ones as well.
    assert {word for word in words if word.startswith("--")} <= options_of(verbs()[words[0]])
    for setting in getattr(options, "settings", ()):
        assert setting.partition("=")[0] in Config.names()


@pytest.mark.parametrize("code", named(PAGES, lambda page: blocks(page, "python")))
def test_python_code_imports_and_calls_what_there_is(code):
    tree = ast.parse(code)
    known = {"model": MaskRCNN}
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module.startswith("mrcnn"):
            for alias in node.names:
                known[alias.asname or alias.name] = attribute(node.module, alias.name)
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            owner = known.get(node.value.id)
            assert owner is None or hasattr(owner, node.attr) or node.attr in OF_INSTANCES


def attribute(module: str, name: str):
    """Return a name of a module, which may be a module itself."""
    try:
        return getattr(importlib.import_module(module), name)
    except AttributeError:
        return importlib.import_module(f"{module}.{name}")


@every_page
def test_dotted_names_in_prose_exist(page):
    dotted = re.findall(r"`(mrcnn(?:\.[A-Za-z_]\w*)+)(?:\(|`)", prose(page))
    for name in dotted:
        module, _, last = name.rpartition(".")
        try:
            attribute(module, last)
        except ModuleNotFoundError:  # of a class
            module, _, of_class = module.rpartition(".")
            assert hasattr(attribute(module, of_class), last), name


@pytest.mark.slow
def test_the_readmes_lines_of_python_find_nuclei(monkeypatch, capsys):
    monkeypatch.chdir(ROOT)
    exec(blocks(ROOT / "README.md", "python")[0], {})
    count, said = capsys.readouterr().out.split(maxsplit=1)
    assert int(count) > 10
    assert said.startswith("nuclei; the first is at [")
