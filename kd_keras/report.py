"""A report from run folders alone: one HTML page, and its plots as PNG files beside it.

Text tables come from `kd_keras.table`, so that printing one does not load matplotlib.
"""

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator, NullLocator

from kd_keras import page
from kd_keras.files import whole_folder
from kd_keras.table import QUALITY, count, lines, rows, verdict

# colours that the colour-blind can tell apart (Okabe and Ito), and shades of grey too
COLOURS = {"teacher": "#4d4d4d", "alone": "#d58600", "distilled": "#0072b2", "model": "#0072b2"}
OTHERS = ("#009e73", "#cc79a7", "#d55e00", "#56b4e9")
MOST_CLASSES = 12  # of a confusion matrix whose cells hold numbers

Run = dict[str, Any]
History = list[dict[str, Any]]


def build(runs: Sequence[str | os.PathLike[str]], out: str | os.PathLike[str]) -> Path:
    """Write the report of one or several runs, whole or not at all.

    Args:
        runs: run folders, each with a `results.json`; `metrics.jsonl` (learning curves),
            `config.json` and `environment.json` are shown where they are there.
        out: the folder to write; an earlier report there is replaced.

    Returns:
        The path of the page, `out/index.html`. The plots lie beside it as PNG files, and are
        also inside the page, which can be moved or mailed alone.

    Raises:
        FileNotFoundError: a run folder without `results.json`.
        FileExistsError: `out` is a file, or a folder that holds something else.
        ValueError: no run, or a file of a run that is not JSON.

    Example:
        ```python
        build(["runs/mnist-kd", "runs/mnist-rkd"], "runs/report")
        ```
    """
    if not runs:
        raise ValueError("`runs` must name at least one run folder.")
    loaded = [_load(Path(run)) for run in runs]
    target = Path(out)
    if target.is_dir() and any(target.iterdir()) and not (target / "index.html").exists():
        raise FileExistsError(f"`out` is a folder that holds something else: {target}")
    if target.exists() and not target.is_dir():
        raise FileExistsError(f"`out` is a file, and a folder is to be written: {target}")
    with whole_folder(target) as folder:
        title = _title(loaded[0]) if len(loaded) == 1 else f"{len(loaded)} runs"
        sections = [page.heading(title, level=1)]
        for number, run in enumerate(loaded, start=1):
            prefix = f"{number}-" if len(loaded) > 1 else ""
            if prefix:
                sections.append(page.heading(f"{run['name']}: {_title(run)}", level=2))
            sections += _section(run, folder, prefix)
        (folder / "index.html").write_text(page.document(title, sections), encoding="utf-8")
    return target / "index.html"


def _section(run: Run, folder: Path, prefix: str) -> list[str]:
    """One run: verdict, table, plots, settings."""
    results = run["results"]
    found = results.get("verdict")
    parts = [
        page.paragraph(_about(run), "about"),
        page.paragraph(verdict(results), "verdict" if found and found["beats"] else "verdict none"),
        page.heading("Comparison on the test split"),
        page.table(lines(results)),
    ]
    for name, heading, caption, figure in _figures(run):
        path = folder / f"{prefix}{name}.png"
        figure.savefig(path, dpi=130, bbox_inches="tight")
        parts += [page.heading(heading), page.image(path, caption)]
    parts += [
        page.heading("How it was made"),
        page.folded("Configuration", run["config"]),
        page.folded("Environment", run["environment"]),
        page.folded("Export", results.get("export")),
    ]
    return [part for part in parts if part]


def _figures(run: Run) -> list[tuple[str, str, str, Figure]]:
    """File name, heading, caption and figure of each plot that the run has numbers for."""
    results, history = run["results"], run["history"]
    models = {k: m for k, m in results["models"].items() if any(s.get("test") for s in m["seeds"])}
    figures = []
    if history:
        caption = "Bold: mean over the seeds, as long as all of them train; thin: each seed. \
The losses of different models are not on one scale."
        figure = _curves(history, _metric(results))
        figures.append(("curves", "Learning curves", caption, figure))
    if models:
        caption = "Test split, all seeds together; a row is a true class, its shade the share of \
the row."
        names = (results.get("task") or {}).get("class_names")
        figures.append(("confusion", "Confusion", caption, _confusions(models, names)))
        caption = "Test split, all seeds together. Below the diagonal a model is more sure than \
right; a larger dot is more examples."
        figures.append(("reliability", "Reliability", caption, _reliability(models)))
    points = [row for row in rows(results) if row["parameters"] and row[_metric(results)]]
    if points:
        caption = "Bars: standard deviation over the seeds. Latency: median of warm inferences of \
one image, on the machine of the run."
        figures.append(("cost", "Quality against cost", caption, _cost(points, _metric(results))))
    return figures


# --- plots --------------------------------------------------------------------------------


def _figure(columns: int, *, width: float = 4.6, height: float = 3.5) -> tuple[Figure, list[Axes]]:
    figure = Figure(figsize=(width * columns, height), layout="constrained")
    axes = figure.subplots(1, columns, squeeze=False)[0]
    for ax in axes:
        ax.spines[["top", "right"]].set_visible(False)
        ax.grid(color="#e7e9eb", linewidth=0.8)
        ax.set_axisbelow(True)
    return figure, list(axes)


def _colour(model: str) -> str:
    return COLOURS.get(model) or OTHERS[sum(model.encode()) % len(OTHERS)]


def _curves(history: History, metric: str) -> Figure:
    """The task's metric on the validation split, and the training loss, by epoch."""
    figure, (left, right) = _figure(2)
    for model in dict.fromkeys(line["model"] for line in history):
        own = [line for line in history if line["model"] == model]
        _curve(left, model, own, lambda line: (line.get("validation") or {}).get(metric))
        _curve(right, model, own, lambda line: line.get("loss"))
    left.set_title(f"validation {QUALITY.get(metric, metric)}", fontsize=10)
    right.set_title("training loss", fontsize=10)
    for ax in (left, right):
        ax.set_xlabel("epoch")
        ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    if left.lines:
        left.legend(frameon=False)
    return figure


def _curve(ax: Axes, model: str, history: History, value: Any) -> None:
    """Thin lines of the seeds, and their mean over the epochs that all of them reached."""
    seeds = [
        {line["epoch"]: value(line) for line in history if line.get("seed") == seed}
        for seed in dict.fromkeys(line.get("seed") for line in history)
    ]
    seeds = [{epoch: y for epoch, y in seed.items() if y is not None} for seed in seeds]
    if len(seeds) > 1:
        for seed in seeds:
            ax.plot(list(seed), list(seed.values()), color=_colour(model), lw=0.8, alpha=0.35)
    shared = sorted(set.intersection(*map(set, seeds)))
    if shared:
        means = [np.mean([seed[epoch] for seed in seeds]) for epoch in shared]
        marker = "o" if len(shared) == 1 else None
        ax.plot(shared, means, color=_colour(model), lw=2, label=model, marker=marker)


def _tests(model: dict[str, Any]) -> list[dict[str, Any]]:
    return [seed["test"] for seed in model["seeds"] if seed.get("test")]


def _confusions(models: dict[str, Any], names: Sequence[str] | None) -> Figure:
    figure, axes = _figure(len(models), width=3.4, height=3.9)
    for ax, (key, model) in zip(axes, models.items(), strict=True):
        counts = np.sum([test["confusion"] for test in _tests(model)], axis=0)
        share = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
        ax.grid(False)
        ax.imshow(share, cmap="Blues", vmin=0.0, vmax=1.0)
        ax.set_title(key, fontsize=10)
        ax.set_xlabel("predicted")
        if len(counts) > MOST_CLASSES:
            continue
        ticks = range(len(counts))
        labels = [str(name).replace("$", r"\$") for name in names or ticks]  # no formula
        long = max(map(len, labels)) > 3
        ax.set_xticks(ticks, labels, rotation=45 if long else 0, ha="right" if long else "center")
        ax.set_yticks(ticks, labels if ax is axes[0] else [""] * len(labels))
        for (row, column), number in np.ndenumerate(counts):
            dark = share[row, column] > 0.5
            colour = "white" if dark else "#1d2329" if number else "#b8bec4"
            size = 11 if len(counts) <= 4 else 7
            ax.text(column, row, number, ha="center", va="center", color=colour, fontsize=size)
    axes[0].set_ylabel("true")
    return figure


def _reliability(models: dict[str, Any]) -> Figure:
    figure, (ax,) = _figure(1, width=4.8, height=3.8)
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
        ax.plot(x, y, color=_colour(key), lw=1.5, alpha=0.8, label=key)
        size = 12 + 150 * total[used] / total.sum()
        ax.scatter(x, y, s=size, color=_colour(key), zorder=3, alpha=0.8, lw=0)
    ax.set(xlim=(0, 1.02), ylim=(0, 1.02), xlabel="confidence", ylabel="accuracy")
    ax.legend(frameon=False, loc="upper left")
    return figure


def _cost(points: list[dict[str, Any]], metric: str) -> Figure:
    """The metric against parameters and against latency, both on a logarithmic axis."""
    axes_of = {"parameters": "parameters", "latency_median_ms": "latency of one image (ms)"}
    known = {k: label for k, label in axes_of.items() if all(p[k] for p in points)}
    figure, axes = _figure(len(known))
    for ax, (key, label) in zip(axes, known.items(), strict=True):
        for point in points:
            value, colour = point[metric], _colour(point["model"])
            ax.errorbar(point[key], value["mean"], yerr=value["std"], fmt="o", ms=8,
                        color=colour, capsize=4, label=point["model"])  # fmt: skip
        ax.set_xscale("log")
        ax.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
        ax.xaxis.set_minor_locator(NullLocator())
        ax.xaxis.set_major_formatter(lambda x, _: count(x))
        ax.margins(x=0.25, y=0.2)
        ax.set_xlabel(label)
    axes[0].set_ylabel(QUALITY.get(metric, metric))
    axes[0].legend(frameon=False)
    return figure


# --- reading ------------------------------------------------------------------------------


def _load(folder: Path) -> Run:
    if not (folder / "results.json").is_file():
        raise FileNotFoundError(f"{folder} is no finished run: it has no results.json.")
    return {
        "name": folder.resolve().name,
        "results": _read(folder / "results.json"),
        "config": _read(folder / "config.json"),
        "environment": _read(folder / "environment.json"),
        "history": _read_lines(folder / "metrics.jsonl"),
    }


def _read(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path} is not JSON: {error}") from error


def _read_lines(path: Path) -> History:
    """The lines of a run's history; one that a crash tore is left out."""
    if not path.is_file():
        return []
    found = path.read_text(encoding="utf-8").split("\n")
    history = []
    for number, line in enumerate(found[:-1], start=1):  # a whole line ends in a line break
        try:
            history.append(json.loads(line))
        except ValueError as error:
            raise ValueError(f"{path}, line {number}, is not JSON: {error}") from error
    return history


def _metric(results: dict[str, Any]) -> str:
    return (results.get("task") or {}).get("metric") or "accuracy"


def _title(run: Run) -> str:
    task = run["results"].get("task") or {}
    what = "Knowledge distillation" if "distilled" in run["results"]["models"] else "Training"
    return f"{what} on {task['name']}" if task else run["name"]


def _about(run: Run) -> str:
    task = run["results"].get("task") or {}
    sizes = [f"{task[k]:,} {k}" for k in ("train", "validation", "test") if k in task]
    facts = [f"Run {run['name']}"]
    facts += [f"{task['classes']} classes"] if "classes" in task else []
    facts += [", ".join(sizes) + " examples"] if sizes else []
    facts += [f"judged by {QUALITY.get(_metric(run['results']), _metric(run['results']))}"]
    facts += [f"data fingerprint {task['fingerprint']}"] if "fingerprint" in task else []
    return " · ".join(facts)
