"""A report made from run folders alone: one HTML page, with its plots as PNG files beside it."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from kd_keras.evaluation import findings, metrics
from kd_keras.recipes.runs import REPORT
from kd_keras.report import (
    examples,
    html,
    overview,
    plots,
    searches,
    sweeps,
    thresholds,
    trial_tables,
)
from kd_keras.report.folders import History, Run, load
from kd_keras.report.tables import (
    CHOSEN,
    baselines,
    class_lines,
    compared,
    comparison_lines,
    cost_lines,
    operating_lines,
    quality_lines,
    rows,
    sweep_lines,
)
from kd_keras.utils.files import is_ours, whole_folder


def build(runs: Sequence[str | os.PathLike[str]], out: str | os.PathLike[str]) -> Path:
    """Write the report of one or several runs, whole or not at all.

    Args:
        runs: run folders, each with a `results.json`; `metrics.jsonl` (learning curves),
            `config.json` and `environment.json` are shown if present. Several runs begin with a
            table of all of them.
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
    html.check_folder(target)
    with whole_folder(target, ours=REPORT) as folder:
        page = _of_one(loaded[0], folder) if len(loaded) == 1 else _of_many(loaded, folder)
        (folder / "index.html").write_text(page, encoding="utf-8")
    return target / "index.html"


def _of_one(run: Run, folder: Path) -> str:
    title = _title(run)
    sections = [html.heading(title, level=1), *_section(run, folder, "")]
    return html.document(title, sections, wide=_is_comparison(run["results"]))


def _of_many(runs: Sequence[Run], folder: Path) -> str:
    title = f"{len(runs)} runs"
    titles = {f"run-{n}": f"{run['name']}: {_title(run)}" for n, run in enumerate(runs, start=1)}
    sections = [
        html.heading(title, level=1, anchor="top"),
        overview.table(runs, list(titles)),
        html.heading("Contents"),
        html.contents(titles),
    ]
    for number, (run, (anchor, own)) in enumerate(zip(runs, titles.items(), strict=True), start=1):
        sections += [html.heading(own, level=2, anchor=anchor), html.link("All runs", "top")]
        sections += _section(run, folder, f"{number}-")
    return html.document(title, sections, wide=True)


def _section(run: Run, folder: Path, prefix: str) -> list[str]:
    """Return the section of one run: findings, tables, plots, settings."""
    results = run["results"]
    found = results.get("verdict")
    good = "verdict" if found and found["beats"] else "verdict none"
    name = (results.get("task") or {}).get("name")
    conclusion, causes = findings.parted(results)
    parts = [
        html.paragraph(_about(run), "about"),
        *(html.paragraph(f"Data: {line}", "about") for line in _repeats(results)),
        html.paragraph(conclusion, good),
        html.points(causes, "findings"),
        *_tables(results),
    ]
    for plot, heading, caption, figure in _figures(run):
        path = folder / f"{prefix}{plot}.png"
        assert is_ours(path.name, REPORT), f"{plot} must be in `runs.PLOTS`: else it stays for ever"
        plots.titled(figure, f"{heading}: {name}" if name else heading)
        figure.savefig(path, dpi=130, bbox_inches="tight")
        parts += [html.heading(heading), html.image(path, caption)]
        parts += _thresholds(results) if plot == "thresholds" else []
    parts += [
        *_classes(results),
        *examples.sections(run),
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
            html.table(quality_lines(results)),
            html.paragraph(trial_tables.JUDGED, "about"),
            *_costs(results),
        ]
    if found is None:
        return [test, html.table(quality_lines(results)), *_costs(results)]
    if _is_comparison(results):
        return [
            test,
            html.table(comparison_lines(results)),
            html.paragraph(compared(results), "about"),
            *(html.paragraph(doubt, "about") for doubt in findings.doubts(results)),
        ]
    return [
        html.heading("Every setting on validation"),
        html.table(sweep_lines(results)),
        html.paragraph(baselines(results), "about"),
        html.heading("The chosen setting on the test split"),
        html.table(quality_lines(results)),
        html.paragraph(CHOSEN, "about"),
        *_costs(results),
    ]


def _costs(results: dict[str, Any]) -> list[str]:
    """Return the table of costs, each network once."""
    lines = cost_lines(results)
    if not lines:
        return []
    return [
        html.heading("Cost of each network"),
        html.table(lines),
        *(html.paragraph(doubt, "about") for doubt in findings.doubts(results)),
    ]


def _thresholds(results: dict[str, Any]) -> list[str]:
    """Return the table of the thresholds that were chosen on validation, for two classes."""
    models = _shown(results)
    lines = operating_lines(models)
    if not lines:
        return []
    positive = next(m["operating"]["positive"] for m in models.values() if "operating" in m)
    return [
        html.table(lines),
        html.paragraph(thresholds.CHOSEN.format(positive=positive), "about"),
    ]


def _classes(results: dict[str, Any]) -> list[str]:
    """Return a table per model with a row per class, the last model's open."""
    names = (results.get("task") or {}).get("class_names")
    found = {key: class_lines(model, names) for key, model in _shown(results).items()}
    found = {key: lines for key, lines in found.items() if lines}
    if not found:
        return []
    about = "Test split, at the class of the largest logit; the mean over the seeds."
    return [
        html.heading("By class"),
        html.paragraph(about, "about"),
        *(
            html.behind(key, html.table(lines), shown=key == list(found)[-1])
            for key, lines in found.items()
        ),
    ]


def _shown(results: dict[str, Any]) -> dict[str, Any]:
    """Return the models that are shown one by one: of a comparison, those of the chosen row."""
    models, found = results["models"], results.get("sweep")
    if found is None or not _is_comparison(results):
        return models
    chosen = next(row for row in found["settings"] if row["label"] == found["chosen"])
    alone = next(row for row in found["alone"] if row["student"] == chosen["student"])
    return {key: models[key] for key in ("teacher", alone["label"], chosen["label"])}


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
    if not _is_comparison(results):
        caption = "Validation split. Points: mean over the seeds; bars and bands: standard \
deviation. Dashed: the student trained alone, and the teacher."
        return [("sweep", "Temperature and alpha", caption, sweeps.temperatures(found))]
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
        caption = "Test split; a row is a true class, and its cells are the shares of its images, \
in percent, that each class is predicted for: the mean over the seeds."
        names = (results.get("task") or {}).get("class_names")
        figures.append(("confusion", "Confusion", caption, plots.confusions(models, names)))
        caption = "Test split, all seeds together. Below the diagonal a model is overconfident; \
a larger dot stands for more examples."
        figures.append(("reliability", "Reliability", caption, plots.reliability(models)))
    scores = run["scores"]
    if scores is not None and thresholds.drawable(scores):
        positive = results["task"]["class_names"][1]
        figure = thresholds.curves(scores, _shown(results))
        caption = f"{thresholds.ABOUT} Positive is {positive!r}."
        figures.append(("thresholds", "ROC, precision and recall", caption, figure))
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
    """Return the epochs of the models in the results; of a sweep's settings, the chosen one's."""
    found = run["results"].get("sweep")
    if found is None or _is_comparison(run["results"]):
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
        compared = _is_comparison(run["results"])
        what = "Methods and students" if compared else "Temperature and alpha"
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
