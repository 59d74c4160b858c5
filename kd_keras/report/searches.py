"""The plots of a search: trials by temperature and alpha, by all hyper-parameters, in order."""

import dataclasses
import math
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator
from matplotlib.tri import Triangulation
from numpy.typing import ArrayLike

from kd_keras.evaluation import metrics
from kd_keras.report.plots import COLOURS, LEAST_RANGE, new_figure
from kd_keras.report.trial_tables import completed

Search = dict[str, Any]

SHADES, BEST = "viridis", "#d55e00"
NOT_USED = -0.12  # height of a line at an axis that its trial does not use
AXES = 6  # most hyper-parameters per row, besides the metric


@dataclasses.dataclass(frozen=True)
class Axis:
    """A hyper-parameter, or the metric, as an axis from 0 to 1.

    Attributes:
        name: the name of the hyper-parameter.
        low, high: the ends of a number in the space.
        log: True for a logarithmic axis.
        levels: the values of a choice, in the order of the space; None for a number.
    """

    name: str
    low: float = 0.0
    high: float = 1.0
    log: bool = False
    levels: tuple[Any, ...] | None = None

    def at(self, value: Any) -> float:
        """Return the position of a value, clipped to the axis; NaN for None."""
        if value is None:
            return math.nan
        if self.levels is not None:
            return (self.levels.index(value) + 0.5) / len(self.levels)
        low, high, here = (math.log(x) if self.log else x for x in (self.low, self.high, value))
        return 0.5 if low == high else min(max((here - low) / (high - low), 0.0), 1.0)

    def ticks(self) -> tuple[list[float], list[str]]:
        """Return the positions and labels of the ticks."""
        if self.levels is not None:
            return [self.at(level) for level in self.levels], [_text(x) for x in self.levels]
        wide = self.log and self.high / self.low > 200
        log = LogLocator(subs=(1.0,) if wide else (1.0, 2.0, 5.0), numticks=20)
        locator = log if self.log else MaxNLocator(5)
        values = [x for x in locator.tick_values(self.low, self.high) if self.low <= x <= self.high]
        return [self.at(x) for x in values], [_text(float(x)) for x in values]


def axis_of(varied: dict[str, Any]) -> Axis:
    """Return the axis of a hyper-parameter in KerasTuner's form, `class_name` and `config`.

    Example:
        >>> alpha = {"name": "alpha", "min_value": 0.0, "max_value": 1.0, "sampling": "linear"}
        >>> axis_of({"class_name": "Float", "config": alpha}).at(0.25)
        0.25
    """
    kind, config = varied["class_name"], varied["config"]
    if kind in ("Float", "Int"):
        ends = float(config["min_value"]), float(config["max_value"])
        return Axis(config["name"], *ends, log=config["sampling"] == "log")
    if kind == "Boolean":
        return Axis(config["name"], levels=(False, True))
    return Axis(config["name"], levels=tuple(config["values"]))


def axes_of(search: Search) -> list[Axis]:
    """Return the axes of all hyper-parameters that some trial varied, conditional ones last."""
    free = [x for x in search["varied"] if x["class_name"] != "Fixed"]
    names = {name for row in search["trials"] for name in row["values"]}
    ordered = sorted(free, key=lambda x: bool(x["config"]["conditions"]))
    return [axis_of(x) for x in ordered if x["config"]["name"] in names]


def _text(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value).replace("$", r"\$")


def _metric(search: Search) -> str:
    return f"validation {metrics.title(search['metric'])}"


def _scores(search: Search) -> Axis:
    """Return the metric's axis.

    It ends far below the middle half of the scores: one failed training would otherwise leave no
    room to tell the others apart.
    """
    scores = [row["score"]["mean"] for row in completed(search)]
    lower, upper = np.quantile(scores, [0.25, 0.75])
    low = max(min(scores), lower - 3.0 * (upper - lower))
    return Axis(_metric(search), float(low), float(max(scores)))


# --- temperature and alpha ---


def surface(search: Search) -> Figure | None:
    """Plot the metric over temperature and alpha; return None if they did not both vary.

    It is linear between the trials. Of trials at one point, which differ in other
    hyper-parameters, the best is shown.
    """
    axes = {axis.name: axis for axis in axes_of(search)}
    if not {"temperature", "alpha"} <= set(axes):
        return None
    x_axis, y_axis = _numeric(axes["temperature"]), _numeric(axes["alpha"])
    found = _places(search, x_axis, y_axis)
    places = {place: score for place, score in found.items() if not math.isnan(score)}
    if not places:
        return None
    scale = _scores(search)
    x, y = np.array(list(places)).T
    scores = np.clip(list(places.values()), scale.low, scale.high)
    figure, (ax,) = new_figure(1, width=6.8, height=4.6)
    norm = Normalize(scale.low, scale.high)
    if scale.low < scale.high and _spans(x, y):
        levels = np.linspace(scale.low, scale.high, 13)
        ax.tricontourf(Triangulation(x, y), scores, levels, cmap=SHADES, norm=norm, alpha=0.75)
    ax.scatter(x, y, c=scores, cmap=SHADES, norm=norm, s=46, edgecolors="#1d2329", lw=0.8, zorder=3)
    best = max(places, key=lambda place: places[place])
    ax.plot(*best, "*", ms=17, color=BEST, mec="white", mew=1.0, zorder=4, label="best")
    if len(places) < len(found):
        failed = [place for place in found if place not in places]
        ax.plot(*np.array(failed).T, "x", ms=7, color=BEST, label="failed")
    ax.set_xticks(*_ticks(x_axis, axes["temperature"]))
    ax.set_yticks(*_ticks(y_axis, axes["alpha"]))
    ax.set(xlim=(-0.04, 1.04), ylim=(-0.04, 1.04), xlabel="temperature", ylabel="alpha")
    ax.legend(frameon=False, fontsize=9, loc="lower left", bbox_to_anchor=(0.0, 1.0), ncols=2)
    _colours(figure, [ax], search, scale)
    return figure


def _places(search: Search, x_axis: Axis, y_axis: Axis) -> dict[tuple[float, float], float]:
    """Return the best score of the trials at each point; NaN if all of them failed."""
    found: dict[tuple[float, float], float] = {}
    for row in search["trials"]:
        place = x_axis.at(row["values"].get("temperature")), y_axis.at(row["values"].get("alpha"))
        score = (row.get("score") or {}).get("mean", math.nan)
        if not any(map(math.isnan, place)):
            found[place] = float(np.fmax(score, found.get(place, math.nan)))
    return found


def _numeric(axis: Axis) -> Axis:
    """Return a choice among numbers as a range, on a log scale if that spaces them more evenly."""
    if axis.levels is None:
        return axis
    values = sorted(map(float, axis.levels))
    log = values[0] > 0.0 and _uneven(np.log(values)) < _uneven(values)
    return Axis(axis.name, values[0], values[-1], log=log)


def _uneven(values: ArrayLike) -> float:
    gaps = np.diff(values)
    return float(gaps.max() / gaps.min()) if len(gaps) else 1.0


def _ticks(axis: Axis, given: Axis) -> tuple[list[float], list[str]]:
    """Return the ticks of an axis; for a choice among numbers, at the numbers."""
    if given.levels is None:
        return axis.ticks()
    return [axis.at(float(x)) for x in given.levels], [_text(x) for x in given.levels]


def _spans(x: np.ndarray, y: np.ndarray) -> bool:
    """Return True if the points do not all lie on one line."""
    around = np.stack([x - x.mean(), y - y.mean()])
    return len(x) > 2 and np.linalg.matrix_rank(around, tol=1e-3) == 2


def _colours(figure: Figure, axes: list[Axes], search: Search, scale: Axis) -> None:
    worse = any(row["score"]["mean"] < scale.low for row in completed(search))
    shades = ScalarMappable(Normalize(scale.low, scale.high), SHADES)
    bar = figure.colorbar(
        shades, ax=axes, label=scale.name, extend="min" if worse else "neither", pad=0.02
    )
    bar.outline.set_visible(False)


# --- all that varied ---


def parallel(search: Search) -> Figure:
    """Plot a line per trial through its hyper-parameters to its score, in rows if needed."""
    axes, scale = axes_of(search), _scores(search)
    count = math.ceil(len(axes) / AXES)
    each = math.ceil(len(axes) / count)
    figure = Figure(figsize=(1.55 * each + 2.4, 3.4 * count), layout="constrained")
    rows = figure.subplots(count, 1, squeeze=False)[:, 0]
    for number, ax in enumerate(rows):
        shown = axes[number * each : (number + 1) * each]
        _strip(ax, [*shown, scale], search, scale)
        ax.set_xlim(-0.35, each + 0.35)
    _colours(figure, list(rows), search, scale)
    return figure


def _strip(ax: Axes, axes: list[Axis], search: Search, scale: Axis) -> None:
    """Draw axes side by side, the metric's last."""
    ax.set_axis_off()
    shades = ScalarMappable(Normalize(scale.low, scale.high), SHADES)
    places = {
        row["trial"]: [
            *(axis.at(row["values"].get(axis.name)) for axis in axes[:-1]),
            scale.at(row["score"]["mean"]),
        ]
        for row in completed(search)
    }
    for row in sorted(completed(search), key=lambda row: row["score"]["mean"]):
        y = np.nan_to_num(places[row["trial"]], nan=NOT_USED)
        best = row["trial"] == search["best"]
        colour = BEST if best else shades.to_rgba(row["score"]["mean"])
        ax.plot(y, color=colour, lw=2.6 if best else 1.3, alpha=1.0 if best else 0.75,
                zorder=3 if best else 2, solid_joinstyle="round")  # fmt: skip
    for place, axis in enumerate(axes):
        used = not any(math.isnan(y[place]) for y in places.values())
        _upright(ax, place, axis, bottom=0.0 if used else NOT_USED)
    ax.set_ylim(NOT_USED - 0.06, 1.04)


def _upright(ax: Axes, place: int, axis: Axis, *, bottom: float) -> None:
    ax.plot([place, place], [0.0, 1.0], color="#1d2329", lw=1.0, zorder=4)
    positions, labels = axis.ticks()
    if bottom < 0.0:
        positions, labels = [*positions, bottom], [*labels, "not used"]
    for y, label in zip(positions, labels, strict=True):
        ax.plot([place - 0.02, place], [y, y], color="#1d2329", lw=1.0, zorder=4)
        ax.text(place - 0.04, y, label, ha="right", va="center", fontsize=7.5, zorder=5,
                bbox={"fc": "white", "ec": "none", "alpha": 0.75, "pad": 0.6})  # fmt: skip
    title = axis.name.replace(" ", "\n", 1).replace("$", r"\$")
    ax.text(place, 1.07, title, ha="center", va="bottom", fontsize=9)


# --- in order ---


def progress(search: Search) -> Figure:
    """Plot each trial's score and the best so far, by number of trials and by training time."""
    figure, (left, right) = new_figure(2, width=5.0, height=3.8)
    seconds = np.cumsum(_own_seconds(search))
    size, unit = next(
        (size, unit) for size, unit in ((3600, "h"), (60, "min"), (1, "s"))
        if seconds[-1] >= 2 * size or size == 1
    )  # fmt: skip
    _so_far(left, search, np.arange(1, len(seconds) + 1))
    _so_far(right, search, seconds / size)
    left.set_xlabel("trials")
    left.xaxis.set_major_locator(MaxNLocator(integer=True))
    right.set_xlabel(f"training time of the trials ({unit})")
    left.set_ylabel(_metric(search))
    right.set_yticklabels([])
    right.legend(frameon=False, fontsize=9, loc="center left", bbox_to_anchor=(1.0, 0.5))
    return figure


def _own_seconds(search: Search) -> list[float]:
    """Return each trial's training time; for a promoted trial, without that of its predecessor."""
    known = {row["trial"]: row.get("seconds") or 0.0 for row in search["trials"]}
    return [
        max(0.0, known[row["trial"]] - known.get(row.get("goes_on_from"), 0.0))
        for row in search["trials"]
    ]


def _so_far(ax: Axes, search: Search, x: np.ndarray) -> None:
    scores = [(row.get("score") or {}).get("mean", math.nan) for row in search["trials"]]
    best = np.fmax.accumulate(scores)
    ax.step(x, best, where="post", color=COLOURS["tuned"], lw=2, label="best so far")
    known = {role: search[role]["score"]["mean"] for role in ("teacher", "default", "alone")}
    for role, score in known.items():
        name = {"default": "default setting", "alone": "student alone"}.get(role, role)
        ax.axhline(score, color=COLOURS[role], lw=1.3, ls="--", zorder=1, label=name)
    low = min(_scores(search).low, *known.values())
    high = max(np.nanmax(scores), *known.values())
    low = min(low, high - LEAST_RANGE)
    edge = low - 0.06 * (high - low)
    ax.plot(x, scores, "o", ms=4.5, mew=0, color=COLOURS["tuned"], alpha=0.55, label="a trial")
    for mark, colour, name, there in (
        ("v", COLOURS["tuned"], "below the axis", [score < low for score in scores]),
        ("x", BEST, "failed", [math.isnan(score) for score in scores]),
    ):
        if any(there):
            ax.plot(x[there], np.full(sum(there), edge), mark, ms=6, color=colour, label=name,
                    clip_on=False)  # fmt: skip
    ax.set_ylim(edge, high + 0.06 * (high - low))
