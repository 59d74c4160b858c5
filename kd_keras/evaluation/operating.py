"""Two classes at a threshold: curves, the threshold chosen on validation, and what it finds."""

import dataclasses
import math
from typing import Any

import numpy as np

NORMAL = 1.959963984540054  # the 97.5 % quantile of the standard normal distribution
CHOSEN_BY = "maximal Youden's J on validation"


@dataclasses.dataclass(frozen=True)
class Steps:
    """Counts of positives as the threshold falls from above all scores to the lowest of them.

    Attributes:
        thresholds: shape `(k,)`, falling; the first is infinite, and nothing is positive at it.
        hits: positives at or above each threshold, float64, shape `(k,)`.
        false_alarms: negatives at or above each threshold, float64, shape `(k,)`.
    """

    thresholds: np.ndarray
    hits: np.ndarray
    false_alarms: np.ndarray

    @classmethod
    def of(cls, positive: Any, scores: Any) -> "Steps":
        """Sort the scores and count.

        Args:
            positive: bool, shape `(n,)`, of both kinds.
            scores: shape `(n,)`, finite; higher for positives.

        Raises:
            ValueError: for other shapes, or if all examples are of one kind.
        """
        positive, scores = np.asarray(positive, bool), np.asarray(scores, np.float64)
        if positive.shape != scores.shape or positive.ndim != 1:
            raise ValueError(
                "`positive` and `scores` must have the shape (examples,). Received: shapes "
                f"{positive.shape} and {scores.shape}"
            )
        if positive.all() or not positive.any():
            raise ValueError(
                "`positive` must hold both True and False: there is no threshold between examples "
                f"of one kind. Received: {int(positive.sum())} of {len(positive)} are True"
            )
        order = scores.argsort(kind="stable")[::-1]
        ends = np.append(np.flatnonzero(np.diff(scores[order])), len(order) - 1)
        hits = positive[order].cumsum(dtype=np.float64)[ends]
        return cls(
            np.append(np.inf, scores[order][ends]),
            np.append(0.0, hits),
            np.append(0.0, 1.0 + ends - hits),
        )

    @property
    def sensitivity(self) -> np.ndarray:
        """The share of positives that are found: recall, the height of a ROC curve."""
        return self.hits / self.hits[-1]

    @property
    def false_alarm_rate(self) -> np.ndarray:
        """The share of negatives that are taken for positives: 1 - specificity."""
        return self.false_alarms / self.false_alarms[-1]

    @property
    def precision(self) -> np.ndarray:
        """The share of positives among what is found; 1 where nothing is."""
        found = self.hits + self.false_alarms
        return np.divide(self.hits, found, out=np.ones_like(found), where=found > 0)


def youden(positive: Any, scores: Any) -> float:
    """Return the threshold of maximal J = sensitivity + specificity - 1; of equal ones the highest.

    It lies halfway between the lowest score that is taken for positive and the next one below, so
    that rounding moves no example. A score at or above it is positive.

    Args:
        positive: bool, shape `(n,)`, of both kinds.
        scores: shape `(n,)`, finite; higher for positives.

    Raises:
        ValueError: for other shapes, or if all examples are of one kind.

    Source: Youden, *Index for rating diagnostic tests* (1950), J.

    Example:
        >>> youden([False, False, True, True], [0.1, 0.4, 0.6, 0.9])
        0.5
    """
    steps = Steps.of(positive, scores)
    # without the first: a threshold above all scores finds nothing
    best = 1 + int(np.argmax((steps.sensitivity - steps.false_alarm_rate)[1:]))
    below = steps.thresholds[min(best + 1, len(steps.thresholds) - 1)]
    return float((steps.thresholds[best] + below) / 2)


def at(threshold: float, positive: Any, scores: Any) -> dict[str, Any]:
    """Return what a threshold finds.

    Args:
        threshold: a score at or above it is positive.
        positive: bool, shape `(n,)`.
        scores: shape `(n,)`.

    Returns:
        `threshold`; `sensitivity`, the share of positives that are found, and `specificity`, the
        share of negatives that are not taken for positives, each None without such examples; and
        the counts `true_positives`, `false_negatives`, `true_negatives`, `false_positives`.

    Example:
        >>> found = at(0.5, [True, True, False, False], [0.9, 0.4, 0.2, 0.1])
        >>> found["sensitivity"], found["specificity"], found["false_negatives"]
        (0.5, 1.0, 1)
    """
    positive, taken = np.asarray(positive, bool), np.asarray(scores) >= threshold
    hits, missed = int((taken & positive).sum()), int((~taken & positive).sum())
    right, alarms = int((~taken & ~positive).sum()), int((taken & ~positive).sum())
    return {
        "threshold": float(threshold),
        "sensitivity": hits / (hits + missed) if hits + missed else None,
        "specificity": right / (right + alarms) if right + alarms else None,
        "true_positives": hits,
        "false_negatives": missed,
        "true_negatives": right,
        "false_positives": alarms,
    }


def wilson(share: float, count: int) -> tuple[float, float]:
    """Return the 95 % interval of a share that was observed in `count` independent examples.

    `(p + z^2/2n +- z sqrt(p(1 - p)/n + z^2/4n^2)) / (1 + z^2/n)`, with z = 1.96. Unlike `p +-
    z sqrt(p(1 - p)/n)` it stays within 0 and 1, and is no point where the share is 0 or 1.

    Args:
        share: from 0 to 1.
        count: one or more.

    Source: Wilson, *Probable inference, the law of succession, and statistical inference* (1927).

    Example:
        >>> low, high = wilson(0.9, 50)
        >>> round(low, 3), round(high, 3)
        (0.786, 0.957)
    """
    if not 0.0 <= share <= 1.0 or count < 1:
        raise ValueError(
            "`share` must lie from 0 to 1, and `count` must be 1 or more. Received: "
            f"share={share!r}, count={count!r}"
        )
    widening = NORMAL**2 / count
    centre = (share + widening / 2) / (1 + widening)
    half = math.sqrt(share * (1 - share) * widening + widening**2 / 4) / (1 + widening)
    return max(0.0, centre - half), min(1.0, centre + half)


def over_seeds(points: list[dict[str, Any]]) -> dict[str, Any]:
    """Return means and intervals of the trainings of one model on the same examples.

    Args:
        points: one per seed, each as `at` returns it.

    Returns:
        `sensitivity` and `specificity`, each `{"mean", "std", "n", "interval", "images"}`: over the
        n seeds, and Wilson's interval of the mean for that many images of the class. All seeds see
        the same images, so more seeds do not narrow it; the spread over seeds is `std`, None for
        one seed. An entry is None if there are no such images.

    Example:
        >>> labels, scores = [True, True, False, False], [0.9, 0.4, 0.2, 0.1]
        >>> found = over_seeds([at(0.5, labels, scores), at(0.3, labels, scores)])
        >>> found["sensitivity"]["mean"], found["sensitivity"]["images"]
        (0.75, 2)
    """
    own, found = points[0], dict[str, Any]()
    for name, images in (
        ("sensitivity", own["true_positives"] + own["false_negatives"]),
        ("specificity", own["true_negatives"] + own["false_positives"]),
    ):
        values = [point[name] for point in points]
        if not images:
            found[name] = None
            continue
        mean = float(np.mean(values))
        found[name] = {
            "mean": mean,
            "std": float(np.std(values, ddof=1)) if len(values) > 1 else None,
            "n": len(values),
            "interval": list(wilson(min(mean, 1.0), images)),
            "images": images,
        }
    return found
