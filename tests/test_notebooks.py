"""The notebooks: they run from start to end, and what is committed of them is fit to be read.

    python tests/test_notebooks.py [NAME ...]

runs them in their full length and writes them anew, all or some: demo, train_shapes, ...
"""

import asyncio
import base64
import io
import json
import re
import shutil
import sys
from pathlib import Path

import nbclient
import nbformat
import pytest
from PIL import Image

ROOT = Path(__file__).resolve().parents[1]
NAMES = ("demo", "train_shapes", "inspect_data", "inspect_model", "inspect_weights")
QUICK = {"MRCNN_EPOCHS": "4", "MRCNN_STEPS": "2", "MRCNN_IMAGES": "20"}
LARGEST = 1_500_000
# Paths that only exist where somebody ran the notebook.
ABSOLUTE = re.compile(r"(?<![\w.])/(root|work|tmp|home|usr|Users|private)\b|[A-Z]:\\\\")


@pytest.fixture(params=NAMES)
def committed(request):
    return nbformat.read(ROOT / "notebooks" / f"{request.param}.ipynb", as_version=4)


@pytest.mark.slow
# Of Jupyter's parts: sockets that are closed by the garbage collector.
@pytest.mark.filterwarnings("ignore::ResourceWarning")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("name", NAMES)
def test_a_notebook_runs_from_start_to_end(name, tmp_path, monkeypatch):
    shutil.copytree(ROOT / "samples", tmp_path / "samples")
    shutil.copytree(ROOT / "notebooks", tmp_path / "notebooks")
    for variable, value in QUICK.items():
        monkeypatch.setenv(variable, value)
    notebook = execute(tmp_path / "notebooks" / f"{name}.ipynb")
    # A network that was trained for a moment finds as many objects as it may, and is told so.
    told = "".join(texts_of(notebook, "stderr")).splitlines()
    assert [line for line in told if "limit DETECTION_MAX_INSTANCES" not in line] == []
    assert [path.name for path in (tmp_path / "notebooks").iterdir() if path.is_dir()] == []


def test_every_notebook_is_tested():
    assert {path.stem for path in (ROOT / "notebooks").glob("*.ipynb")} == set(NAMES)


def test_cells_were_run_in_order(committed):
    counts = [cell.execution_count for cell in code_cells(committed)]
    assert counts == list(range(1, len(counts) + 1))


def test_committed_outputs_have_pictures_and_no_errors(committed):
    outputs = outputs_of(committed)
    assert sum("image/png" in output.get("data", {}) for output in outputs) >= 4
    assert [output.evalue for output in outputs if output.output_type == "error"] == []
    assert texts_of(committed, "stderr") == []


def test_committed_outputs_tell_nothing_about_the_machine(committed):
    texts = [json.dumps(output) for output in outputs_of(committed)]
    pictureless = [re.sub(r'"image/png": "[^"]*"', "", text) for text in texts]
    assert [found[0] for text in pictureless if (found := ABSOLUTE.search(text))] == []
    assert not any("execution" in cell.metadata for cell in committed.cells)


def test_the_kernel_is_one_that_everybody_has(committed):
    assert committed.metadata.kernelspec.name == "python3"


@pytest.mark.parametrize("name", NAMES)
def test_a_notebook_is_small(name):
    assert (ROOT / "notebooks" / f"{name}.ipynb").stat().st_size < LARGEST


def code_cells(notebook):
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def outputs_of(notebook):
    return [output for cell in code_cells(notebook) for output in cell.outputs]


def texts_of(notebook, stream: str) -> list[str]:
    return [
        output.text
        for output in outputs_of(notebook)
        if output.output_type == "stream" and output.name == stream
    ]


def execute(path: Path) -> nbformat.NotebookNode:
    """Return the notebook of a file with the outputs of a new run in its folder."""
    notebook = nbformat.read(path, as_version=4)
    client = nbclient.NotebookClient(
        notebook,
        timeout=1200,
        kernel_name="python3",
        record_timing=False,
        coalesce_streams=True,
        resources={"metadata": {"path": str(path.parent)}},
    )
    asyncio.run(client.async_execute())
    return notebook


def write_anew(path: Path) -> None:
    """Run a notebook and write it, its pictures in as many colours as there is room for."""
    notebook = execute(path)
    for cell in notebook.cells:
        cell.metadata = {}
    pictures = [
        output.data for output in outputs_of(notebook) if "image/png" in output.get("data", {})
    ]
    originals = [data["image/png"] for data in pictures]
    for colors in (256, 128, 96, 64):
        for data, original in zip(pictures, originals, strict=True):
            data["image/png"] = with_palette(original, colors)
        text = nbformat.writes(notebook) + "\n"
        if len(text) < 0.95 * LARGEST:
            break
    path.write_text(text, encoding="utf-8")


def with_palette(picture: str, colors: int) -> str:
    """Return a PNG in base64 with so many colours: micrographs need a third of the bytes."""
    image = Image.open(io.BytesIO(base64.b64decode(picture))).convert("RGB")
    file = io.BytesIO()
    image.quantize(colors, kmeans=1).save(file, "PNG", optimize=True)
    return base64.b64encode(file.getvalue()).decode("ascii")


if __name__ == "__main__":
    for name in sys.argv[1:] or NAMES:
        write_anew(ROOT / "notebooks" / f"{name}.ipynb")
