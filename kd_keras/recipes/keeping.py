"""Write the predictions of a run when it ends, and add to the results what they show."""

from pathlib import Path
from typing import Any

from kd_keras.evaluation import findings
from kd_keras.recipes import per_image
from kd_keras.recipes.predictions import Predictions
from kd_keras.recipes.results import Results


def completed(found: Results, kept: Predictions, folder: Path, *, student: str) -> Results:
    """Write the predictions of a run, and return its results with what follows from them.

    Written are `predictions.npz`, `predictions.csv`, `predictions.parquet` and `thumbnails/`. The
    results gain `operating` in the entry of each model, for two classes; `teacher_over`, the
    difference of the teacher from each student alone; `examples`, the pictures; and `findings`.

    Args:
        found: the results so far.
        kept: the predictions of all its models.
        folder: the run folder.
        student: the role whose errors are shown.
    """
    kept.write(folder)
    names = per_image.names_of(kept.task)
    per_image.write_tables(kept, names, folder)
    models: dict[str, Any] = {
        role: {**entry, **_operating(kept, role)} for role, entry in found["models"].items()
    }
    done: Results = {
        **found,
        "models": models,
        "examples": per_image.write_pictures(kept, names, student, folder),
    }
    alone = [role for role in findings.alone(done) if role in kept.roles]
    if "teacher" in kept.roles and alone:
        done["teacher_over"] = {role: kept.difference("teacher", role) for role in alone}
    done["findings"] = findings.make(done)
    return done


def _operating(kept: Predictions, role: str) -> dict[str, Any]:
    point = kept.operating(role) if role in kept.roles else None
    return {} if point is None else {"operating": point}
