"""Two classes: ROC and precision-recall curves, and the thresholds that were chosen."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from kd_keras.evaluation.operating import Steps
from kd_keras.recipes.stored_predictions import Scores
from kd_keras.report.plots import colours_of, new_figure

GRID = np.linspace(0.0, 1.0, 501)  # where the curves of several seeds are averaged
ABOUT = (
    "Test split. Bold: mean over the seeds, upright; thin: each seed. The dot is the threshold "
    "that was chosen on validation. Dashed: a model that guesses."
)
CHOSEN = (
    "A score at or above the threshold is taken for {positive!r}. Each seed chooses its own on "
    "validation, where sensitivity + specificity - 1 is largest (Youden's J, 1950); on test it is "
    "only used. Mean over the seeds with their standard deviation. Intervals: 95 %, Wilson 1927, "
    "for the number of test images of the class; they leave out the spread over seeds."
)


def drawable(scores: Scores | None) -> bool:
    """Return whether curves can be drawn: there are scores, and test images of both classes."""
    return scores is not None and len(np.unique(scores.labels)) == 2


def curves(scores: Scores, models: Mapping[str, Any]) -> Figure:
    """Plot the ROC curve and the precision-recall curve of each model.

    Args:
        scores: the probabilities of class 1.
        models: entries of the results, by role; those without scores are left out.
    """
    figure, (left, right) = new_figure(2, width=4.6, height=4.3)
    truth, colours = scores.labels == 1, colours_of(models)
    for role, model in models.items():
        if role not in scores.test:
            continue
        steps = [Steps.of(truth, own) for own in scores.test[role].values()]
        points = (model.get("operating") or {}).get("seeds", ())
        colour = colours[role]
        _curve(left, colour, steps, _roc, _label(role, model))
        _curve(right, colour, steps, _precision_recall, role)
        _dot(left, colour, points, lambda found: 1 - found["specificity"], _sensitivity)
        _dot(right, colour, points, _sensitivity, _precision)
    left.plot([0, 1], [0, 1], color="#9aa5af", lw=1, ls="--", zorder=1)
    right.axhline(truth.mean(), color="#9aa5af", lw=1, ls="--", zorder=1)
    left.set(xlabel="1 - specificity", ylabel="sensitivity")
    right.set(xlabel="recall (sensitivity)", ylabel="precision")
    left.set_title("ROC", fontsize=10)
    right.set_title("precision and recall", fontsize=10)
    for ax in (left, right):
        ax.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02), aspect="equal")
    left.legend(frameon=False, fontsize=9, loc="lower right")
    return figure


def _label(role: str, model: Mapping[str, Any]) -> str:
    area = (model.get("summary") or {}).get("auc")
    return role if not area or area["mean"] is None else f"{role}, AUC {area['mean']:.4f}"


def _curve(
    ax: Axes,
    colour: str,
    seeds: Sequence[Steps],
    of: Callable[[Steps], np.ndarray],
    label: str,
) -> None:
    """Draw each seed thin and the mean over the seeds bold, at the same places of the x axis."""
    heights = [of(steps) for steps in seeds]
    if len(heights) > 1:
        for height in heights:
            ax.plot(GRID, height, color=colour, lw=0.7, alpha=0.35)
    ax.plot(GRID, np.mean(heights, axis=0), color=colour, lw=2, label=label)


def _roc(steps: Steps) -> np.ndarray:
    """Return the sensitivity over `GRID`, of 1 - specificity.

    The curve goes straight between thresholds, as the area under it is measured. Where it climbs
    upright, its upper end counts.
    """
    x, y = steps.false_alarm_rate, steps.sensitivity
    upper = np.append(np.diff(x) > 0, True)
    height = np.interp(GRID, x[upper], y[upper])
    height[0] = 0.0  # all curves begin at the corner
    return height


def _precision_recall(steps: Steps) -> np.ndarray:
    """Return the precision over `GRID`, of recall: that of the first threshold that reaches it.

    It is no straight line between thresholds (Davis and Goadrich, *The relationship between
    Precision-Recall and ROC curves*, 2006), so a step is drawn.
    """
    reached = steps.sensitivity.searchsorted(GRID - 1e-12)
    return steps.precision[np.clip(reached, 1, None)]


def _dot(
    ax: Axes, colour: str, points: Sequence[Mapping[str, Any]], x: Callable, y: Callable
) -> None:
    places = [(x(point), y(point)) for point in points]
    if places and not any(value is None for place in places for value in place):
        ax.plot(*np.mean(places, axis=0), "o", ms=8, color=colour, mec="white", zorder=4)


def _sensitivity(point: Mapping[str, Any]) -> float:
    return point["sensitivity"]


def _precision(point: Mapping[str, Any]) -> float | None:
    found = point["true_positives"] + point["false_positives"]
    return point["true_positives"] / found if found else None
