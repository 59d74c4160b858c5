"""Predictions of a run's models: computed on a split, stored beside the results, and compared."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from kd_keras import cache
from kd_keras.data import pipeline
from kd_keras.data.task import Split, Task
from kd_keras.evaluation import operating, paired
from kd_keras.evaluation.predictions import probabilities
from kd_keras.recipes import stored_predictions
from kd_keras.recipes.stored_predictions import FILE, ByRole, Key, Scores, read
from kd_keras.training import features
from kd_keras.utils import interrupts

__all__ = ["FILE", "Predictions", "Predictor", "read"]


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

    Of each role it also keeps the mean probabilities over its seeds, and of two classes every
    model's probability of class 1, on validation too.

    Args:
        task: the task whose test split is predicted.

    Attributes:
        task: the same.

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
        self.task = task
        self._kept: dict[Key, np.ndarray] = {}
        self._sums: dict[str, np.ndarray] = {}  # of probabilities, over the seeds of a role
        self._scores: ByRole = {}
        self._on_validation: ByRole = {}

    def keep(
        self,
        role: str,
        seed: int,
        logits: np.ndarray,
        on_validation: Callable[[], np.ndarray] | None = None,
    ) -> None:
        """Store a model's predictions.

        Args:
            role: names the model in the results.
            seed: the seed of its training.
            logits: on the test split, shape `(images, classes)`.
            on_validation: returns its logits on the validation split. It is called if a threshold
                can be chosen on them: for two classes that both occur there.
        """
        self._kept[role, seed] = paired.compact(self.task.metric, logits)
        shares = probabilities(logits)
        self._sums[role] = self._sums.get(role, 0.0) + shares.astype(np.float32)
        if shares.shape[1] == 2:
            self._scores.setdefault(role, {})[seed] = shares[:, 1]
        if on_validation is not None and self._chooses:
            scores = probabilities(on_validation())[:, 1]
            self._on_validation.setdefault(role, {})[seed] = scores

    @property
    def roles(self) -> list[str]:
        """The roles, in the order in which they were first kept."""
        return list(self._sums)

    def means(self, role: str) -> np.ndarray:
        """Return a role's probabilities, the mean over its seeds, shape `(images, classes)`."""
        return self._sums[role] / len(self._of(role))

    def difference(self, ours: str, theirs: str) -> dict[str, Any]:
        """Return how much better one role is than another, over the seeds of the second.

        A teacher that was trained once stands beside every seed of a student.

        See `paired.difference`.
        """
        tried, rival = self._of(ours), self._of(theirs)
        if len(tried) == 1:
            (only,) = tried.values()
            tried = dict.fromkeys(rival, only)
        labels = self.task.test.labels
        each = [tried[seed] for seed in rival]
        return paired.difference(self.task.metric, each, list(rival.values()), labels)

    def operating(self, role: str) -> dict[str, Any] | None:
        """Return what a role finds at the threshold that each seed chooses on validation.

        Returns:
            `positive`: the name of class 1; `chosen_by`; `seeds`: one entry per seed, as
            `operating.at` gives it, with its `seed`; and the means over the seeds, as
            `operating.over_seeds` gives them. None if no threshold could be chosen: there are more
            than two classes, or validation lacks one of them, or there is no validation.
        """
        chosen = self._on_validation.get(role)
        if not chosen:
            return None
        validated, tested = (s.labels == 1 for s in (self.task.validation, self.task.test))
        points = {
            seed: operating.at(
                operating.youden(validated, scores), tested, self._scores[role][seed]
            )
            for seed, scores in chosen.items()
        }
        return {
            "positive": str(self.task.class_names[1]),
            "chosen_by": operating.CHOSEN_BY,
            "seeds": [{"seed": seed, **point} for seed, point in points.items()],
            **operating.over_seeds(list(points.values())),
        }

    def write(self, folder: Path) -> None:
        """Write `predictions.npz`, whole or not at all."""
        stored_predictions.write(folder, self.task.test.labels, self._kept, self._all_scores())

    def _all_scores(self) -> Scores | None:
        if not self._scores:
            return None
        known = sum(map(len, self._on_validation.values())) == len(self._kept)
        labels = self.task.validation.labels if known else None
        on_validation = self._on_validation if known else {}
        return Scores(self.task.test.labels, self._scores, labels, on_validation)

    def _of(self, role: str) -> dict[int, np.ndarray]:
        """Return what was kept of a role, by seed."""
        return {seed: rows for (own, seed), rows in self._kept.items() if own == role}

    @property
    def _chooses(self) -> bool:
        split = self.task.validation
        return self.task.classes == 2 and {0, 1} <= set(np.unique(split.labels).tolist())
