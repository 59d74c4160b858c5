"""The plots of a sweep: the metric by temperature and alpha, or by method and student."""

from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator

from kd_keras.evaluation import metrics
from kd_keras.report.plots import COLOURS, keep_range, new_figure
from kd_keras.report.tables import rows

# one colour and one marker per line, dark to light, as alphas have an order
LINES = ("#08306b", "#2171b5", "#6baed6", "#41ab5d", "#a1d99b", "#cc79a7")
MARKS = "osD^vP"


def temperatures(found: dict[str, Any]) -> Figure:
    """Plot the validation metric over temperature, one line per alpha.

    With a single temperature, the metric is plotted over alpha.

    The student alone and the teacher are horizontal lines; bands and bars show one standard
    deviation over the seeds.
    """
    rows = found["settings"]
    several = len({row["temperature"] for row in rows}) > 1
    over, by = ("temperature", "alpha") if several else ("alpha", "temperature")
    figure, (ax,) = new_figure(1, width=6.4, height=4.2)
    lines = list(dict.fromkeys(row[by] for row in rows))
    for place, value in enumerate(lines):
        line = sorted((row for row in rows if row[by] == value), key=lambda row: row[over])
        # shift the lines a little, so that their error bars do not hide each other
        aside = 1.025 ** (place - (len(lines) - 1) / 2) if over == "temperature" else 1.0
        _line(ax, line, over, place, aside, "distilled" if value is None else f"{by} {value:g}")
    for key, label, scores in (
        ("alone", "student alone", found["alone"][0]["validation"]),
        ("teacher", "teacher", found["teacher"]["validation"]),
    ):
        _level(ax, scores, COLOURS[key], label)
    if over == "temperature":
        ax.set_xscale("log", base=2)
    values = sorted({row[over] for row in rows})
    ax.set_xticks(values, [f"{value:g}" for value in values])
    ax.xaxis.set_minor_locator(NullLocator())
    ax.set_xlabel(over)
    ax.set_ylabel(f"validation {metrics.title(found['metric'])}")
    keep_range(ax)
    handles, labels = ax.get_legend_handles_labels()
    order = [*range(2, len(labels)), 0, 1]  # matplotlib lists error bars after lines
    ax.legend([handles[i] for i in order], [labels[i] for i in order], frameon=False, fontsize=9,
              loc="center left", bbox_to_anchor=(1.0, 0.5))  # fmt: skip
    return figure


def _line(
    ax: Axes, rows: list[dict[str, Any]], over: str, place: int, aside: float, label: str
) -> None:
    spread = [row["validation"]["std"] or 0.0 for row in rows]
    mean, x = [row["validation"]["mean"] for row in rows], [row[over] * aside for row in rows]
    colour, mark = LINES[place % len(LINES)], MARKS[place % len(MARKS)]
    ax.errorbar(x, mean, yerr=spread, color=colour, marker=mark, ms=6, lw=1.6, elinewidth=0.9,
                capsize=3, label=label)  # fmt: skip


def _level(ax: Axes, scores: dict[str, Any], colour: str, label: str) -> None:
    mean, std = scores["mean"], scores["std"]
    ax.axhline(mean, color=colour, lw=1.4, ls="--", label=label, zorder=1)
    if std:
        ax.axhspan(mean - std, mean + std, color=colour, alpha=0.12, lw=0, zorder=0)


def comparison(results: dict[str, Any]) -> Figure:
    """Plot the test metric, one row per student and method, each student alone above its methods.

    Small dots are the seeds, large dots their mean, bars one standard deviation; the vertical
    line is the teacher.
    """
    found, metric = results["sweep"], results["sweep"]["metric"]
    labels = [
        row["label"]
        for baseline in found["alone"]
        for row in (baseline, *_taught(found, baseline["student"]))
    ]
    figure, (ax,) = new_figure(1, width=6.8, height=1.4 + 0.36 * len(labels))
    teacher = results["models"]["teacher"]["summary"][metric]["mean"]
    ax.axvline(teacher, color=COLOURS["teacher"], lw=1.4, ls="--", label="teacher")
    alone = {baseline["label"] for baseline in found["alone"]}
    for place, label in enumerate(labels):
        entry = results["models"][label]
        colour = COLOURS["alone"] if label in alone else COLOURS["distilled"]
        seeds = [seed["test"][metric] for seed in entry["seeds"]]
        ax.plot(seeds, [place] * len(seeds), "o", color=colour, ms=4, alpha=0.4, mew=0)
        value = entry["summary"][metric]
        ax.errorbar(value["mean"], place, xerr=value["std"], fmt="o", color=colour, ms=8, capsize=4)
    for first in [labels.index(baseline["label"]) for baseline in found["alone"]][1:]:
        ax.axhline(first - 0.5, color="#9aa5af", lw=0.8)
    ax.set_yticks(range(len(labels)), [label.replace("$", r"\$") for label in labels])
    ax.invert_yaxis()
    ax.set_xlabel(f"test {metrics.title(metric)}")
    keep_range(ax, "x")
    ax.legend(frameon=False, fontsize=9, loc="lower left", bbox_to_anchor=(0.0, 1.0))
    return figure


def points(results: dict[str, Any]) -> list[dict[str, Any]]:
    """Return a comparison's points against cost: teacher, and each student alone and distilled.

    A student is shown with its best method on validation, since all its methods cost the same.
    """
    found, columns = results["sweep"], {row["model"]: row for row in rows(results)}
    shown = [{**columns["teacher"], "text": ""}]
    for alone in found["alone"]:
        taught = _taught(found, alone["student"])
        best = max(taught, key=lambda row: row["validation"]["mean"])
        for key, label in (("alone", alone["label"]), ("distilled", best["label"])):
            shown.append({**columns[label], "model": key, "text": label})
    return shown


def _taught(found: dict[str, Any], student: str) -> list[dict[str, Any]]:
    return [row for row in found["settings"] if row["student"] == student]
