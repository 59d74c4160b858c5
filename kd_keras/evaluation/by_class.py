"""Precision, recall, F1 and support of each class, from confusion matrices."""

from collections.abc import Sequence
from typing import Any

import numpy as np


def of(confusions: Sequence[Any]) -> list[dict[str, Any]]:
    """Return the quality of each class, the mean over the trainings of one model.

    Args:
        confusions: one matrix of counts per seed, shape `(classes, classes)`: a row per true class,
            a column per predicted class, as `quality.evaluate` gives it.

    Returns:
        One entry per class: `precision`, the share of the images it is predicted for that are of
        it; `recall`, the share of its images it is predicted for; `f1`, their harmonic mean;
        `support`, the number of its images. A mean is over the seeds in which it is defined, and
        None if there is none: no precision without predictions, no recall without images.

    Example:
        >>> cat, dog = of([[[8, 2], [1, 9]]])
        >>> round(cat["precision"], 3), cat["recall"], dog["support"]
        (0.889, 0.8, 10)
    """
    counts = np.asarray(confusions, np.float64)
    hits = np.diagonal(counts, axis1=1, axis2=2)
    support, predicted = counts.sum(axis=2), counts.sum(axis=1)
    columns = {
        "precision": _means(hits, predicted),
        "recall": _means(hits, support),
        "f1": _means(2 * hits, support + predicted),
    }
    return [
        {**{name: values[k] for name, values in columns.items()}, "support": int(support[0, k])}
        for k in range(counts.shape[1])
    ]


def _means(hits: np.ndarray, among: np.ndarray) -> list[float | None]:
    """Return the mean over the rows (seeds) of the ratios that are defined, by column."""
    return [
        float(np.mean(own[total > 0] / total[total > 0])) if (total > 0).any() else None
        for own, total in zip(hits.T, among.T, strict=True)
    ]
