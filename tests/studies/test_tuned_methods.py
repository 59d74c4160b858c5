"""Methods that are tuned: the same budget for each, and what is said of them beside plain kd."""

import dataclasses

import numpy as np
import pytest

from kd_keras import methods
from kd_keras.config import StudyConfig
from kd_keras.recipes import stored_predictions
from kd_keras.recipes.results import spread
from kd_keras.studies import mnist, tuned_methods

LABELS = np.arange(400) % 10
WRONG = {  # predictions of 400, by method and role
    "kd": {"alone": 120, "default": 80, "tuned": 100},
    "rkd": {"alone": 120, "default": 80, "tuned": 10},
}
SCORES = {"kd": {"default": 0.8, "tuned": 0.7}, "rkd": {"default": 0.8, "tuned": 0.9}}


def test_every_method_on_mnist_has_the_same_budget_and_teacher():
    study = StudyConfig(study="mnist", seeds=(0, 1))
    planned = mnist.METHODS.planned(study)
    assert str(planned["teacher"]) == str(mnist._grid(study)["teacher"])
    searches = [config for name, config in planned.items() if name != "teacher"]
    assert len(searches) == len(set(methods.METHODS.values()))
    own = {"space": "kd", "method": "kd", "method_knobs": (), "cache_dir": None}
    (same,) = {dataclasses.replace(config, **own) for config in searches}
    assert (same.trials, same.student, same.student_knobs) == (4, "mlp", ("hidden=784,784",))
    assert planned["method-kd"].cache_dir == planned["method-dkd"].cache_dir
    assert planned["method-rkd"].cache_dir is None


def test_tuning_keeps_the_default_if_no_trial_is_better_on_validation():
    assert tuned_methods.chosen("kd", results("kd")).role == "default"
    choice = tuned_methods.chosen("rkd", results("rkd"))
    assert (choice.role, choice.score, choice.values) == ("tuned", 0.9, "weight=2, alpha=0.5")


def results(name):
    """The results of a search."""
    score = {role: {"score": {"mean": value}} for role, value in SCORES[name].items()}
    values = {"method": name, f"{name} weight": 2.0, "alpha": 0.5}
    trial = {"status": "COMPLETED", "trial": "0", "values": values, **score["tuned"]}
    accuracy = {role: spread([1 - wrong / 400]) for role, wrong in WRONG[name].items()}
    models = {role: {"summary": {"accuracy": value}} for role, value in accuracy.items()}
    return {
        "search": {
            "trials": [trial], "default": score["default"], "alone": {"score": {"mean": 0.6}},
        },
        "models": {"teacher": models["default"], **models},
    }  # fmt: skip


def predicted(wrong, seed):
    """Predictions of which some are wrong, other ones for each seed."""
    return (LABELS + (np.random.default_rng(seed).permutation(len(LABELS)) < wrong)) % 10


@pytest.fixture
def section(tmp_path):
    """The section of a study whose searches have ended, one of them by an error."""
    study = StudyConfig(study="mnist", seeds=(0, 1, 2), smoke=True, out=tmp_path)
    for name in ("kd", "rkd", "at"):
        folder = study.run_folder(tuned_methods.run_of(name))
        folder.mkdir(parents=True)
        (folder / "results.json").touch()  # known to fit
        wrong = WRONG.get(name, {}).items()
        kept = {(role, seed): predicted(n, seed) for role, n in wrong for seed in study.seeds}
        stored_predictions.write(folder, LABELS, kept)

    def runs(name, **changes):
        if name == "method-at":
            raise RuntimeError("Three trials failed.\nTraceback ...\nDiverged: the loss is NaN.")
        return {} if name == "teacher" else results(name.removeprefix("method-"))

    return mnist.METHODS.make(study, runs)


def test_those_that_beat_tuned_kd_are_counted_and_named(section):
    count, over_kd, by_chance, best = section.reading
    assert count.startswith("Of 2 methods, 2 beat the student alone")
    assert over_kd.startswith("1 of 1 other methods beat tuned kd by a 95 % interval: rkd.")
    assert "about 0.025 of these intervals" in by_chance
    assert best.startswith("rkd is best on validation.")
    assert [plot.name for plot in section.plots] == ["gains", "over-kd"]


def test_the_rival_is_kd_at_its_best_on_validation(section):
    table, left = section.tables
    rows = {row[0]: row for row in table.rows}
    assert {len(row) for row in table.rows} == {len(table.columns)}
    assert list(rows) == ["teacher", "student alone", "rkd", "kd"]  # in the order of validation
    assert rows["rkd"][6].startswith("+0.1750 (")  # 80 wrong by default, and not the 100
    assert rows["kd"][4:] == (rows["kd"][2], rows["kd"][3], "-", "default")
    assert left.rows == (("at", "Its search failed: Diverged: the loss is NaN."),)
