"""Reading run folders for a report."""

from pathlib import Path
from typing import Any

from kd_keras.recipes.runs import LINE, RESULTS
from kd_keras.utils import records

Run = dict[str, Any]
History = list[dict[str, Any]]


def load(folder: Path) -> Run:
    """A run: `name`, `results`, `config`, `environment` and `history`, its epochs.

    Raises:
        FileNotFoundError: no `results.json`.
        DamagedFile: a file that is not JSON, or not of the shape that runs write.
    """
    if not (folder / "results.json").is_file():
        raise FileNotFoundError(f"{folder} is no finished run: it has no results.json.")
    results = records.read_json(folder / "results.json", RESULTS)
    history = records.read_lines(folder / "metrics.jsonl", LINE)
    return {
        "name": folder.resolve().name,
        "results": results,
        "config": _read(folder / "config.json"),
        "environment": _read(folder / "environment.json"),
        "history": _searched(folder, results, history) if "search" in results else history,
    }


def _searched(folder: Path, results: dict[str, Any], history: History) -> History:
    """Of a search, the epochs that were judged on validation; the best trial's are the tuned."""
    trial = folder / "search" / f"trial_{results['search']['best']}" / "metrics.jsonl"
    tuned = [
        {**line, "model": "tuned"}
        for line in records.read_lines(trial, LINE)
        if line["model"] == "trial"
    ]
    return [line for line in history if "validation" in line] + tuned


def _read(path: Path) -> dict[str, Any]:
    return records.read_json(path) if path.is_file() else {}
