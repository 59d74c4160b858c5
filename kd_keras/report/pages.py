"""A report made from run folders alone: one HTML page, with its plots as PNG files beside it."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from kd_keras.evaluation import metrics
from kd_keras.recipes.runs import REPORT
from kd_keras.report import html, plots, searches, sweeps, trial_tables
from kd_keras.report.folders import History, Run, load
from kd_keras.report.tables import (
    CHOSEN,
    baselines,
    compared,
    comparison_lines,
    doubts,
    lines,
    rows,
    study_lines,
    verdict,
)
from kd_keras.utils.files import is_ours, whole_folder


def build(runs: Sequence[str | os.PathLike[str]], out: str | os.PathLike[str]) -> Path:
    """Write the report of one or several runs, whole or not at all.

    Args:
        runs: run folders, each with a `results.json`; `metrics.jsonl` (learning curves),
            `config.json` and `environment.json` are shown if present.
        out: the folder to write; an earlier report there is replaced. Other files in it stay.

    Returns:
        The path of the page, `out/index.html`. The plots are PNG files beside it, and also
        embedded, so that the page can be moved or mailed alone.

    Raises:
        FileNotFoundError: a run folder has no `results.json`.
        FileExistsError: `out` is a file, or a folder that holds something else.
        ValueError: `runs` is empty, or a file of a run is not JSON.

    Example:
        ```python
        build(["runs/mnist-kd", "runs/mnist-rkd"], "runs/report")
        ```
    """
    if not runs:
        raise ValueError("`runs` must name at least one run folder.")
    loaded = [load(Path(run)) for run in runs]
    target = Path(out)
    if target.is_dir() and not _is_report(target):
        raise FileExistsError(f"`out` is a folder that holds something else: {target}")
    if target.exists() and not target.is_dir():
        raise FileExistsError(f"`out` must be a folder to write, but it is a file: {target}")
    with whole_folder(target, ours=REPORT) as folder:
        title = _title(loaded[0]) if len(loaded) == 1 else f"{len(loaded)} runs"
        sections = [html.heading(title, level=1)]
        for number, run in enumerate(loaded, start=1):
            prefix = f"{number}-" if len(loaded) > 1 else ""
            if prefix:
                sections.append(html.heading(f"{run['name']}: {_title(run)}", level=2))
            sections += _section(run, folder, prefix)
        (folder / "index.html").write_text(html.document(title, sections), encoding="utf-8")
    return target / "index.html"


def _is_report(folder: Path) -> bool:
    """Return True if a folder holds a report, or no visible files."""
    path = folder / "index.html"
    if path.is_file():
        return html.MADE_BY in path.read_text(encoding="utf-8", errors="replace")
    return all(entry.name.startswith(".") for entry in folder.iterdir())


def _section(run: Run, folder: Path, prefix: str) -> list[str]:
    """Return the section of one run: verdict, table, plots, settings."""
    results = run["results"]
    found = results.get("verdict")
    parts = [
        html.paragraph(_about(run), "about"),
        *(html.paragraph(f"Data: {line}", "about") for line in _repeats(results)),
        html.paragraph(verdict(results), "verdict" if found and found["beats"] else "verdict none"),
        *_tables(results),
        html.paragraph(doubts(results), "about"),
    ]
    for name, heading, caption, figure in _figures(run):
        path = folder / f"{prefix}{name}.png"
        assert is_ours(path.name, REPORT), f"{name} must be in `runs.PLOTS`: else it stays for ever"
        figure.savefig(path, dpi=130, bbox_inches="tight")
        parts += [html.heading(heading), html.image(path, caption)]
    parts += [
        html.heading("How it was made"),
        html.folded("Configuration", run["config"]),
        html.folded("Environment", run["environment"]),
        html.folded("Export", results.get("export")),
    ]
    return [part for part in parts if part]


def _tables(results: dict[str, Any]) -> list[str]:
    found, test = results.get("sweep"), html.heading("Comparison on the test split")
    if results.get("search") is not None:
        return [
            html.heading("Trials on validation"),
            html.table(trial_tables.lines(results)),
            html.paragraph(trial_tables.baselines(results), "about"),
            test,
            html.table(lines(results)),
            html.paragraph(trial_tables.JUDGED, "about"),
        ]
    if found is None:
        return [test, html.table(lines(results))]
    if _is_comparison(results):
        return [
            test,
            html.table(comparison_lines(results)),
            html.paragraph(compared(results), "about"),
        ]
    return [
        html.heading("Every setting on validation"),
        html.table(study_lines(results)),
        html.paragraph(baselines(results), "about"),
        html.heading("The chosen setting on the test split"),
        html.table(lines(results)),
        html.paragraph(CHOSEN, "about"),
    ]


def _search_figures(results: dict[str, Any]) -> list[tuple[str, str, str, Figure]]:
    """Return the figures that only a search has, shown before those of all runs."""
    search = results.get("search")
    if search is None:
        return []
    caption = "Validation split. A dot is a trial; the line is the best of those so far. Dashed: \
the default setting, the student alone and the teacher. Time is that of all trainings together."
    drawn = [("search", "The search", caption, searches.progress(search))]
    surface = searches.surface(search)
    if surface is not None:
        caption = "Validation split. Points: trials; between them the metric is interpolated \
linearly. Whatever else varied is not shown: of several trials at one point, the best is."
        drawn.append(("surface", "Temperature and alpha", caption, surface))
    if searches.axes_of(search):
        caption = "Validation split. A line is a trial, from its hyper-parameters to its score; \
the best is orange. An axis spans the space. Failed trials are not shown."
        drawn.append(("parallel", "All that varied", caption, searches.parallel(search)))
    return drawn


def _sweep_figures(results: dict[str, Any]) -> list[tuple[str, str, str, Figure]]:
    """Return the figures that only a sweep has, shown before those of all runs."""
    found = results.get("sweep")
    if found is None:
        return []
    if found["command"] == "study":
        caption = "Validation split. Points: mean over the seeds; bars and bands: standard \
deviation. Dashed: the student trained alone, and the teacher."
        return [("study", "Temperature and alpha", caption, sweeps.study(found))]
    caption = "Test split. Small dots: seeds; large ones: their mean; bars: standard deviation. \
Dashed: the teacher."
    return [("comparison", "Methods and students", caption, sweeps.comparison(results))]


def _figures(run: Run) -> list[tuple[str, str, str, Figure]]:
    """Return file name, heading, caption and figure of each plot that the run has data for."""
    results, history = run["results"], _history(run)
    models = {k: m for k, m in results["models"].items() if any(s.get("test") for s in m["seeds"])}
    figures = [*_search_figures(results), *_sweep_figures(results)]
    many = _is_comparison(results)
    if many:  # the plots below are unreadable with so many models
        models, history = {}, []
    if history:
        caption = "Bold: mean over the seeds, as long as all of them train; thin: each seed. \
The losses of different models are not on one scale."
        figure = plots.curves(history, _metric(results))
        figures.append(("curves", "Learning curves", caption, figure))
    if models:
        caption = "Test split, all seeds together; a row is a true class, its shade the share of \
the row."
        names = (results.get("task") or {}).get("class_names")
        figures.append(("confusion", "Confusion", caption, plots.confusions(models, names)))
        caption = "Test split, all seeds together. Below the diagonal a model is overconfident; \
a larger dot stands for more examples."
        figures.append(("reliability", "Reliability", caption, plots.reliability(models)))
    points = sweeps.points(results) if many else rows(results)
    points = [row for row in points if row["parameters"] and row[_metric(results)]]
    if points:
        caption = "Bars: standard deviation over the seeds. Latency: median of warm inferences of \
one image, on the machine of the run."
        figures.append(
            ("cost", "Quality against cost", caption, plots.cost(points, _metric(results)))
        )
    return figures


def _history(run: Run) -> History:
    """Return the epochs of the models in the results; of a study's settings, the chosen one's."""
    found = run["results"].get("sweep")
    if found is None or found["command"] != "study":
        return run["history"]
    shown = {"teacher": "teacher", "alone": "alone", found["chosen"]: "distilled"}
    return [
        {**line, "model": shown[line["model"]]} for line in run["history"] if line["model"] in shown
    ]


def _is_comparison(results: dict[str, Any]) -> bool:
    return (results.get("sweep") or {}).get("command") == "compare"


def _metric(results: dict[str, Any]) -> str:
    return (results.get("task") or {}).get("metric") or "accuracy"


def _title(run: Run) -> str:
    task = run["results"].get("task") or {}
    what = "Knowledge distillation" if "distilled" in run["results"]["models"] else "Training"
    found = run["results"].get("sweep")
    if found is not None:
        study = found["command"] == "study"
        what = "Temperature and alpha" if study else "Methods and students"
    if "search" in run["results"]:
        what = "Search for hyper-parameters"
    return f"{what} on {task['name']}" if task else run["name"]


def _repeats(results: dict[str, Any]) -> list[str]:
    """Return the results' sentences on duplicate images."""
    found = (results.get("task") or {}).get("repeats", [])  # older runs did not check
    return [repeat["sentence"] for repeat in found]


def _about(run: Run) -> str:
    task = run["results"].get("task") or {}
    sizes = [f"{task[k]:,} {k}" for k in ("train", "transfer", "validation", "test") if k in task]
    facts = [f"Run {run['name']}"]
    facts += [f"{task['classes']} classes"] if "classes" in task else []
    facts += [", ".join(sizes) + " examples"] if sizes else []
    facts += [f"evaluated by {metrics.title(_metric(run['results']))}"]
    facts += [f"data fingerprint {task['fingerprint']}"] if "fingerprint" in task else []
    return " · ".join(facts)
