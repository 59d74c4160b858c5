"""What the page says first, of several runs, by class, at thresholds, and in pictures."""

import json
import re
import shutil

import numpy as np
import pytest
from PIL import Image
from test_report import model, write_comparison, write_run, write_study

from kd_keras import report
from kd_keras.evaluation import operating
from kd_keras.recipes import stored_predictions
from kd_keras.recipes.stored_predictions import Scores
from kd_keras.report import overview, plots, tables, thresholds
from kd_keras.report.folders import load


def change(run, **entries):
    """Add entries to a run's results."""
    results = json.loads((run / "results.json").read_text())
    (run / "results.json").write_text(json.dumps({**results, **entries}))
    return run


def write_scores(run, *, validation=True):
    """Give a run of two classes its probabilities, and the thresholds that follow."""
    rng, labels = np.random.default_rng(0), np.arange(120) % 2
    roles = ("teacher", "alone", "distilled")
    keys = [(role, seed) for role in roles for seed in (0, 1, 2)]

    def scores():
        drawn = {role: {} for role in roles}
        for role, seed in keys:
            drawn[role][seed] = 1 / (1 + np.exp(-rng.normal(2.0 * labels - 1, 1.5)))
        return drawn

    held = Scores(labels, scores(), labels if validation else None, scores() if validation else {})
    stored_predictions.write(run, labels, {key: labels.astype("uint8") for key in keys}, held)
    results = json.loads((run / "results.json").read_text())
    for role in roles if validation else ():
        points = []
        for seed, own in held.test[role].items():
            chosen = operating.youden(labels == 1, held.validation[role][seed])
            points.append({"seed": seed, **operating.at(chosen, labels == 1, own)})
        results["models"][role]["operating"] = {
            "positive": "<b>serrated</b> & $x$", "seeds": points, **operating.over_seeds(points),
        }  # fmt: skip
    (run / "results.json").write_text(json.dumps(results))
    return run


def write_pictures(run):
    """Give a run two pictures, of which one file is gone."""
    (run / "thumbnails").mkdir()
    Image.new("L", (8, 8), 200).save(run / "thumbnails/errors-01.png")
    told = {"label": "<i>cat</i>", "image": "cat/<1>.png",
            "predicted": {"distilled": ["dog", 0.987], "teacher": ["cat", 0.6]}}  # fmt: skip
    shown = [{"file": f"thumbnails/errors-0{k}.png", **told} for k in (1, 2)]
    return change(run, examples={"student": "distilled", "errors": shown, "disagreements": []})


# --- first the findings ---


def test_the_findings_stand_above_all_tables_and_at_the_end_of_the_text(tmp_path):
    said = ["It helped: +0.04.", "The teacher is <bad>.", "Validation has 60 images."]
    run = change(write_run(tmp_path / "run"), findings=said)
    page = report.build([run], tmp_path / "out").read_text()
    points = '<ul class="findings"><li>The teacher is &lt;bad&gt;.</li><li>Validation has 60 '
    assert page.index('<p class="verdict">') < page.index(points) < page.index("<table>")
    results = json.loads((run / "results.json").read_text())
    text = tables.as_text(results)
    assert text.endswith("\n\n" + "\n".join(said[1:]) + "\n\n" + said[0])


# --- several runs ---


@pytest.fixture(scope="module")
def several(tmp_path_factory):
    root = tmp_path_factory.mktemp("several")
    runs = [
        write_run(root / "mhist-kd"),
        write_run(root / "<digits>", classes=10, seeds=1, beats=False),
        write_run(root / "train", single=True),
        write_study(root / "study"),
        write_comparison(root / "compare"),
    ]
    bare = root / "bare"
    bare.mkdir()
    bare.joinpath("results.json").write_text(
        json.dumps({"models": {"model": {"seeds": [{"seed": 0, "best_epoch": 3}]}}})
    )
    return [*runs, bare]


@pytest.fixture(scope="module")
def cells(several):
    titles = [title for title, *_ in overview.HEADS]
    return {
        run.name: dict(zip(titles, overview.cells(load(run), "run-1"), strict=True))
        for run in several
    }


def test_a_line_of_the_overview_is_the_run_in_numbers(several, cells):
    results = json.loads((several[0] / "results.json").read_text())
    line = cells["mhist-kd"]
    assert (line["data"].text, line["data"].small) == ("mhist", "AUC")
    assert (line["teacher"].text, line["student"].text) == ("resnet50v2", "mobilenetv2")
    assert line["method"].text == "kd"
    for role, title in (("teacher", "score of the teacher"), ("alone", "score alone")):
        entry = results["models"][role]
        assert line[title].value == pytest.approx(entry["summary"]["auc"]["mean"])
        low = np.mean([seed["test"]["intervals"]["auc"][0] for seed in entry["seeds"]])
        assert line[title].small.startswith(f"{low:.4f} to ")
    assert line["difference"].text == "+0.0400 *"
    assert line["difference"].small == "+0.0100 to +0.0700"
    assert line["parameters"].value == 2_260_546


def test_what_a_run_has_not_is_an_empty_cell(cells):
    trained, bare = cells["train"], cells["bare"]
    assert (trained["student"].text, trained["teacher"].text) == ("mobilenetv2", "")
    assert trained["score alone"].value is not None
    for name in ("score of the teacher", "score distilled", "difference"):
        assert (trained[name].text, trained[name].value) == ("", None)
        assert bare[name].text == ""


def test_a_sweep_is_shown_by_its_chosen_setting(cells):
    assert cells["study"]["method"].text == "T=4 alpha=0.0"
    chosen = cells["compare"]
    assert (chosen["method"].text, chosen["student"].text) == ("kd", "mlp")
    assert chosen["score alone"].value is not None


@pytest.mark.slow
def test_several_runs_begin_with_their_table_and_lead_to_their_sections(several, tmp_path):
    page = report.build(several[:3], tmp_path / "out").read_text()
    assert page.index('id="overview"') < page.index('id="run-1"') < page.index('id="run-3"')
    for number, name in enumerate(("mhist-kd", "&lt;digits&gt;", "train"), start=1):
        assert page.count(f'href="#run-{number}">{name}') == 2  # in the table and the contents
        assert page.count(f'<h2 id="run-{number}">') == 1
    assert "<digits>" not in page
    assert page.count('href="#top"') == 3
    assert page.count("<script>") == 1
    assert "http" not in page


def test_an_early_difference_has_no_interval(several, tmp_path):
    run = shutil.copytree(several[0], tmp_path / "early")
    verdict = {"text": "It helped.", "beats": True, "gain": 0.02, "spread": 0.01}
    cell = overview.cells(load(change(run, verdict=verdict)), "a")[8]
    assert (cell.text, cell.small) == ("+0.0200 *", "interval not known")
    verdict = {"text": "It helped.", "beats": True}
    assert overview.cells(load(change(run, verdict=verdict)), "a")[8].text == ""


# --- by class, at thresholds, in pictures ---


def test_rows_by_class_up_to_twenty_of_them():
    rng = np.random.default_rng(0)
    few = model("mlp", 10, 2.0, rng, 2, 3)
    head, *lines = tables.class_lines(few, ["a", "b", "c"])
    assert head == ["class", "precision", "recall", "F1", "support"]
    assert [line[0] for line in lines] == ["a", "b", "c"]
    assert [line[-1] for line in lines] == ["100", "100", "100"]
    recalls = [seed["test"]["balanced_accuracy"] for seed in few["seeds"]]
    assert np.mean([float(line[2]) for line in lines]) == pytest.approx(np.mean(recalls), abs=1e-4)
    assert len(tables.class_lines(model("mlp", 10, 2.0, rng, 1, 20), None)) == 21
    assert tables.class_lines(model("mlp", 10, 2.0, rng, 1, 21), None) == []
    assert tables.class_lines({"seeds": [{"seed": 0}]}, None) == []


def test_a_run_of_two_classes_has_curves_and_its_thresholds(tmp_path):
    run = write_scores(write_run(tmp_path / "run"))
    page = report.build([run], run / "report").read_text()
    assert (run / "report/thresholds.png").is_file()
    assert "Youden&#x27;s J, 1950" in page
    assert "Wilson 1927" in page
    assert "<b>serrated" not in page
    point = json.loads((run / "results.json").read_text())["models"]["alone"]["operating"]
    assert f"<td>{tables.between(point['sensitivity']['interval'])}</td>" in page
    assert f"{point['seeds'][0]['threshold']:.3f}, {point['seeds'][1]['threshold']:.3f}, " in page


def test_without_validation_there_are_curves_alone(tmp_path):
    run = write_scores(write_run(tmp_path / "run"), validation=False)
    page = report.build([run], run / "report").read_text()
    assert (run / "report/thresholds.png").is_file()
    assert "Youden" not in page


@pytest.mark.parametrize("ties", [False, True])
def test_the_area_under_the_drawn_curve_is_the_auc(ties):
    rng, positive = np.random.default_rng(0), np.arange(400) % 2 == 1
    scores = rng.normal(size=400) + positive
    steps = operating.Steps.of(positive, np.round(scores, 1) if ties else scores)
    exact = np.trapezoid(steps.sensitivity, steps.false_alarm_rate)
    drawn = np.trapezoid(thresholds._roc(steps), thresholds.GRID)
    assert drawn == pytest.approx(exact, abs=4e-3)
    precision = thresholds._precision_recall(steps)
    for share, place in ((0.5, 250), (1.0, -1)):
        reached = steps.sensitivity[1:] >= share - 1e-9
        assert precision[place] == steps.precision[1:][reached][0]


def test_pictures_are_on_the_page_and_a_lost_file_is_left_out(tmp_path):
    run = write_pictures(write_run(tmp_path / "run", seeds=1))
    page = report.build([run], tmp_path / "out").read_text()
    (shown,) = re.findall(r'<div class="pictures">.*?</div>', page, re.DOTALL)
    assert shown.count("data:image/png;base64,") == 1
    assert "is &lt;i&gt;cat&lt;/i&gt;" in shown
    assert "distilled: dog (0.99)" in shown
    assert "image cat/&lt;1&gt;.png" in shown
    assert "The worst errors of the distilled student" in page
    assert "disagree most" not in page


# --- the plots ---


def test_an_axis_shows_five_points_at_least():
    figure, (narrow, wide) = plots.new_figure(2)
    narrow.plot([0, 1], [0.970, 0.972])
    wide.plot([0, 1], [0.2, 0.9])
    before = wide.get_ylim()
    for ax in (narrow, wide):
        plots.keep_range(ax)
    low, high = narrow.get_ylim()
    assert high - low == pytest.approx(0.05)
    assert (low + high) / 2 == pytest.approx(0.971)
    assert wide.get_ylim() == before
    figure.clear()


def test_shares_in_percent_never_round_a_mistake_away():
    assert [plots._percent(share, 0) for share in (0.0, 0.001, 0.5, 0.999, 1.0)] == [
        *("·", "<1", "50", "99", "100"),
    ]
    assert plots._percent(0.9999, 1) == "99.9"
