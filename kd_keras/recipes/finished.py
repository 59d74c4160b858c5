"""A finished run, read again: its data and its models. TensorFlow is not needed for it."""

import dataclasses
import json
from pathlib import Path
from typing import Any

from kd_keras.config import DataConfig
from kd_keras.recipes.runs import RESULTS
from kd_keras.utils import records

# the models that a run keeps, by their roles
MODELS = {
    "teacher": "teacher.keras",
    "alone": "alone.keras",
    "distilled": "student.keras",
    "model": "model.keras",
}


def is_run(path: Path) -> bool:
    """Return whether a path is a run folder."""
    return (path / "config.json").is_file() and (path / "results.json").is_file()


def model_in(path: Path) -> Path:
    """Return the model of a run folder, the student if there is one; other paths unchanged.

    Raises:
        FileNotFoundError: if the run has kept no model.
    """
    if not is_run(path):
        return path
    for name in ("student.keras", "model.keras"):
        if (path / name).is_file():
            return path / name
    raise FileNotFoundError(f"The run folder {path} holds neither student.keras nor model.keras.")


def data_of(run: Path) -> DataConfig:
    """Return the settings of data that a run was made with."""
    kept = json.loads((run / "config.json").read_text(encoding="utf-8"))
    kept = kept.get("config", kept)
    known: dict[str, Any] = {}
    for field in dataclasses.fields(DataConfig):
        if kept.get(field.name) is not None:
            value = kept[field.name]
            known[field.name] = tuple(value) if isinstance(value, list) else value
    if "data_dir" in known:
        known["data_dir"] = Path(known["data_dir"])
    return DataConfig(**{**known, "augmentation": "none"})


def check(run: Path) -> dict[str, Any]:
    """Return the results of a run folder, in which a model is left.

    Raises:
        FileNotFoundError: nothing is there, or no model.
        ValueError: it is not a run folder, its run is not finished, or a file of it is damaged.
    """
    if not run.exists():
        raise FileNotFoundError(f"There is no run folder {run}.")
    if not (run / "config.json").is_file():
        raise ValueError(f"{run} is not a run folder: it has no config.json.")
    if not (run / "results.json").is_file():
        raise ValueError(
            f"The run in {run} is not finished. Run its command again: it resumes, and ends."
        )
    records.read_json(run / "config.json")
    results = records.read_json(run / "results.json", RESULTS)
    if not any((run / name).is_file() for name in MODELS.values()):
        raise FileNotFoundError(
            f"The run folder {run} holds no model: none of {', '.join(MODELS.values())}."
        )
    return results
