"""Read the models of runs on two classes: areas, thresholds, and their intervals."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from kd_keras.evaluation.metrics import METRICS
from kd_keras.evaluation.predictions import Predictions
from kd_keras.evaluation.resampling import Counted, same_draws
from kd_keras.recipes import results
from kd_keras.recipes.results import ModelEntry, Results, Spread, Verdict
from kd_keras.recipes.stored_predictions import Scores
from kd_keras.studies import reading

RESAMPLES = 1000


@dataclasses.dataclass(frozen=True)
class Model:
    """A model of a finished run.

    Attributes:
        title: its name in tables.
        run: the run folder, which holds its predictions.
        role: its name in the run.
        entry: its part of the results.
    """

    title: str
    run: Path
    role: str
    entry: ModelEntry

    def renamed(self, title: str) -> "Model":
        """Return the model under another name."""
        return dataclasses.replace(self, title=title)

    def mean(self, metric: str) -> Spread:
        """Return mean and standard deviation of a metric on test."""
        return self.entry["summary"][metric]

    def cell(self, metric: str) -> str:
        """Return mean and standard deviation of a metric on test, as text."""
        return reading.spread(self.mean(metric))

    @property
    def kept(self) -> reading.Role:
        """Its stored predictions."""
        return reading.Role(self.run, self.role)

    def logits(self) -> tuple[np.ndarray, dict[int, np.ndarray]]:
        """Return the test labels, and by seed the logits, shape `(n, 2)`."""
        return self.kept.predictions()


def alone(found: Results, run: Path) -> Model:
    """Return the student of a comparison that was trained alone."""
    (row,) = found["sweep"]["alone"]
    return Model("student alone", run, row["label"], found["models"][row["label"]])


def taught(found: Results, run: Path, row: Mapping[str, Any]) -> Model:
    """Return the student of a row of a comparison."""
    return Model("student distilled", run, row["label"], found["models"][row["label"]])


def teacher(found: Results, run: Path) -> Model:
    """Return the teacher of a comparison."""
    return Model("teacher", run, "teacher", found["models"]["teacher"])


def interval(model: Model, metric: str) -> tuple[float, float]:
    """Return a bootstrap interval, 95 %, of the mean over the seeds, over the test images.

    Every resample draws images, the same for all seeds. The spread over seeds is left out.

    Args:
        model: with its predictions.
        metric: a name in `METRICS`, of a metric that needs no teacher.
    """
    labels, by_seed = model.logits()
    each = [Predictions.of(logits, labels) for logits in by_seed.values()]
    values = np.concatenate(
        [
            np.mean([METRICS[metric].over_resamples(Counted(one, drawn)) for one in each], axis=0)
            for drawn in same_draws(0, len(labels), RESAMPLES)
        ]
    )
    low, high = np.quantile(values[np.isfinite(values)], [0.025, 0.975])
    return float(low), float(high)


def difference(
    metric: str, ours: Model, theirs: Model, names: results.Names = reading.DEFAULT
) -> Verdict:
    """Return how much better one student is than another on the same test images.

    Args:
        metric: a name in `METRICS`; larger is better.
        ours, theirs: trained with the same seeds, in one run or in two.
        names: what the verdict calls that which was tried, and its rival.

    Raises:
        ValueError: for other seeds or other test images.
    """
    return reading.difference(ours.kept, theirs.kept, names, metric)


def scores(models: Mapping[str, Model]) -> Scores:
    """Return the probabilities of class 1 on test, by the given names, as plots take them."""
    found: dict[str, Any] = {}
    for name, model in models.items():
        labels, by_seed = model.logits()
        found[name] = {s: Predictions.of(x, labels).probabilities[:, 1] for s, x in by_seed.items()}
    return Scores(labels, found)


# --- at a threshold ---


def at_half(model: Model) -> dict[str, Spread]:
    """Return sensitivity and specificity where the more probable class is predicted.

    Example:
        >>> entry = {"seeds": [{"test": {"confusion": [[8, 2], [1, 3]]}}]}
        >>> found = at_half(Model("", Path(), "", entry))
        >>> found["sensitivity"]["mean"], found["specificity"]["mean"]
        (0.75, 0.8)
    """
    counts = [np.array(seed["test"]["confusion"], float) for seed in model.entry["seeds"]]
    return {
        "sensitivity": results.spread([c[1, 1] / c[1].sum() for c in counts]),
        "specificity": results.spread([c[0, 0] / c[0].sum() for c in counts]),
    }


def at_threshold(model: Model, name: str) -> str:
    """Return sensitivity or specificity at the chosen threshold, with its interval, as text.

    Args:
        model: validation chose its threshold.
        name: `"sensitivity"` or `"specificity"`.
    """
    found = model.entry["operating"][name]
    low, high = found["interval"]
    return f"{reading.spread(found, digits=3)} ({low:.3f} to {high:.3f})"


def f1_at_threshold(model: Model) -> Spread:
    """Return F1 at the threshold that validation chose, mean and spread over the seeds.

    Example:
        >>> point = {"true_positives": 3, "false_positives": 2, "false_negatives": 1}
        >>> entry = {"operating": {"seeds": [point]}}
        >>> round(f1_at_threshold(Model("", Path(), "", entry))["mean"], 4)
        0.6667
    """
    values = []
    for point in model.entry["operating"]["seeds"]:
        hits = point["true_positives"]
        wrong = point["false_positives"] + point["false_negatives"]
        values.append(2 * hits / (2 * hits + wrong))
    return results.spread(values)
