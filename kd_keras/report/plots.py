"""The plots of a report: learning curves, confusion, reliability, quality against cost."""

import itertools
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.ticker import LogLocator, MaxNLocator, NullLocator

from kd_keras.evaluation import metrics
from kd_keras.report.folders import History
from kd_keras.report.tables import count

# a colour-blind safe palette (Okabe and Ito), which also works in shades of grey
COLOURS = {"teacher": "#4d4d4d", "alone": "#d58600", "distilled": "#0072b2", "model": "#0072b2"}
COLOURS |= {"default": "#009e73", "tuned": COLOURS["distilled"]}  # of a search
OTHERS = ("#009e73", "#cc79a7", "#d55e00", "#56b4e9")
MOST_CLASSES = 12  # of a confusion matrix with numbers in its cells
TITLE = 0.35  # inches of height for the title of a figure
LEAST_RANGE = 0.05  # of an axis of a metric: five points of accuracy


def new_figure(
    columns: int, *, width: float = 4.6, height: float = 3.5
) -> tuple[Figure, list[Axes]]:
    """Return a figure with axes side by side, in the style of the report."""
    figure = Figure(figsize=(width * columns, height), layout="constrained")
    axes = figure.subplots(1, columns, squeeze=False)[0]
    for ax in axes:
        ax.spines[["top", "right"]].set_visible(False)
        ax.grid(color="#e7e9eb", linewidth=0.8)
        ax.set_axisbelow(True)
    return figure, list(axes)


def keep_range(ax: Axes, which: str = "y", least: float = LEAST_RANGE) -> None:
    """Widen an axis of a metric that shows a narrow range, so that noise does not fill the plot.

    Args:
        ax: the axes, with all that is drawn in them.
        which: "x" or "y".
        least: the smallest range to show.
    """
    low, high = ax.get_xlim() if which == "x" else ax.get_ylim()
    missing = least - (high - low)
    if missing > 0:
        low = max(0.0, low - missing / 2) if low >= 0.0 else low - missing / 2
        limits = low, low + least
        ax.set_xlim(limits) if which == "x" else ax.set_ylim(limits)


def titled(figure: Figure, title: str) -> Figure:
    """Write a title above all that a figure holds, and return it.

    The figure becomes higher: a title within its layout would overlap those of square axes.

    Args:
        figure: of `new_figure`, or of a constrained layout of its own.
        title: plain text.
    """
    width, height = figure.get_size_inches()
    higher = height + TITLE
    figure.set_size_inches(width, higher)
    layout = figure.get_layout_engine()
    if isinstance(layout, ConstrainedLayoutEngine):
        layout.set(rect=(0.0, 0.0, 1.0, height / higher))
    shown = title.replace("$", r"\$")  # not a formula
    figure.text(0.5, 1 - 0.08 / higher, shown, ha="center", va="top", size=11, weight="bold")
    return figure


def colour_of(model: str) -> str:
    """Return the colour of a model, by its key in the results."""
    return COLOURS.get(model) or OTHERS[sum(model.encode()) % len(OTHERS)]


def colours_of(models: Iterable[str]) -> dict[str, str]:
    """Return a colour for each of a few models: its own, or one by place if two would share one.

    Example:
        >>> one, other = colours_of(["mlp alone", "mlp kd"]).values()
        >>> one == other
        False
    """
    own = {model: colour_of(model) for model in models}
    if len({*own.values()}) == len(own):
        return own
    by_place = (*(COLOURS[role] for role in ("teacher", "alone", "distilled")), *OTHERS)
    return dict(zip(own, itertools.cycle(by_place), strict=False))


def curves(history: History, metric: str) -> Figure:
    """Plot the task's metric on the validation split, and the training loss, by epoch."""
    figure, (left, right) = new_figure(2)
    for model in dict.fromkeys(line["model"] for line in history):
        own = [line for line in history if line["model"] == model]
        _curve(left, model, own, lambda line: (line.get("validation") or {}).get(metric))
        _curve(right, model, own, lambda line: line.get("loss"))
    left.set_title(f"validation {metrics.title(metric)}", fontsize=10)
    right.set_title("training loss", fontsize=10)
    for ax in (left, right):
        ax.set_xlabel("epoch")
        ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    if left.lines:
        keep_range(left)
    shown = left if left.lines else right  # without validation there are losses alone
    if shown.lines:
        shown.legend(frameon=False)
    return figure


def _curve(ax: Axes, model: str, history: History, value: Any) -> None:
    """Draw the seeds as thin lines, and their mean over the epochs that all of them reached."""
    seeds = [
        {line["epoch"]: value(line) for line in history if line.get("seed") == seed}
        for seed in dict.fromkeys(line.get("seed") for line in history)
    ]
    seeds = [{epoch: y for epoch, y in seed.items() if y is not None} for seed in seeds]
    if not any(seeds):
        return
    if len(seeds) > 1:
        for seed in seeds:
            ax.plot(list(seed), list(seed.values()), color=colour_of(model), lw=0.8, alpha=0.35)
    shared = sorted(set.intersection(*map(set, seeds)))
    if shared:
        means = [np.mean([seed[epoch] for seed in seeds]) for epoch in shared]
        marker = "o" if len(shared) == 1 else None
        ax.plot(shared, means, color=colour_of(model), lw=2, label=model, marker=marker)


def _tests(model: dict[str, Any]) -> list[dict[str, Any]]:
    return [seed["test"] for seed in model["seeds"] if seed.get("test")]


def confusions(models: dict[str, Any], names: Sequence[str] | None) -> Figure:
    """Plot one confusion matrix per model: shares of each true class, the mean over the seeds."""
    figure, axes = new_figure(len(models), width=3.4, height=3.9)
    for ax, (key, model) in zip(axes, models.items(), strict=True):
        tests = _tests(model)
        counts = np.sum([test["confusion"] for test in tests], axis=0)
        share = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
        ax.grid(False)
        ax.imshow(share, cmap="Blues", vmin=0.0, vmax=1.0)
        ax.set_title(f"{key}, {len(tests)} seed{'s' * (len(tests) > 1)}", fontsize=10)
        ax.set_xlabel("predicted")
        if len(counts) > MOST_CLASSES:
            continue
        ticks = range(len(counts))
        labels = [str(name).replace("$", r"\$") for name in names or ticks]  # not a formula
        long = max(map(len, labels)) > 3
        ax.set_xticks(ticks, labels, rotation=45 if long else 0, ha="right" if long else "center")
        ax.set_yticks(ticks, labels if ax is axes[0] else [""] * len(labels))
        for (row, column), number in np.ndenumerate(counts):
            dark = share[row, column] > 0.5
            colour = "white" if dark else "#1d2329" if number else "#b8bec4"
            size = 11 if len(counts) <= 4 else 7
            text = _percent(share[row, column], decimals=1 if len(counts) <= 4 else 0)
            ax.text(column, row, text, ha="center", va="center", color=colour, fontsize=size)
    axes[0].set_ylabel("true")
    return figure


def _percent(share: float, decimals: int) -> str:
    """Return a share in percent, without the sign; a dot for none, and `<1` for hardly any."""
    if share == 0.0:
        return "·"
    text = f"{100 * share:.{decimals}f}"
    if float(text) == 0.0:
        return f"<{10.0**-decimals:.{decimals}f}"
    return text if share == 1.0 or float(text) < 100.0 else f"{100 - 10.0**-decimals:.{decimals}f}"


def reliability(models: dict[str, Any]) -> Figure:
    """Plot accuracy by confidence, all seeds together."""
    figure, (ax,) = new_figure(1, width=4.8, height=3.8)
    ax.plot([0, 1], [0, 1], color="#9aa5af", lw=1, ls="--")
    for key, model in models.items():
        bins = [test["reliability"] for test in _tests(model)]
        sizes = np.array([b["count"] for b in bins], float)
        sums = [
            (np.array([b[name] for b in bins], float) * sizes).sum(axis=0, where=sizes > 0)
            for name in ("confidence", "accuracy")
        ]
        total = sizes.sum(axis=0)
        used = total > 0
        x, y = (s[used] / total[used] for s in sums)
        ax.plot(x, y, color=colour_of(key), lw=1.5, alpha=0.8, label=key)
        size = 12 + 150 * total[used] / total.sum()
        ax.scatter(x, y, s=size, color=colour_of(key), zorder=3, alpha=0.8, lw=0)
    ax.set(xlim=(0, 1.02), ylim=(0, 1.02), xlabel="confidence", ylabel="accuracy")
    ax.legend(frameon=False, loc="upper left")
    return figure


def cost(points: list[dict[str, Any]], metric: str) -> Figure:
    """Plot the metric against parameters and against latency, both on a logarithmic axis."""
    axes_of = {"parameters": "parameters", "latency_median_ms": "latency of one image (ms)"}
    known = {k: label for k, label in axes_of.items() if all(p[k] for p in points)}
    figure, axes = new_figure(len(known))
    for ax, (key, label) in zip(axes, known.items(), strict=True):
        for point in points:
            value, colour = point[metric], colour_of(point["model"])
            ax.errorbar(point[key], value["mean"], yerr=value["std"], fmt="o", ms=8,
                        color=colour, capsize=4, label=point["model"])  # fmt: skip
            ax.annotate(point.get("text", ""), (point[key], value["mean"]), xytext=(8, 4),
                        textcoords="offset points", fontsize=8)  # fmt: skip
        ax.set_xscale("log")
        ax.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
        ax.xaxis.set_minor_locator(NullLocator())
        ax.xaxis.set_major_formatter(lambda x, _: count(x))
        ax.margins(x=0.25, y=0.2)
        ax.set_xlabel(label)
        keep_range(ax)
    axes[0].set_ylabel(metrics.title(metric))
    handles, labels = axes[0].get_legend_handles_labels()
    once = dict(zip(labels, handles, strict=True))  # several students may share a label
    axes[0].legend(once.values(), once.keys(), frameon=False)
    return figure
