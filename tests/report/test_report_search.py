"""What the report of a search shows: its plots, its tables, and what it does with odd trials."""

import json
import math

import numpy as np
import pytest
from PIL import Image
from test_report import write_run

from kd_keras import report
from kd_keras.report import searches, trial_tables


def number(name, low, high, sampling="linear", kind="Float", conditions=()):
    config = {"name": name, "min_value": low, "max_value": high, "sampling": sampling}
    return {"class_name": kind, "config": {**config, "conditions": list(conditions)}}


def choice(name, values, conditions=()):
    config = {"name": name, "values": values, "conditions": list(conditions)}
    return {"class_name": "Choice", "config": config}


def trial(number, score, seconds=10.0, **values):
    row = {"trial": f"{number:04d}", "values": values}
    if score is None:
        return {**row, "status": "FAILED", "message": "Traceback: it diverged"}
    found = {"score": {"mean": score, "std": None, "n": 1}, "epochs": 4, "seconds": seconds}
    return {**row, "status": "COMPLETED", **found}


def search_of(trials, varied, **more):
    scored = [row for row in trials if "score" in row]
    best = max(scored, key=lambda row: row["score"]["mean"])["trial"]
    levels = {"teacher": 0.99, "default": 0.93, "alone": 0.9}
    return {
        "oracle": "random",
        "space": "kd",
        "varied": varied,
        "metric": "accuracy",
        "best": best,
        "failed": len(trials) - len(scored),
        "trials": trials,
        **{role: {"score": {"mean": x, "std": None, "n": 1}} for role, x in levels.items()},
        **more,
    }


KD = [
    number("temperature", 1.0, 64.0, "log"),
    number("alpha", 0.0, 1.0),
    number("learning_rate", 1e-4, 1e-2, "log"),
]


def of_kd(count=20):
    """A search of temperature, alpha and rate: one trial failed, one went wrong."""
    rng = np.random.default_rng(0)
    rows = []
    for k in range(count):
        t, a = 64 ** rng.random(), rng.random()
        score = 0.95 - 0.03 * (math.log(t / 8) / 4) ** 2 - 0.04 * (a - 0.3) ** 2
        score = {3: None, 5: 0.11}.get(k, score)
        rows.append(trial(k, score, temperature=t, alpha=a, learning_rate=1e-3))
    return search_of(rows, KD)


def of_methods():
    """A search of methods, each with knobs of its own: more axes than fit beside each other."""
    names = ["kd", "logit_standardisation", "rkd", "dkd"]
    own = {
        "kd": ["temperature"], "logit_standardisation": ["weight"],
        "rkd": ["distance_weight", "angle_weight"], "dkd": ["temperature", "other_weight"],
    }  # fmt: skip
    varied = [choice("method", names)]
    for name, knobs in own.items():
        varied += [number(f"{name} {k}", 1.0, 64.0, "log", conditions=[{}]) for k in knobs]
    rng, rows = np.random.default_rng(1), []
    for k in range(24):
        name = names[k % 4]
        knobs = {f"{name} {knob}": 64 ** rng.random() for knob in own[name]}
        rows.append(trial(k, 0.9 + 0.05 * rng.random(), method=name, **knobs, alpha=rng.random()))
    return search_of(rows, [*varied, number("alpha", 0.0, 1.0)])


def write_search(folder, search):
    """A finished search's folder, with the epochs of its best trial."""
    run = write_run(folder)
    results = json.loads((run / "results.json").read_text())
    models = results["models"]
    models = {"teacher": models["teacher"], "alone": models["alone"],
              "default": models["alone"], "tuned": models["distilled"]}  # fmt: skip
    (run / "results.json").write_text(json.dumps({**results, "models": models, "search": search}))
    text = (run / "metrics.jsonl").read_text()
    told = text.replace('"distilled"', '"default"')
    told += json.dumps({"seed": 0, "model": "tuned, all data", "epoch": 1, "loss": 1.0}) + "\n"
    (run / "metrics.jsonl").write_text(told)
    own = run / f"search/trial_{search['best']}"
    own.mkdir(parents=True)
    lines = [x for x in text.splitlines(keepends=True) if '"distilled"' in x]
    (own / "metrics.jsonl").write_text("".join(lines).replace('"distilled"', '"trial"'))
    return run


# --- the page ---


@pytest.mark.slow
@pytest.mark.parametrize(
    ("search", "plots"),
    [(of_kd(), {"search", "surface", "parallel"}), (of_methods(), {"search", "parallel"})],
    ids=["kd", "methods"],
)
def test_the_page_of_a_search_shows_its_trials_and_the_judged_models(tmp_path, search, plots):
    run = write_search(tmp_path / "tune", search)
    html = report.build([run], run / "report").read_text()
    assert "<h1>Search for hyper-parameters on mhist</h1>" in html
    usual = {"curves", "confusion", "reliability", "cost"}
    assert {path.stem for path in (run / "report").glob("*.png")} == plots | usual
    for name in plots:
        with Image.open(run / f"report/{name}.png") as image:
            assert np.asarray(image.convert("L")).std() > 5
    assert f"{search['best']} *" in html
    failed = ", 1 of them failed" if search["failed"] else ""
    count = len(search["trials"])
    assert f"Validation accuracy; the best 10 of {count} trials{failed}. * is best." in html
    assert trial_tables.JUDGED in html


def test_the_curves_are_those_of_the_search_and_of_its_best_trial(tmp_path):
    run = write_search(tmp_path / "tune", of_kd())
    history = report.folders.load(run)["history"]
    assert {line["model"] for line in history} == {"teacher", "alone", "default", "tuned"}
    tuned = [line["epoch"] for line in history if line["model"] == "tuned" and line["seed"] == 0]
    assert tuned == [1, 2, 3, 4, 5, 6]


@pytest.mark.slow
def test_the_report_of_a_search_is_drawn_again_from_its_folder(tmp_path):
    run = write_search(tmp_path / "tune", of_kd())
    first = report.build([run], run / "report").read_text()
    (run / "report/surface.png").write_bytes(b"torn")
    assert report.build([run], run / "report").read_text() == first


# --- axes ---


def test_an_axis_places_numbers_by_their_logarithm_where_the_space_does():
    temperature, alpha, _ = map(searches.axis_of, KD)
    assert [temperature.at(x) for x in (1.0, 8.0, 64.0)] == pytest.approx([0.0, 0.5, 1.0])
    assert [alpha.at(x) for x in (0.0, 0.25, 1.0)] == [0.0, 0.25, 1.0]
    assert math.isnan(alpha.at(None))
    places, labels = temperature.ticks()
    assert labels == ["1", "2", "5", "10", "20", "50"]
    assert places[3] == pytest.approx(math.log(10) / math.log(64))
    assert searches.axis_of(KD[2]).ticks()[1] == ["0.0001", "0.0002", "0.0005", "0.001", "0.002",
                                                  "0.005", "0.01"]  # fmt: skip


def test_an_axis_of_choices_has_their_order_and_one_of_truths_two():
    names = searches.axis_of(choice("method", ["rkd", "kd"]))
    assert (names.at("rkd"), names.at("kd")) == (0.25, 0.75)
    assert names.ticks() == ([0.25, 0.75], ["rkd", "kd"])
    truth = searches.axis_of({"class_name": "Boolean", "config": {"name": "bias"}})
    assert truth.at(False) < truth.at(True)


def test_what_is_fixed_or_never_drawn_has_no_axis_and_conditions_come_last():
    search = of_methods()
    search["varied"] += [
        {"class_name": "Fixed", "config": {"name": "alpha", "value": 1.0, "conditions": []}},
        number("never", 0.0, 1.0),
    ]
    names = [axis.name for axis in searches.axes_of(search)]
    assert names[:3] == ["method", "alpha", "kd temperature"]
    assert len(names) == 8


def test_a_trial_that_went_wrong_leaves_room_for_the_others():
    scores = searches._scores(of_kd())
    assert 0.5 < scores.low < 0.95
    assert scores.at(0.11) == 0.0
    assert searches._scores(search_of([trial(0, 0.5, alpha=0.1)], KD)).at(0.5) == 0.5


# --- what is drawn ---


def lines_of(ax, **of):
    return [x for x in ax.lines if all(getattr(x, f"get_{k}")() == v for k, v in of.items())]


def test_the_best_so_far_never_falls_and_a_promoted_trial_pays_for_its_own_epochs():
    rows = [trial(0, 0.8, 60.0, alpha=0.1), trial(1, 0.7, 60.0, alpha=0.2), trial(2, None)]
    rows.append({**trial(3, 0.9, 200.0, alpha=0.1), "goes_on_from": "0000"})
    left, right = searches.progress(search_of(rows, KD)).axes
    for ax, x in ((left, [1, 2, 3, 4]), (right, [1.0, 2.0, 2.0, 2.0 + 140 / 60])):
        (best,) = lines_of(ax, label="best so far")
        np.testing.assert_allclose(best.get_xdata(), x)
        np.testing.assert_allclose(best.get_ydata(), [0.8, 0.8, 0.8, 0.9])
        (failed,) = lines_of(ax, label="failed")
        assert list(failed.get_xdata()) == [x[2]]
    assert right.get_xlabel() == "training time of the trials (min)"
    levels = {"teacher": 0.99, "default setting": 0.93, "student alone": 0.9}
    for name, level in levels.items():
        assert lines_of(left, label=name)[0].get_ydata()[0] == level


def test_a_line_passes_the_axes_its_trial_does_not_have_below_them():
    search = of_methods()
    figure = searches.parallel(search)
    first, second, _ = figure.axes  # two rows, and the colours
    row = search["trials"][0]  # kd
    (line,) = [x for x in first.lines if len(x.get_xdata()) == 5 and x.get_ydata()[1] == (
        pytest.approx(row["values"]["alpha"]))]  # fmt: skip
    assert line.get_ydata()[0] == 0.125
    assert line.get_ydata()[2] == pytest.approx(math.log(row["values"]["kd temperature"], 64))
    assert line.get_ydata()[3] == searches.NOT_USED
    texts = [text.get_text() for text in (*first.texts, *second.texts)]
    assert texts.count("not used") == 6
    assert texts.count("validation\naccuracy") == 2
    assert "logit_standardisation\nweight" in texts


@pytest.mark.parametrize(
    ("places", "filled"),
    [
        ([(1.0, 0.0), (64.0, 0.5), (8.0, 1.0), (8.0, 1.0)], True),
        ([(1.0, 0.0), (8.0, 0.5), (64.0, 1.0)], False),  # on one line
        ([(2.0, 0.5)], False),
    ],
)
def test_a_surface_lies_between_places_that_span_one(places, filled):
    rows = [trial(k, 0.8 + k / 100, temperature=t, alpha=a) for k, (t, a) in enumerate(places)]
    ax = searches.surface(search_of(rows, KD)).axes[0]
    kinds = [type(part).__name__ for part in ax.collections]
    assert ("TriContourSet" in kinds) == filled
    dots = next(part for part in ax.collections if type(part).__name__ == "PathCollection")
    assert len(dots.get_offsets()) == len(set(places))
    assert dots.get_array().max() == 0.8 + (len(places) - 1) / 100  # of equals, the best
    assert [label.get_text() for label in ax.get_xticklabels()][:3] == ["1", "2", "5"]


def test_a_failed_trial_is_a_cross_on_the_surface():
    ax = searches.surface(of_kd()).axes[0]
    (cross,) = lines_of(ax, label="failed")
    values = of_kd()["trials"][3]["values"]
    place = [math.log(values["temperature"], 64), values["alpha"]]
    np.testing.assert_allclose(cross.get_xydata(), [place])
    dots = next(part for part in ax.collections if type(part).__name__ == "PathCollection")
    assert len(dots.get_offsets()) == 19


def test_there_is_no_surface_of_one_hyper_parameter_and_one_of_choices():
    rows = [trial(0, 0.8, temperature=2.0), trial(1, 0.9, temperature=4.0)]
    assert searches.surface(search_of(rows, KD[:1])) is None
    grid = [choice("temperature", [2.0, 4.0]), choice("alpha", [0.0, 0.1, 0.5])]
    rows = [trial(k, 0.8 + k / 100, temperature=t, alpha=a)
            for k, (t, a) in enumerate([(2.0, 0.0), (2.0, 0.5), (4.0, 0.1)])]  # fmt: skip
    dots = searches.surface(search_of(rows, grid)).axes[0].collections[-1]
    np.testing.assert_allclose(dots.get_offsets(), [[0.0, 0.0], [0.0, 1.0], [1.0, 0.2]])


def test_choices_that_double_lie_evenly_on_the_surface_and_are_its_ticks():
    temperatures = [1.0, 2.0, 4.0, 8.0, 16.0]
    grid = [choice("temperature", temperatures), choice("alpha", [0.0, 0.1, 0.5])]
    rows = [trial(k, 0.8, temperature=t, alpha=0.1) for k, t in enumerate(temperatures)]
    ax = searches.surface(search_of(rows, grid)).axes[0]
    np.testing.assert_allclose(ax.get_xticks(), [0.0, 0.25, 0.5, 0.75, 1.0], atol=1e-12)
    assert [label.get_text() for label in ax.get_xticklabels()] == ["1", "2", "4", "8", "16"]
    np.testing.assert_allclose(ax.get_yticks(), [0.0, 0.2, 1.0])
