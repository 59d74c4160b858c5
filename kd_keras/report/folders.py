"""Reading run folders for a report."""

import json
from pathlib import Path
from typing import Any

Run = dict[str, Any]
History = list[dict[str, Any]]


def load(folder: Path) -> Run:
    """A run: `name`, `results`, `config`, `environment` and `history`, its epochs.

    Raises:
        FileNotFoundError: no `results.json`.
        ValueError: a file that is not JSON.
    """
    if not (folder / "results.json").is_file():
        raise FileNotFoundError(f"{folder} is no finished run: it has no results.json.")
    results = _read(folder / "results.json")
    history = _read_lines(folder / "metrics.jsonl")
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
    tuned = [{**line, "model": "tuned"} for line in _read_lines(trial) if line["model"] == "trial"]
    return [line for line in history if "validation" in line] + tuned


def _read(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path} is not JSON: {error}") from error


def _read_lines(path: Path) -> History:
    """The lines of a run's history; one that a crash tore is left out."""
    if not path.is_file():
        return []
    found = path.read_text(encoding="utf-8").split("\n")
    history = []
    for number, line in enumerate(found[:-1], start=1):  # a whole line ends in a line break
        try:
            history.append(json.loads(line))
        except ValueError as error:
            raise ValueError(f"{path}, line {number}, is not JSON: {error}") from error
    return history
