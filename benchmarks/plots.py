"""The plots, all in one style: bars are medians, dots single measurements."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator

from benchmarks import results

# a colour-blind safe palette (Okabe and Ito), as in the package's reports
IN_TITLE = 8  # most findings to show in a title
OURS, DOT = "#0072b2", "#2b2b2b"
OTHERS = ("#d58600", "#009e73", "#cc79a7", "#56b4e9", "#8a8a8a")


def draw(path: Path) -> Path:
    """Draw the plot of a benchmark's JSON file beside it, one panel per case."""
    report = results.read(path.stem, path.parent)
    assert report is not None
    cases = report["cases"]
    heights = [1.0 + 0.34 * len(case["sides"]) for case in cases]
    figure = Figure(figsize=(8.2, sum(heights) + 0.3), layout="constrained")
    grid = figure.subplots(len(cases), 1, squeeze=False, height_ratios=heights)
    for ax, case in zip(grid[:, 0], cases, strict=True):
        _bars(ax, case)
    return _save(figure, path, report)


def _bars(ax: Axes, case: Mapping[str, Any]) -> None:
    for row, (side, times) in enumerate(case["sides"].items()):
        colour = OURS if "kd_keras" in side else OTHERS[row % len(OTHERS)]
        ax.barh(row, times["median"], height=0.62, color=colour)
        ax.plot(times["raw"], [row] * len(times["raw"]), ".", ms=5, color=DOT, alpha=0.6)
    ax.set_yticks(range(len(case["sides"])), list(case["sides"]), fontsize=8)
    ax.invert_yaxis()
    ax.set_xlim(left=0)
    ax.set_xlabel(case["unit"], fontsize=8)
    ax.tick_params(axis="x", labelsize=8)
    ax.spines[["top", "right"]].set_visible(False)
    if len(case["findings"]) > IN_TITLE:
        _at_bars(ax, case)
        found = [f"beside the bars: over {case['findings'][0]['name'].partition(' / ')[2]}"]
    else:
        found = [f"{f['name']}: {results.value_of(f)}{_aim(f)}" for f in case["findings"]]
    ax.set_title("\n".join([case["title"], *found]), fontsize=8.5, loc="left")


def _at_bars(ax: Axes, case: Mapping[str, Any]) -> None:
    """Write each ratio beside the bar of its side."""
    for finding in case["findings"]:
        side = finding["name"].partition(" / ")[0]
        end = max(case["sides"][side]["raw"])
        row = list(case["sides"]).index(side)
        ax.annotate(
            results.value_of(finding),
            *((end, row), (6, 0)),
            textcoords="offset points",
            va="center",
            fontsize=7.5,
        )


def _aim(finding: Mapping[str, Any]) -> str:
    if finding["target"] is None:
        return ""
    return f" (target: {finding['bound']} {finding['target']:g})"


def curves(
    path: Path,
    panels: Mapping[str, Mapping[str, tuple[Sequence[float], Sequence[float]]]],
    xlabel: str,
) -> Path:
    """Draw lines over a logarithmic axis: `{ylabel: {line: (x, y)}}`, one panel per ylabel."""
    report = results.read(path.stem, path.parent)
    assert report is not None
    figure = Figure(figsize=(4.1 * len(panels), 3.4), layout="constrained")
    for ax, (ylabel, drawn) in zip(
        figure.subplots(1, len(panels), squeeze=False)[0], panels.items(), strict=True
    ):
        for colour, (name, (x, y)) in zip((OURS, *OTHERS), drawn.items(), strict=False):
            ax.plot(x, y, "o-", ms=4, lw=1.4, color=colour, label=name)
        ax.set_xscale("log")
        ax.xaxis.set_minor_locator(NullLocator())
        ax.set_ylim(bottom=0)
        ax.set_xlabel(xlabel, fontsize=8)
        ax.set_ylabel(ylabel, fontsize=8)
        ax.tick_params(labelsize=8)
        ax.spines[["top", "right"]].set_visible(False)
    figure.axes[0].legend(frameon=False, fontsize=8)
    return _save(figure, path, report)


def _save(figure: Figure, path: Path, report: Mapping[str, Any]) -> Path:
    note = f"{report['command']}    {report['machine']['processor']}, "
    note += f"{report['machine']['cores']} cores    {report['date'][:10]}"
    figure.supxlabel(note, fontsize=6.5, color="#6b7680")
    plot = path.with_suffix(".png")
    figure.savefig(plot, dpi=130)
    return plot
