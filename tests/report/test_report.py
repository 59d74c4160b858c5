"""The report of a run folder, and its table."""

import json
import shutil
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from kd_keras import report
from kd_keras.evaluation import findings
from kd_keras.evaluation.metrics import METRICS
from kd_keras.evaluation.quality import evaluate
from kd_keras.report import tables

NAMES = ("hyperplastic polyp", "<b>serrated</b> & $x$")


def judged(rng, skill, classes):
    labels = np.arange(300) % classes
    teacher = rng.normal(size=(300, classes))
    logits = teacher + rng.normal(size=(300, classes))
    logits[np.arange(300), labels] += skill
    return evaluate(logits, labels, teacher_logits=teacher, resamples=50)


def model(name, parameters, skill, rng, seeds, classes):
    tests = [judged(rng, skill, classes) for _ in range(seeds)]
    summary = {}
    for metric in tests[0].keys() & METRICS.keys():
        values = [test[metric] for test in tests]
        std = float(np.std(values, ddof=1)) if seeds > 1 else None
        summary[metric] = {"mean": float(np.mean(values)), "std": std, "n": seeds}
    cost = {
        "parameters": parameters,
        "flops": 40 * parameters,
        "latency_ms": {
            "1": {"median_ms": parameters / 4e5, "p95_ms": parameters / 3e5},
            "32": {"median_ms": parameters / 2e4, "p95_ms": parameters / 1e4},
        },
        "weight_bytes": 4 * parameters,
    }
    results = [
        {"seed": s, "best_epoch": 5, "epochs": 6, "train_seconds": 2.5, "validation": {}, "test": t}
        for s, t in enumerate(tests)
    ]
    return {"name": name, "cost": cost, "seeds": results, "summary": summary}


def write_run(folder, *, classes=2, seeds=3, beats=True, single=False):
    """A run folder as the recipes write it, with real results on random logits."""
    rng = np.random.default_rng(0)
    folder.mkdir(parents=True)
    models = {
        "teacher": model("resnet50v2", 23_568_898, 3.0, rng, seeds, classes),
        "alone": model("mobilenetv2", 2_260_546, 1.5, rng, seeds, classes),
        "distilled": model("mobilenetv2", 2_260_546, 2.2, rng, seeds, classes),
    }
    if single:
        models = {"model": models["alone"]}
    text = f"{'A gain' if beats else 'No gain'}: 0.84 against 0.80 alone, +0.01 to +0.07."
    names = NAMES if classes == 2 else [str(k) for k in range(classes)]
    results = {
        "task": {
            "name": "mhist", "classes": classes, "class_names": names, "metric": "auc",
            "train": 1849, "validation": 326, "test": 977, "fingerprint": "0123456789abcdef",
            "repeats": [{"count": 1, "sentence": "1 test image is in train too: a is b."}],
        },
        "models": models,
        "export": {"path": "saved_models/student", "format": "saved_model", "bytes": 10_113_485},
        "verdict": None if single else
        {"metric": "accuracy", "gain": 0.04, "by_seed": [0.04] * seeds, "interval": [0.01, 0.07],
         "beats": beats, "text": text},
    }  # fmt: skip
    (folder / "results.json").write_text(json.dumps(results))
    (folder / "config.json").write_text(json.dumps({"method": "kd", "note": "</pre><script>"}))
    (folder / "environment.json").write_text(json.dumps({"keras": "3.15.1", "cpu": "2 cores"}))
    with (folder / "metrics.jsonl").open("w") as file:
        for rate, key in enumerate(models, start=1):
            for seed in range(seeds):
                for epoch in range(1, 7 - seed % 2):
                    value = 1 - np.exp(-rate * epoch / 4) + 0.02 * rng.normal()
                    line = {"seed": seed, "model": key, "epoch": epoch, "loss": 2 - value}
                    file.write(json.dumps({**line, "validation": {"auc": value}}) + "\n")
    return folder


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return write_run(tmp_path_factory.mktemp("runs") / "mhist-kd")


@pytest.fixture(scope="module")
def html(run):
    path = report.build([run], run / "report")
    assert path == run / "report" / "index.html"
    return spaced(path)


def spaced(page):
    """A page's text, its spaces that no narrow screen breaks as any other."""
    return page.read_text(encoding="utf-8").replace("\u00a0", " ")


def test_the_page_says_what_was_found(html, run):
    assert "Data: 1 test image is in train too: a is b." in html
    results = json.loads((run / "results.json").read_text())
    assert "<h1>Knowledge distillation on mhist</h1>" in html
    assert "1,849 train, 326 validation, 977 test examples" in html
    assert f"{results['verdict']['text']}</p>" in html
    for key in ("teacher", "alone", "distilled"):
        accuracy = results["models"][key]["summary"]["accuracy"]
        assert f"{accuracy['mean']:.4f} ± {accuracy['std']:.4f}" in html
    for text in ("23.6 M", "943 MFLOPs", "10.1 MB", "3.15.1", "saved_models/student"):
        assert text.removesuffix("FLOPs") in html


def test_the_plots_lie_beside_the_page_and_inside_it(html, run):
    names = {path.name for path in (run / "report").iterdir()}
    assert names == {"index.html", "curves.png", "confusion.png", "reliability.png", "cost.png"}
    assert html.count('src="data:image/png;base64,') == 4
    for name in names - {"index.html"}:
        with Image.open(run / "report" / name) as image:
            assert np.asarray(image.convert("L")).std() > 5  # something is drawn
            assert min(image.size) > 300


def test_the_page_needs_nothing_else_and_text_cannot_become_markup(html):
    assert "http" not in html
    assert "<script" not in html
    assert "&lt;/pre&gt;&lt;script&gt;" in html


@pytest.mark.slow
def test_several_runs_make_one_page(run, tmp_path):
    other = write_run(tmp_path / "digits", classes=10, seeds=1, beats=False)
    single = write_run(tmp_path / "train", single=True)
    page = report.build([run, other, single], tmp_path / "report").read_text(encoding="utf-8")
    assert page.count('src="data:image/png;base64,') == 12
    assert "mhist-kd: Knowledge distillation on mhist" in page
    assert page.count('<p class="verdict">') == 1
    assert page.count('<p class="verdict none">No gain: 0.84') == 1
    assert (tmp_path / "report" / "2-confusion.png").is_file()
    # an earlier report is replaced
    report.build([single], tmp_path / "report")
    assert not (tmp_path / "report" / "2-confusion.png").exists()


def test_a_run_of_results_alone_is_shown(tmp_path):
    (tmp_path / "bare").mkdir()
    results = {"models": {"model": {"seeds": [{"seed": 0, "best_epoch": 3}]}}}
    (tmp_path / "bare" / "results.json").write_text(json.dumps(results))
    page = report.build([tmp_path / "bare"], tmp_path / "out").read_text(encoding="utf-8")
    assert "<h1>bare</h1>" in page
    assert "<img" not in page


def test_a_torn_last_line_is_left_out_and_a_torn_file_is_named(tmp_path):
    run = write_run(tmp_path / "run", single=True)
    with (run / "metrics.jsonl").open("a") as file:
        file.write('{"seed": 0, "mod')
    report.build([run], tmp_path / "out")
    (run / "metrics.jsonl").write_text('{"seed": 0, "mod\n')
    with pytest.raises(ValueError, match=r"metrics\.jsonl is damaged: line 1: it is not JSON"):
        report.build([run], tmp_path / "out")
    (run / "results.json").write_text("{")
    with pytest.raises(ValueError, match=r"results\.json is damaged: it is not JSON"):
        report.build([run], tmp_path / "out")
    assert (tmp_path / "out" / "index.html").is_file()  # the earlier report stands


def test_what_cannot_be_reported_is_named(run, tmp_path):
    (tmp_path / "unfinished").mkdir()
    with pytest.raises(FileNotFoundError, match="unfinished is not a finished run"):
        report.build([tmp_path / "unfinished"], tmp_path / "out")
    with pytest.raises(ValueError, match="`runs`"):
        report.build([], tmp_path / "out")
    (tmp_path / "site").mkdir()
    (tmp_path / "site/index.html").write_text("<title>mine</title>")
    with pytest.raises(FileExistsError, match="holds something else"):
        report.build([run], tmp_path / "site")
    (tmp_path / "unfinished" / "thesis.txt").write_text("kept")
    with pytest.raises(FileExistsError, match="holds something else"):
        report.build([run], tmp_path / "unfinished")
    with pytest.raises(FileExistsError, match="`out` must be a folder to write"):
        report.build([run], tmp_path / "unfinished" / "thesis.txt")
    assert (tmp_path / "unfinished" / "thesis.txt").read_text() == "kept"
    assert not (tmp_path / "out").exists()


def test_rows_hold_plain_numbers(run):
    results = json.loads((run / "results.json").read_text())
    teacher, alone, distilled = tables.rows(results)
    assert (teacher["model"], teacher["name"], teacher["seeds"]) == ("teacher", "resnet50v2", 3)
    assert alone["auc"] == results["models"]["alone"]["summary"]["auc"]
    assert alone["parameters"] == 2_260_546
    assert (
        alone["latency_median_ms"]
        == results["models"]["alone"]["cost"]["latency_ms"]["1"]["median_ms"]
    )
    assert (teacher["export_bytes"], distilled["export_bytes"]) == (None, 10_113_485)
    # agreement is in no summary here: it comes from the seeds
    values = [seed["test"]["agreement"] for seed in results["models"]["alone"]["seeds"]]
    assert alone["agreement"] == pytest.approx(
        {"mean": np.mean(values), "std": np.std(values, ddof=1), "n": 3}
    )


def test_an_unsure_latency_has_a_question_mark_and_a_reason(run, tmp_path):
    """Runs of earlier versions say nothing of it, as this one does at first."""
    results = json.loads((run / "results.json").read_text())
    assert findings.doubts(results) == []
    assert "?" not in tables.as_text(results)
    reason = "other programs took 40% of the processors while it was measured"
    for role in ("alone", "distilled"):
        results["models"][role]["cost"]["latency_unsure"] = reason
    said = f"? The latency of alone, distilled is unsure: {reason}."
    text = tables.as_text(results)
    assert said in text
    assert text.count(" ms ?") == 4  # one network, two batch sizes, median and 95th percentile
    copy = shutil.copytree(run, tmp_path / "run")
    (copy / "results.json").write_text(json.dumps(results))
    page = spaced(report.build([copy], tmp_path / "page"))
    assert page.count(said) == 1
    # the two are one network, whose latency is shown once
    assert page.count("<td>5.65 ms ?</td>") == 1


def test_text_is_aligned_narrow_and_ends_in_the_verdict(run):
    results = json.loads((run / "results.json").read_text())
    text = tables.as_text(results)
    quality, costs, last = (part.splitlines() for part in text.split("\n\n"))
    assert quality[0].split() == ["teacher", "alone", "distilled"]
    assert last == [results["verdict"]["text"]]
    for table in (quality, costs):
        assert {len(line) for line in table} == {len(table[0])}
        assert len(table[0]) <= 80
    old = {**results, "verdict": {"text": "It helped.", "beats": True, "spread": 0.01}}
    assert tables.as_text(old).endswith(f"It helped. {findings.NOT_KNOWN}")
    # one seed has no spread, and a metric that nobody has is no line
    one = write_run(run.parent / "one", seeds=1, single=True)
    text = tables.as_text(json.loads((one / "results.json").read_text()))
    assert "±" not in text
    assert "gain" not in text
    results["models"]["alone"]["summary"]["auc"] = {"mean": None, "std": None, "n": 0}
    assert tables.rows(results)[1]["auc"] is None


def test_a_text_table_does_not_load_matplotlib():
    script = (
        "import kd_keras.report.tables, sys; "
        "assert not {'matplotlib', 'tensorflow'} & {*sys.modules}"
    )
    subprocess.run([sys.executable, "-c", script], check=True)


# --- sweeps ---


def scores(mean, std=0.004):
    return {"validation": {"mean": mean, "std": std, "n": 3}, "seeds": []}


def write_study(folder):
    """A study, its grid beside the models of an ordinary run."""
    run = write_run(folder)
    results = json.loads((run / "results.json").read_text())
    rows = [
        {"label": f"T={t} alpha={a}", "student": "mlp", "method": "kd", "temperature": float(t),
         "alpha": a, **scores(0.9 + 0.01 * t - 0.02 * a)}
        for t in (1, 2, 4)
        for a in (0.0, 0.5)
    ]  # fmt: skip
    results["sweep"] = {
        "command": "sweep",
        "metric": "auc",
        "chosen": "T=4 alpha=0.0",
        "settings": rows,
        "alone": [{"label": "alone", "student": "mlp", **scores(0.91)}],
        "teacher": scores(0.96, None),
    }
    (run / "results.json").write_text(json.dumps(results))
    history = (run / "metrics.jsonl").read_text()
    (run / "metrics.jsonl").write_text(history.replace('"distilled"', '"T=4 alpha=0.0"'))
    return run


def write_comparison(folder):
    """A comparison of two students and two methods."""
    run = write_run(folder)
    results = json.loads((run / "results.json").read_text())
    rng = np.random.default_rng(1)
    found = {"command": "compare", "metric": "auc", "chosen": "mlp kd", "settings": [], "alone": []}
    found["teacher"] = scores(0.95, None)
    models = {"teacher": results["models"]["teacher"]}
    for number, student in enumerate(("mlp", "mobilenetv2:width=0.5")):
        label = f"{student} alone"
        models[label] = model(student, 10_000 * (1 + 9 * number), 1.5, rng, 3, 2)
        found["alone"].append({"label": label, "student": student, **scores(0.9)})
        for gain, method in enumerate(("kd", "dkd:beta=8")):
            label = f"{student} {method}"
            models[label] = model(student, 10_000 * (1 + 9 * number), 1.8 + gain, rng, 3, 2)
            interval = [0.01 * gain - 0.005, 0.01 * gain + 0.005]
            judged = {"gain": 0.01 * gain, "interval": interval, "beats": bool(gain)}
            judged = {"verdict": judged}
            row = {"label": label, "student": student, "method": method, **judged}
            found["settings"].append({**row, **scores(0.9 + 0.01 * gain)})
    (run / "results.json").write_text(json.dumps({**results, "models": models, "sweep": found}))
    return run


def test_a_study_shows_its_grid_its_curves_and_the_chosen_models(tmp_path):
    run = write_study(tmp_path / "sweep")
    html = spaced(report.build([run], run / "report"))
    assert "<h1>Temperature and alpha on mhist</h1>" in html
    assert {path.name for path in (run / "report").iterdir()} == {
        *("index.html", "sweep.png", "curves.png", "confusion.png", "reliability.png", "cost.png"),
    }
    assert "0.9400 ± 0.0040 *" in html
    assert "student alone 0.9100 ± 0.0040, teacher 0.9600. * is best." in html
    text = tables.as_text(json.loads((run / "results.json").read_text()))
    head, _, *body = text.splitlines()
    assert head.split("  ")[0] == "temperature"
    assert [line.split()[0] for line in body[:3]] == ["1", "2", "4"]
    assert tables.CHOSEN in text


def test_a_study_over_alpha_alone_is_drawn(tmp_path):
    run = write_study(tmp_path / "sweep")
    results = json.loads((run / "results.json").read_text())
    results["sweep"]["settings"] = [
        {**row, "temperature": None}
        for row in results["sweep"]["settings"]
        if row["temperature"] == 4.0
    ]
    (run / "results.json").write_text(json.dumps(results))
    report.build([run], run / "report")
    with Image.open(run / "report/sweep.png") as image:
        assert np.asarray(image.convert("L")).std() > 5
    assert "default" in tables.as_text(results)


def test_a_comparison_is_a_line_a_method_with_its_interval_and_stars_above_zero(tmp_path):
    run = write_comparison(tmp_path / "compare")
    html = report.build([run], run / "report").read_text()
    assert "<h1>Methods and students on mhist</h1>" in html
    assert {path.name for path in (run / "report").iterdir()} == {
        *("index.html", "comparison.png", "cost.png"),
    }
    results = json.loads((run / "results.json").read_text())
    lines = tables.comparison_lines(results)
    assert [line[0] for line in lines[1:]] == [
        *("teacher", "mlp alone", "mlp kd", "mlp dkd:beta=8", "mobilenetv2:width=0.5 alone"),
        *("mobilenetv2:width=0.5 kd", "mobilenetv2:width=0.5 dkd:beta=8"),
    ]
    assert [line[2] for line in lines[1:4]] == ["", "", "+0.0000"]
    assert lines[4][2:4] == ["+0.0100 *", "+0.0050 to +0.0150"]
    assert tables.COMPARED in tables.as_text(results)
    for row in results["sweep"]["settings"]:  # of a run from before there were intervals
        del row["verdict"]["interval"]
    assert tables.comparison_lines(results)[4][2:4] == ["+0.0100 *", "not known"]
    assert tables.COMPARED_BY_SPREAD in tables.as_text(results)
