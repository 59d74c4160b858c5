"""Read the results of a study's runs into the cells of tables."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from kd_keras.evaluation import paired
from kd_keras.recipes import stored_predictions
from kd_keras.recipes.results import ModelEntry, Names, Results, Spread, Verdict, verdict
from kd_keras.report import drawings
from kd_keras.report.tables import count

DEFAULT = Names()


def spread(found: Spread, digits: int = 4, factor: float = 1.0) -> str:
    """Return mean and standard deviation as a cell.

    Example:
        >>> spread({"mean": 0.98, "std": 0.001, "n": 3}), spread({"mean": 0.5, "std": None, "n": 1})
        ('0.9800 ± 0.0010', '0.5000')
    """
    mean = f"{found['mean'] * factor:.{digits}f}"
    return mean if found["std"] is None else f"{mean} ± {found['std'] * factor:.{digits}f}"


def errors(model: ModelEntry, test: int) -> str:
    """Return the errors on the test images, mean and standard deviation."""
    accuracy = model["summary"]["accuracy"]
    wrong: Spread = {**accuracy, "mean": 1 - accuracy["mean"]}
    return spread(wrong, digits=1, factor=test)


def gain(verdict: Mapping[str, Any]) -> str:
    """Return a difference with its interval; a star marks one above zero.

    Example:
        >>> gain({"gain": 0.01, "interval": [0.002, 0.018], "beats": True})
        '+0.0100 (+0.0020 to +0.0180) *'
    """
    low, high = verdict["interval"]
    star = " *" if verdict["beats"] else ""
    return f"{verdict['gain']:+.4f} ({low:+.4f} to {high:+.4f}){star}"


def costs(model: ModelEntry) -> dict[str, str]:
    """Return the cost of a model: parameters, FLOPs, latency in milliseconds, bytes of weights.

    A question mark stands at a latency of which the run says that it is unsure.
    """
    cost = model["cost"]
    latency = cost["latency_ms"].get("1")
    unsure = " ?" if cost.get("latency_unsure") else ""
    return {
        "parameters": count(cost["parameters"]),
        "FLOPs, one image": count(cost["flops"]) if cost["flops"] else "-",
        "latency, one image (ms)": f"{latency['median_ms']:.3g}{unsure}" if latency else "-",
        "weights (bytes)": count(cost["weight_bytes"]),
    }


def settings(results: Results, **wanted: Any) -> list[dict[str, Any]]:
    """Return the settings of a sweep or comparison with the given values."""
    rows = results["sweep"]["settings"]
    return [row for row in rows if all(row[key] == value for key, value in wanted.items())]


def best(rows: Iterable[dict[str, Any]]) -> dict[str, Any]:
    """Return the setting that is best on validation."""
    return max(rows, key=lambda row: row["validation"]["mean"])


def level(model: ModelEntry) -> dict[str, Any]:
    """Return mean and standard deviation of a model's accuracy, as a horizontal line has them."""
    accuracy = model["summary"]["accuracy"]
    return {"mean": accuracy["mean"], "std": accuracy["std"]}


def conclusions(results: Results) -> list[str]:
    """Return what a run concludes, in a sentence; none for a run without a verdict."""
    verdict = results["verdict"]
    return [] if verdict is None else [verdict["text"]]


def alone(results: Results, student: str) -> ModelEntry:
    """Return the entry of a student that was trained alone."""
    rows = results["sweep"]["alone"]
    label = next(row["label"] for row in rows if row["student"] == student)
    return results["models"][label]


class Role(NamedTuple):
    """A model of a finished run, which has stored its predictions: the run folder, and its role."""

    run: Path
    name: str

    def predictions(self) -> tuple[np.ndarray, dict[int, np.ndarray]]:
        """Return the test labels, and the predictions by seed, as `stored_predictions.read` does.

        Raises:
            FileNotFoundError, ValueError: as `stored_predictions.read`.
        """
        labels, by_role = stored_predictions.read(self.run)
        return labels, by_role[self.name]


def difference(
    ours: Role, theirs: Role, names: Names = DEFAULT, metric: str = "accuracy"
) -> Verdict:
    """Return how much better one model is than another on the same test images.

    Args:
        ours, theirs: trained with the same seeds, in one run or in two.
        names: what the verdict calls that which was tried, and its rival.
        metric: a name in `METRICS`; larger is better.

    Raises:
        FileNotFoundError, ValueError: as `stored_predictions.read`; for other seeds or other test
            images.
    """
    (labels, tried), (others, rivals) = ours.predictions(), theirs.predictions()
    if not np.array_equal(labels, others) or set(tried) != set(rivals):
        raise ValueError(
            f"{ours.run} and {theirs.run} must have the same test images and seeds to be compared."
        )
    paired_by_seed = [tried[seed] for seed in rivals]
    found = paired.difference(metric, paired_by_seed, list(rivals.values()), labels)
    return verdict(found, names)


def marks(label: str, verdicts: Sequence[Verdict]) -> drawings.Marks:
    """Return differences with their intervals as a series of a plot, one per row."""
    ends = [verdict["interval"] or [verdict["gain"]] * 2 for verdict in verdicts]
    return drawings.Marks(
        label,
        [verdict["gain"] for verdict in verdicts],
        [low for low, _ in ends],
        [high for _, high in ends],
    )
