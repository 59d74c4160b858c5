"""What every model of a run answered to the test images: kept beside its results, and compared."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from kd_keras.data.task import Task
from kd_keras.evaluation import paired
from kd_keras.utils.files import whole_file

FILE = "predictions.npz"


class Predictions:
    """The test predictions of models, by role and seed, as small as the task's metric allows.

    Args:
        task: on whose test split they are made.

    Example:
        >>> import kd_keras as kd
        >>> task = kd.data.load("digits")
        >>> kept = Predictions(task)
        >>> for role in ("alone", "distilled"):
        ...     kept.keep(role, 0, np.eye(10)[task.test.labels])
        >>> kept.difference("distilled", "alone")["interval"]
        [0.0, 0.0]
    """

    def __init__(self, task: Task):
        self._metric, self._labels = task.metric, task.test.labels
        self._kept: dict[str, dict[int, np.ndarray]] = {}

    def keep(self, role: str, seed: int, logits: np.ndarray) -> None:
        """Keep what a model answered.

        Args:
            role: names the model in the results.
            seed: of its training.
            logits: shape `(images, classes)`.
        """
        self._kept.setdefault(role, {})[seed] = paired.compact(self._metric, logits)

    def difference(self, ours: str, theirs: str) -> dict[str, Any]:
        """How much better one role is than another, over the seeds of the first; see
        `paired.difference`."""
        seeds = list(self._kept[ours])
        tried, rival = ([self._kept[role][seed] for seed in seeds] for role in (ours, theirs))
        return paired.difference(self._metric, tried, rival, self._labels)

    def write(self, folder: Path) -> None:
        """Write `predictions.npz`, whole or not at all."""
        found = list(self._each())
        names = json.dumps([[role, seed] for role, seed, _ in found])
        arrays: dict[str, Any] = {str(number): rows for number, (*_, rows) in enumerate(found)}
        arrays |= {"labels": self._labels, "models": np.array(names)}
        with whole_file(folder / FILE) as temporary:
            np.savez_compressed(temporary, **arrays)

    def _each(self) -> Iterator[tuple[str, int, np.ndarray]]:
        for role, by_seed in self._kept.items():
            for seed, rows in by_seed.items():
                yield role, seed, rows


def read(run: str | Path) -> tuple[np.ndarray, dict[str, dict[int, np.ndarray]]]:
    """The test labels of a finished run, and what its models answered.

    Args:
        run: the run folder.

    Returns:
        Labels, shape `(n,)`; and by role and seed the numbers of the chosen classes, shape `(n,)`,
        or, where the task is not judged by accuracy, logits, float32 of shape `(n, classes)`.
        Both are what `paired.difference` takes.

    Raises:
        FileNotFoundError: no run is there, or one from before predictions were kept.
        ValueError: the file is damaged.
    """
    path = Path(run) / FILE
    if not path.exists():
        raise FileNotFoundError(
            f"{path} is not there: the run is not finished, or it is from before predictions were "
            "kept."
        )
    try:
        with path.open("rb") as file, np.load(file) as stored:
            found: dict[str, dict[int, np.ndarray]] = {}
            for number, (role, seed) in enumerate(json.loads(str(stored["models"]))):
                found.setdefault(role, {})[seed] = stored[str(number)]
            return stored["labels"], found
    except Exception as error:  # zip, numpy and JSON have an error each for a damaged file
        raise ValueError(f"{path} is damaged: {error}. Run with --overwrite.") from error
