"""The notebooks: their code runs, and what is stored in them was made by running it."""

import json
import re
from pathlib import Path

import matplotlib.pyplot as plt
import pytest
from code_blocks import ROOT, broken_links, run_blocks

NOTEBOOKS = sorted(ROOT.glob("notebooks/*.ipynb"))
PLACE = re.compile(r"(?<![\w.])/(?:tmp|home|root|work|Users|opt|usr|var|mnt|content)/|[A-Z]:\\\\")
EPOCHS = re.compile(r"""(\bepochs"?\s*[=:]\s*)\d+""")
OUTPUTS = {
    "stream": {"name", "text"},
    "display_data": {"data", "metadata"},
    "execute_result": {"data", "metadata", "execution_count"},
}

each_notebook = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)


def cells_of(path: Path, kind: str) -> list[dict]:
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    return [cell for cell in cells if cell["cell_type"] == kind]


def with_few_epochs(code: str) -> str:
    """The same code, where every training is of two epochs: enough to see that it runs."""
    return EPOCHS.sub(r"\g<1>2", code)


def texts_of(output: dict) -> list[str]:
    """What a reader can read of an output: its stream, or its data but for pictures."""
    if output["output_type"] == "stream":
        return ["".join(output["text"])]
    readable = [value for kind, value in output["data"].items() if not kind.startswith("image/")]
    return ["".join(value) for value in readable]


@pytest.fixture
def without_a_screen():
    """Figures are drawn, but not shown, and are closed in the end."""
    before = plt.get_backend()
    plt.switch_backend("agg")
    yield
    plt.close("all")
    plt.switch_backend(before)


@pytest.mark.slow
@each_notebook
def test_the_code_of_a_notebook_runs_in_order(path, tmp_path, monkeypatch, without_a_screen):
    monkeypatch.setenv("KD_KERAS_CACHE", str(tmp_path / "kept"))  # a notebook may set it
    codes = [with_few_epochs("".join(cell["source"])) for cell in cells_of(path, "code")]
    blocks = [(f"{path.name}, cell {n}", 1, code) for n, code in enumerate(codes, start=1)]
    run_blocks(blocks, tmp_path, monkeypatch)
    assert {entry.name for entry in tmp_path.iterdir()} <= {"runs", "kept"}


def test_of_all_that_a_notebook_does_only_the_epochs_are_fewer():
    code = 'fit(x, epochs=40, batch_size=16)\nhow = {"epochs": 30}\naxis.set(xlabel="epoch")\n'
    assert with_few_epochs(code) == code.replace("40", "2").replace("30", "2")


@each_notebook
def test_a_notebook_is_one(path):
    """It has the fields of nbformat 4, so that Jupyter and GitHub show it."""
    notebook = json.loads(path.read_text(encoding="utf-8"))
    assert notebook["nbformat"] == 4
    assert notebook["nbformat_minor"] >= 5
    assert notebook["metadata"]["kernelspec"]["name"] == "python3"
    names = [cell["id"] for cell in notebook["cells"]]
    assert len({*names}) == len(names)
    for cell in notebook["cells"]:
        common = {"cell_type", "id", "metadata", "source"}
        code = cell["cell_type"] == "code"
        assert cell.keys() == common | ({"execution_count", "outputs"} if code else set())
        assert code or cell["cell_type"] == "markdown"
        for output in cell.get("outputs", ()):
            assert output.keys() - {"output_type"} == OUTPUTS[output["output_type"]]


@each_notebook
def test_a_notebook_was_run_from_start_to_end(path):
    cells = cells_of(path, "code")
    assert [cell["execution_count"] for cell in cells] == [*range(1, len(cells) + 1)]
    outputs = [output for cell in cells for output in cell["outputs"]]
    assert any("image/png" in output.get("data", ()) for output in outputs)
    assert all(output.get("name") != "stderr" for output in outputs)


@each_notebook
def test_a_notebook_names_no_folder_of_a_machine(path):
    sources = ["".join(cell["source"]) for k in ("code", "markdown") for cell in cells_of(path, k)]
    outputs = [output for cell in cells_of(path, "code") for output in cell["outputs"]]
    shown = [text for output in outputs for text in texts_of(output)]
    assert [text for text in (*sources, *shown) if PLACE.search(text)] == []


@each_notebook
def test_the_links_of_a_notebook_resolve(path):
    text = "\n\n".join("".join(cell["source"]) for cell in cells_of(path, "markdown"))
    assert broken_links(text, path) == []


@pytest.mark.parametrize("text", ["in /home/me/runs", "C:\\\\Users", "'/tmp/x.png'"])
def test_a_folder_of_a_machine_is_found(text):
    assert PLACE.search(text)


@pytest.mark.parametrize("text", ["runs/tmp/x", "train/work/1.png", "T:1", "a / home / b"])
def test_other_paths_are_none_of_a_machine(text):
    assert not PLACE.search(text)
