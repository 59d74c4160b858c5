"""Run the notebooks from start to end in a new kernel each, and store their outputs.

    python notebooks/execute.py [NOTEBOOKS]

`make notebooks` does this for all of them. They run in a temporary folder, so that nothing is left
of an earlier run. What a kernel writes to standard error goes to the terminal and not into the
notebook: it is mostly TensorFlow's talk about the machine, and says nothing to a reader.
"""

import os
import sys
import tempfile
import time
from pathlib import Path

import nbformat
from nbclient import NotebookClient

FOLDER = Path(__file__).resolve().parent
SECONDS = 600  # of a cell, at most
METADATA = {
    "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},
}


def execute(path: Path) -> None:
    """Run a notebook and write it back with its outputs; one whose code fails stays as it is."""
    notebook = nbformat.read(path, as_version=4)
    with tempfile.TemporaryDirectory() as folder:
        client = NotebookClient(
            notebook,
            timeout=SECONDS,
            kernel_name="python3",
            coalesce_streams=True,
            record_timing=False,
            resources={"metadata": {"path": folder}},
        )
        client.execute()
    for cell in notebook.cells:
        if cell.cell_type == "code":
            _without_standard_error(cell)
    notebook.metadata = nbformat.from_dict(METADATA)
    nbformat.validate(notebook)
    nbformat.write(notebook, path)


def _without_standard_error(cell: nbformat.NotebookNode) -> None:
    kept = []
    for output in cell.outputs:
        if output.output_type == "stream" and output.name == "stderr":
            sys.stderr.write(output.text)
        else:
            kept.append(output)
    cell.outputs = kept


def main(names: list[str]) -> None:
    """Run the notebooks that are named, or all."""
    # the kernels find the checkout that these notebooks belong to
    found = [str(FOLDER.parent), *filter(None, [os.environ.get("PYTHONPATH")])]
    os.environ["PYTHONPATH"] = os.pathsep.join(found)
    for path in map(Path, names or sorted(map(str, FOLDER.glob("*.ipynb")))):
        start = time.monotonic()
        execute(path)
        print(f"{path.name}: {time.monotonic() - start:.0f} s", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
