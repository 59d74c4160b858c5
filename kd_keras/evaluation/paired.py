"""Intervals for the difference of two models: a paired bootstrap over test images and seeds."""

import math
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from kd_keras.evaluation.metrics import METRICS, Metric
from kd_keras.evaluation.predictions import PredictedClasses, Predictions
from kd_keras.evaluation.resampling import Counted, draws
from kd_keras.utils.checks import lookup, positive, within

SHARE = 5  # times the budget of one model's interval, since it is drawn once per comparison


def difference(
    metric: str,
    ours: Sequence[Any],
    theirs: Sequence[Any],
    labels: Any,
    *,
    resamples: int = 2000,
    seed: int = 0,
    confidence: float = 0.95,
) -> dict[str, Any]:
    """Return the difference of two models in a metric, ours minus theirs, and a bootstrap interval.

    Each resample draws test images, the same for all models, and seeds, each with both its models.
    Its value is the mean over the drawn seeds of the differences on the drawn images; the interval
    lies between percentiles of these values. Resamples of n seeds vary less than the seeds that
    they stand for, by the factor `sqrt((n - 1) / n)`, which is large for three seeds. So the part
    that the drawing of seeds adds is divided by it. With one seed, images alone are drawn, and the
    interval leaves out the spread over seeds.

    Args:
        metric: a name in `METRICS`, of a metric that needs no teacher.
        ours, theirs: one entry per seed, the same seeds in the same order. An entry is an array
            of logits, shape `(n, classes)`; or, for a metric `by_class` such as accuracy, of the
            predicted classes, integers of shape `(n,)`.
        labels: shape `(n,)`, integers in `[0, classes)`.
        resamples: the number of resamples. A costly metric, such as AUC on large data, takes
            fewer, at least 100.
        seed: the seed of the drawing.
        confidence: mass of the interval, between 0 and 1.

    Returns:
        `metric`; `difference`: the mean over the seeds; `by_seed`: a list; `interval`: `[low,
        high]`, None if no resample defines the metric; `confidence`; `resamples`: the number that
        defined it.

    Raises:
        ValueError: for an unknown metric, no seeds, different numbers of seeds, wrong shapes or
            labels, a metric that needs logits if classes are given, or a metric that the labels
            leave undefined.

    Source: Efron and Tibshirani, *An Introduction to the Bootstrap* (1993), chapter 13, for
    percentile intervals; Owen, *The pigeonhole bootstrap* (2007), for tables whose rows and
    columns, here seeds and images, are both drawn; Hesterberg, *What Teachers Should Know About
    the Bootstrap* (2015), for the factor. `docs/results/coverage.py` measures the coverage.

    Example:
        >>> labels = np.arange(200) % 2
        >>> wrong = np.arange(200) < 30
        >>> found = difference("accuracy", [labels], [labels ^ wrong], labels)
        >>> round(found["difference"], 2), found["interval"][0] > 0
        (0.15, True)
    """
    known = {name: each for name, each in METRICS.items() if not each.of_teacher}
    measured = lookup("metric", known, metric)
    within("confidence", confidence, 0.0, 1.0)
    positive("resamples", resamples)
    if not ours or len(ours) != len(theirs):
        raise ValueError(
            "`ours` and `theirs` must have one entry per seed, for the same seeds. Received: "
            f"{len(ours)} and {len(theirs)} entries"
        )
    pairs = [
        (
            _predictions(measured, "ours", one, labels),
            _predictions(measured, "theirs", other, labels),
        )
        for one, other in zip(ours, theirs, strict=True)
    ]
    by_seed = _differences(measured, pairs, [np.ones((len(labels), 1))])[:, 0]
    if np.isnan(by_seed).any():
        raise ValueError(f"`{metric}` is undefined for these `labels`: they lack a class.")
    rng, n = np.random.default_rng(seed), len(labels)
    count = _affordable(measured, pairs, resamples)
    drawn = _differences(measured, pairs, draws(rng, n, count))
    values = (_seed_weights(rng, len(pairs), count) * drawn).sum(axis=0)
    values = values[np.isfinite(values)]
    tail = (1.0 - confidence) / 2
    interval = np.quantile(values, [tail, 1.0 - tail]).tolist() if len(values) else None
    return {
        "metric": metric,
        "difference": float(by_seed.mean()),
        "by_seed": by_seed.tolist(),
        "interval": interval,
        "confidence": confidence,
        "resamples": len(values),
    }


def compact(metric: str, logits: np.ndarray) -> np.ndarray:
    """Return the part of a model's logits that `difference` needs: all, or the predicted classes.

    Example:
        >>> compact("accuracy", np.array([[0.5, 2.0], [1.0, 0.0]]))
        array([1, 0], dtype=uint8)
    """
    if not METRICS[metric].by_class:
        return np.asarray(logits, np.float32)
    return logits.argmax(axis=1).astype(np.min_scalar_type(logits.shape[1] - 1))


def _predictions(metric: Metric, name: str, given: Any, labels: Any) -> Any:
    if np.ndim(given) != 1:
        return Predictions.of(given, labels)
    if metric.by_class:
        return PredictedClasses.of(name, given, labels)
    raise ValueError(
        f"`{name}` must hold logits of shape (examples, classes) for {metric.name!r}: it cannot "
        "be computed from predicted classes."
    )


def _differences(
    metric: Metric, pairs: Sequence[tuple], counts: Iterable[np.ndarray]
) -> np.ndarray:
    """Return the differences, one row per pair, one column per resample."""
    parts = []
    for drawn in counts:
        values = [[metric.over_resamples(Counted(one, drawn)) for one in pair] for pair in pairs]
        parts.append(np.array([ours - theirs for ours, theirs in values]))
    return np.concatenate(parts, axis=1)


def _affordable(metric: Metric, pairs: Sequence[tuple], resamples: int) -> int:
    predictions = pairs[0][0]
    if isinstance(predictions, PredictedClasses):
        return resamples
    return metric.affordable(predictions, resamples, models=2 * len(pairs) / SHARE)


def _seed_weights(rng: np.random.Generator, seeds: int, resamples: int) -> np.ndarray:
    """Return weights of the seeds in each resample, shape `(seeds, resamples)`, that sum to one."""
    if seeds == 1:
        return np.ones((1, resamples))
    drawn = rng.multinomial(seeds, np.full(seeds, 1 / seeds), size=resamples).T / seeds
    return 1 / seeds + math.sqrt(seeds / (seeds - 1)) * (drawn - 1 / seeds)
