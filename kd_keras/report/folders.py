"""Read run folders for a report."""

from pathlib import Path
from typing import Any

from kd_keras.recipes.runs import LINE, RESULTS
from kd_keras.recipes.stored_predictions import read_scores
from kd_keras.utils import records

Run = dict[str, Any]
History = list[dict[str, Any]]


def load(folder: Path) -> Run:
    """Read a run: `name`, `folder`, `results`, `config`, `environment`, `history`, `scores`.

    `history` holds the epochs. `scores` holds the probabilities of class 1 of two, or None: see
    `recipes.stored_predictions.read_scores`.

    Raises:
        FileNotFoundError: there is no `results.json`.
        DamagedFile: a file is not JSON, or does not have the shape that runs write.
    """
    if not (folder / "results.json").is_file():
        raise FileNotFoundError(f"{folder} is not a finished run: it has no results.json.")
    results = records.read_json(folder / "results.json", RESULTS)
    history = records.read_lines(folder / "metrics.jsonl", LINE)
    return {
        "name": folder.resolve().name,
        "folder": folder,
        "scores": read_scores(folder),
        "results": results,
        "config": _read(folder / "config.json"),
        "environment": _read(folder / "environment.json"),
        "history": _searched(folder, results, history) if "search" in results else history,
    }


def _searched(folder: Path, results: dict[str, Any], history: History) -> History:
    """Return a search's epochs with validation scores; the best trial's are named `tuned`."""
    trial = folder / "search" / f"trial_{results['search']['best']}" / "metrics.jsonl"
    tuned = [
        {**line, "model": "tuned"}
        for line in records.read_lines(trial, LINE)
        if line["model"] == "trial"
    ]
    return [line for line in history if "validation" in line] + tuned


def _read(path: Path) -> dict[str, Any]:
    return records.read_json(path) if path.is_file() else {}
