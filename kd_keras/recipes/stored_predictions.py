"""`predictions.npz` of a run folder: its format, written and read.

Beside the labels and what the metric of the task needs of each model, it holds the probability of
class 1 that each model gives, if there are two classes, on test and on validation. Files of earlier
versions lack these.
"""

import dataclasses
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from kd_keras.utils.files import whole_file

FILE = "predictions.npz"

Key = tuple[str, int]  # the role of a model, and the seed of its training
ByRole = dict[str, dict[int, np.ndarray]]


@dataclasses.dataclass(frozen=True)
class Scores:
    """The probabilities of class 1 of two.

    Attributes:
        labels: class numbers of the test images, shape `(n,)`.
        test: by role and seed, float64, shape `(n,)`.
        validation_labels: class numbers of the validation images, shape `(m,)`; None if there was
            no validation split.
        validation: by role and seed, float64, shape `(m,)`; empty if there was none.
    """

    labels: np.ndarray
    test: ByRole
    validation_labels: np.ndarray | None = None
    validation: ByRole = dataclasses.field(default_factory=dict)


def write(
    folder: Path,
    labels: np.ndarray,
    kept: Mapping[Key, np.ndarray],
    scores: Scores | None = None,
) -> None:
    """Write the file, whole or not at all.

    Args:
        folder: the run folder.
        labels: of the test images, shape `(n,)`.
        kept: each model's part that the task's metric needs: classes, shape `(n,)`, or logits,
            shape `(n, classes)`.
        scores: for two classes, with the same models.
    """
    arrays: dict[str, Any] = {str(number): rows for number, rows in enumerate(kept.values())}
    arrays |= {"labels": labels, "models": np.array(json.dumps(list(kept)))}
    if scores is not None:
        arrays["scores"] = _stacked(scores.test, list(kept))
        if scores.validation_labels is not None:
            arrays["validation_labels"] = scores.validation_labels
            arrays["validation_scores"] = _stacked(scores.validation, list(kept))
    with whole_file(folder / FILE) as temporary:
        np.savez_compressed(temporary, **arrays)


def read(run: str | Path) -> tuple[np.ndarray, ByRole]:
    """Read the test labels of a finished run, and the predictions of its models.

    Args:
        run: the run folder.

    Returns:
        The labels, shape `(n,)`; and by role and seed the numbers of the predicted classes, shape
        `(n,)`, or, if the task is not evaluated by accuracy, logits, float32 of shape
        `(n, classes)`. `paired.difference` takes either.

    Raises:
        FileNotFoundError: no run is there, or one from before predictions were stored.
        ValueError: the file is damaged.
    """
    stored = _arrays(run)
    models = _models(run, stored)
    try:
        rows = [stored[str(number)] for number in range(len(models))]
        return stored["labels"], _by_role(models, rows)
    except KeyError as error:
        raise _damaged(Path(run) / FILE, error) from error


def read_scores(run: str | Path) -> Scores | None:
    """Read the probabilities of class 1; None if the run has none.

    It has none if the task has more classes, or if the run is older than this file's scores, or
    than the file itself.

    Args:
        run: the run folder.

    Raises:
        ValueError: the file is damaged.
    """
    if not (Path(run) / FILE).exists():
        return None
    stored = _arrays(run)
    if "scores" not in stored:
        return None
    models = _models(run, stored)
    test = _by_role(models, stored["scores"])
    if "validation_scores" not in stored:
        return Scores(stored["labels"], test)
    validation = _by_role(models, stored["validation_scores"])
    return Scores(stored["labels"], test, stored["validation_labels"], validation)


def _stacked(by_role: ByRole, keys: Sequence[Key]) -> np.ndarray:
    return np.stack([by_role[role][seed] for role, seed in keys])


def _by_role(models: Sequence[Key], rows: Any) -> ByRole:
    found: ByRole = {}
    for (role, seed), own in zip(models, rows, strict=True):
        found.setdefault(role, {})[seed] = own
    return found


def _models(run: str | Path, stored: Mapping[str, np.ndarray]) -> list[Key]:
    try:
        return [(role, seed) for role, seed in json.loads(str(stored["models"]))]
    except (KeyError, ValueError, TypeError) as error:
        raise _damaged(Path(run) / FILE, error) from error


def _arrays(run: str | Path) -> dict[str, np.ndarray]:
    path = Path(run) / FILE
    if not path.exists():
        raise FileNotFoundError(
            f"{path} does not exist: the run is not finished, or it was made before predictions "
            "were stored."
        )
    try:
        with path.open("rb") as file, np.load(file) as stored:
            return dict(stored)
    except Exception as error:  # zip and numpy each raise their own for a damaged file
        raise _damaged(path, error) from error


def _damaged(path: Path, error: Exception) -> ValueError:
    return ValueError(f"{path} is damaged: {error}. Run with --overwrite.")
