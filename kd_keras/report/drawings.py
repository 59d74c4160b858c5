"""Plots of studies: lines with a band, heat maps, values with intervals, and images."""

import dataclasses
from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator

from kd_keras.report.plots import COLOURS, OTHERS, keep_range, new_figure

MARKS = "osD^vP"


@dataclasses.dataclass(frozen=True)
class Line:
    """A line of a plot.

    Attributes:
        label: its name.
        x, mean, std: one number per point; `std` is drawn as a band, None draws none.
    """

    label: str
    x: Sequence[float]
    mean: Sequence[float]
    std: Sequence[float] | None = None


@dataclasses.dataclass(frozen=True)
class Level:
    """A horizontal line, of a model to compare with: `"teacher"`, `"alone"` or any other name."""

    label: str
    mean: float
    std: float | None = None


def lines(
    shown: Sequence[Line],
    levels: Sequence[Level] = (),
    *,
    x: str,
    y: str,
    base: int | None = None,
) -> Figure:
    """Plot lines over a common axis, with bands of one standard deviation.

    Args:
        shown: the lines.
        levels: horizontal lines.
        x, y: the labels of the axes.
        base: of a logarithmic x axis; None draws a linear one.
    """
    figure, (ax,) = new_figure(1, width=6.8, height=4.2)
    colours = (COLOURS["distilled"], *OTHERS)
    for place, line in enumerate(shown):
        colour, mark = colours[place % len(colours)], MARKS[place % len(MARKS)]
        ax.plot(line.x, line.mean, color=colour, marker=mark, ms=6, lw=1.6, label=line.label)
        if line.std is not None:
            low = [m - s for m, s in zip(line.mean, line.std, strict=True)]
            high = [m + s for m, s in zip(line.mean, line.std, strict=True)]
            ax.fill_between(line.x, low, high, color=colour, alpha=0.15, lw=0)
    for level in levels:
        colour = COLOURS.get(level.label.split()[-1], "#4d4d4d")
        ax.axhline(level.mean, color=colour, lw=1.4, ls="--", label=level.label, zorder=1)
        if level.std:
            ax.axhspan(
                level.mean - level.std,
                level.mean + level.std,
                color=colour,
                alpha=0.12,
                lw=0,
                zorder=0,
            )
    if base is not None:
        ax.set_xscale("log", base=base)
        ticks = sorted({value for line in shown for value in line.x})
        ax.set_xticks(ticks, [f"{value:,.10g}" for value in ticks])
        ax.xaxis.set_minor_locator(NullLocator())
    ax.set_xlabel(x)
    ax.set_ylabel(y)
    keep_range(ax, least=0.01)
    ax.legend(frameon=False, fontsize=9, loc="center left", bbox_to_anchor=(1.0, 0.5))
    return figure


def heat_map(
    values: Sequence[Sequence[float]],
    *,
    rows: Sequence[str],
    columns: Sequence[str],
    y: str,
    x: str,
    title: str,
) -> Figure:
    """Draw numbers as colours with the numbers in them.

    Args:
        values: a row of numbers per name in `rows`, a number per name in `columns`.
        rows, columns: the names along the axes.
        y, x: the labels of the axes.
        title: what the numbers are.
    """
    figure, (ax,) = new_figure(1, width=2.2 + 0.9 * len(columns), height=1.6 + 0.55 * len(rows))
    ax.grid(visible=False)
    ax.spines[:].set_visible(False)
    image = ax.imshow(values, cmap="cividis", aspect="auto")
    flat = [value for row in values for value in row]
    middle = (min(flat) + max(flat)) / 2
    for i, row in enumerate(values):
        for j, value in enumerate(row):
            ink = "white" if value < middle else "black"
            ax.text(j, i, f"{value:.4f}", ha="center", va="center", color=ink, fontsize=9)
    ax.set_xticks(range(len(columns)), columns)
    ax.set_yticks(range(len(rows)), rows)
    ax.set_xlabel(x)
    ax.set_ylabel(y)
    ax.set_title(title, fontsize=10)
    figure.colorbar(image, ax=ax, shrink=0.9)
    return figure


@dataclasses.dataclass(frozen=True)
class Marks:
    """Values with intervals, one per row of a plot.

    Attributes:
        label: the name of the series.
        value, low, high: one number per row.
    """

    label: str
    value: Sequence[float]
    low: Sequence[float]
    high: Sequence[float]


def intervals(shown: Sequence[Marks], *, rows: Sequence[str], x: str) -> Figure:
    """Plot values with their intervals, one row per name, and a line at zero.

    Args:
        shown: the series, side by side in each row.
        rows: the names along the y axis, from the top.
        x: the label of the x axis.
    """
    figure, (ax,) = new_figure(1, width=7.2, height=1.2 + 0.16 * len(rows) * (1 + len(shown)))
    colours = (COLOURS["distilled"], *OTHERS)
    for place, marks in enumerate(shown):
        shift = 0.36 * (place - (len(shown) - 1) / 2)
        below = [v - low for v, low in zip(marks.value, marks.low, strict=True)]
        above = [high - v for v, high in zip(marks.value, marks.high, strict=True)]
        ax.errorbar(
            marks.value,
            [row + shift for row in range(len(rows))],
            xerr=(below, above),
            fmt=MARKS[place % len(MARKS)],
            color=colours[place % len(colours)],
            ms=5,
            lw=1.2,
            label=marks.label,
        )
    ax.axvline(0.0, color="#4d4d4d", lw=1.0, ls="--", zorder=1)
    ax.set_yticks(range(len(rows)), rows)
    ax.set_ylim(len(rows) - 0.5, -0.5)
    ax.set_xlabel(x)
    ax.legend(frameon=False, fontsize=9, loc="center left", bbox_to_anchor=(1.0, 0.5))
    return figure


def gallery(pixels: np.ndarray, captions: Sequence[str], *, columns: int = 8) -> Figure:
    """Show small images, with a line above each.

    Args:
        pixels: uint8, shape `(n, height, width, 3)`.
        captions: one per image.
        columns: images in a row.
    """
    rows = -(-len(pixels) // columns)
    figure = Figure(figsize=(1.35 * columns, 1.6 * rows), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False).ravel()
    for ax in axes:
        ax.set_axis_off()
    for ax, image, caption in zip(axes, pixels, captions, strict=False):
        ax.imshow(image)
        ax.set_title(caption, fontsize=8)
    return figure
