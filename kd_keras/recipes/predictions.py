"""Predictions of a run's models: computed on a split, stored beside the results, and compared."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from kd_keras import cache
from kd_keras.data import pipeline
from kd_keras.data.task import Split, Task
from kd_keras.evaluation import paired
from kd_keras.training import features
from kd_keras.utils import interrupts
from kd_keras.utils.files import whole_file

FILE = "predictions.npz"


class Predictor:
    """Runs a model over splits, in inference mode, traced once.

    Example:
        >>> import kd_keras as kd
        >>> from kd_keras.recipes.predictions import Predictor
        >>> task = kd.data.load("digits")
        >>> model = kd.models.build("lenet5", input_shape=task.image_shape, classes=task.classes)
        >>> Predictor(model)(task.test).shape
        (360, 10)
    """

    def __init__(self, model, batch_size: int = 512):
        self._model, self._batch_size = model, batch_size
        self._function = tf.function(
            lambda images: tf.cast(model(images, training=False), tf.float32)
        )

    def __call__(self, split: Split) -> np.ndarray:
        """Return the logits, float32 of shape `(len(split), classes)`."""
        size = min(self._batch_size, max(1, (64 << 20) // (4 * int(np.prod(split.image_shape)))))
        graph = self._function.get_concrete_function(
            tf.TensorSpec((None, *split.image_shape), tf.uint8)
        )
        interrupts.check()
        if split.images is not None:
            starts = range(0, len(split), size)
            parts = [graph(tf.constant(split.images[at : at + size])) for at in starts]
        else:
            parts = [graph(batch) for batch in pipeline.in_order(split, batch_size=size)]
        return np.concatenate(parts)

    def repeatedly(self, split: Split, fingerprint: str) -> np.ndarray:
        """Return the logits as a call does, but run a frozen part once for repeated calls.

        Args:
            split: the images.
            fingerprint: the fingerprint of the split's content.
        """
        frozen = features.cut(self._model)
        if frozen is None:
            return self(split)
        if not cache.fits(frozen.source, len(split)):
            return self(split)
        images = cache.SplitViews(split, fingerprint=fingerprint)
        (rows,) = cache.Cache().open(frozen.source, images).arrays().values()
        return np.asarray(tf.cast(frozen.head(rows, training=False), tf.float32))


class Predictions:
    """The test predictions of models, by role and seed, as small as the task's metric allows.

    Args:
        task: the task whose test split is predicted.

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
        """Store a model's predictions.

        Args:
            role: names the model in the results.
            seed: the seed of its training.
            logits: shape `(images, classes)`.
        """
        self._kept.setdefault(role, {})[seed] = paired.compact(self._metric, logits)

    def difference(self, ours: str, theirs: str) -> dict[str, Any]:
        """Return how much better one role is than another, over the seeds of the first.

        See `paired.difference`.
        """
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
    path = Path(run) / FILE
    if not path.exists():
        raise FileNotFoundError(
            f"{path} does not exist: the run is not finished, or it was made before predictions "
            "were stored."
        )
    try:
        with path.open("rb") as file, np.load(file) as stored:
            found: dict[str, dict[int, np.ndarray]] = {}
            for number, (role, seed) in enumerate(json.loads(str(stored["models"]))):
                found.setdefault(role, {})[seed] = stored[str(number)]
            return stored["labels"], found
    except Exception as error:  # zip, numpy and JSON each raise their own for a damaged file
        raise ValueError(f"{path} is damaged: {error}. Run with --overwrite.") from error
