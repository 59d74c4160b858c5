"""A search from its config to its results."""

import csv
import dataclasses
import json
import math
import statistics
from pathlib import Path

import keras
import numpy as np
import pytest
from clocks import untimed

from kd_keras import cache
from kd_keras.data.task import without_validation
from kd_keras.evaluation import quality
from kd_keras.recipes import setup
from kd_keras.recipes.predictions import Predictor
from kd_keras.recipes.runs import OURS
from kd_keras.report import trial_tables
from kd_keras.utils.files import is_ours
from tuning.outcome import frame, read
from tuning.run import run
from tuning.tuner import Tuner


def make(folder, **changes):
    from tuning.config import TuneConfig

    settings = {
        "teacher_knobs": ("width=0.25",),
        "student_knobs": ("hidden=8,",),
        "limit": 100,
        "epochs": 3,
        "batch_size": 16,
        "learning_rate": 3e-3,
        "steps_per_execution": 2,
        "seeds": (0, 1),
        "out": folder / "run",
    }
    return TuneConfig(**{**settings, **changes})


@pytest.fixture(scope="module")
def searched(tmp_path_factory):
    """Three random trials of two executions, and the four ways out."""
    config = make(tmp_path_factory.mktemp("search"), trials=3, executions_per_trial=2, seed=3)
    return config, run(config)


# --- what comes out ---


@pytest.mark.slow
def test_methods_that_train_several_networks_end_without_validation(tmp_path):
    """All of the data are learned from at the end, and no validation is left for any training."""
    knobs = ("generations=2",)
    config = make(
        tmp_path, space="methods=born_again", method="born_again", method_knobs=knobs, trials=1,
        epochs=1, seeds=(0,),
    )  # fmt: skip
    found = run(config)
    for role in ("default", "tuned"):
        (seed,) = found["models"][role]["seeds"]
        assert 0 <= seed["test"]["accuracy"] <= 1


@pytest.mark.slow
def test_the_results_hold_every_trial_and_the_best(searched):
    config, found = searched
    assert json.loads((config.folder / "results.json").read_text()) == found
    search = found["search"]
    assert [row["trial"] for row in search["trials"]] == ["0000", "0001", "0002"]
    assert search["failed"] == 0
    scores = {row["trial"]: row["score"]["mean"] for row in search["trials"]}
    assert scores[search["best"]] == max(scores.values())
    assert list(found["models"]) == ["teacher", "alone", "default", "tuned"]
    for role in ("alone", "default", "tuned"):
        assert [seed["seed"] for seed in found["models"][role]["seeds"]] == [0, 1]
    assert {path.name for path in config.folder.iterdir()} == {
        *("config.json", "environment.json", "metrics.jsonl", "results.json", "trials.csv"),
        *("search", "tensorboard", "predictions.npz", "student.keras", "teacher.keras"),
        "alone.keras",
        *("predictions.csv", "predictions.parquet", "thumbnails"),
    }
    assert all(is_ours(path.name, OURS) for path in config.folder.iterdir())


@pytest.mark.slow
def test_the_score_of_a_trial_is_the_mean_of_the_best_epochs_of_its_executions(searched):
    config, found = searched
    for row in found["search"]["trials"]:
        text = (config.folder / f"search/trial_{row['trial']}/metrics.jsonl").read_text()
        lines = [json.loads(line) for line in text.splitlines()]
        own = {seed: [] for seed in (3, 4)}
        for line in lines:
            own[line["seed"]].append(line["validation"]["accuracy"])
        best = [max(values) for values in own.values()]
        assert [len(values) for values in own.values()] == [3, 3]
        assert [one["score"] for one in row["executions"]] == best
        assert row["score"] == {"mean": statistics.fmean(best), "std": statistics.stdev(best),
                                "n": 2}  # fmt: skip
        kept = json.loads((config.folder / f"search/trial_{row['trial']}/trial.json").read_text())
        assert kept["score"] == row["score"]["mean"]
        assert kept["status"] == "COMPLETED"


def test_the_frame_the_file_and_the_results_say_the_same(searched):
    config, found = searched
    table = read(config.folder)
    assert table.equals(frame(found["search"]["trials"]))
    assert list(table.columns) == [
        *("trial", "status", "temperature", "alpha", "learning_rate"),
        *("score", "std", "executions", "epochs", "best_epoch", "seconds"),
    ]
    with (config.folder / "trials.csv").open() as file:
        lines = list(csv.DictReader(file))
    for line, row in zip(lines, found["search"]["trials"], strict=True):
        assert (line["trial"], line["status"], line["epochs"]) == (row["trial"], "COMPLETED", "3")
        assert float(line["score"]) == row["score"]["mean"]
        assert float(line["temperature"]) == row["values"]["temperature"]


def test_the_tuned_student_is_trained_on_all_but_test_for_its_best_epochs(searched):
    config, found = searched
    search = found["search"]
    best = next(row for row in search["trials"] if row["trial"] == search["best"])
    for role, entry in (
        ("tuned", best),
        ("default", search["default"]),
        ("alone", search["alone"]),
    ):
        epochs = max(1, round(entry["best_epoch"]))
        assert [seed["epochs"] for seed in found["models"][role]["seeds"]] == [epochs, epochs]
    lines = [json.loads(x) for x in (config.folder / "metrics.jsonl").read_text().splitlines()]
    final = [line for line in lines if line["model"] == "tuned, all data"]
    assert len(final) == 2 * round(best["best_epoch"])
    assert all("validation" not in line for line in final)


def test_the_saved_student_is_the_tuned_one_of_the_first_seed(searched):
    config, found = searched
    task = setup.load_task(config)
    models = [
        keras.models.load_model(config.folder / f"{name}.keras", compile=False)
        for name in ("student", "teacher")
    ]
    ours, theirs = (Predictor(model)(task.test) for model in models)
    judged = quality.evaluate(ours, task.test.labels, teacher_logits=theirs)
    assert judged == found["models"]["tuned"]["seeds"][0]["test"]


@pytest.mark.slow
def test_test_labels_choose_nothing(searched, tmp_path, monkeypatch):
    config, found = searched
    load = setup.load_task

    def wrong(config, **how):
        task = load(config, **how)
        labels = (task.test.labels + 1) % 10
        return dataclasses.replace(task, test=dataclasses.replace(task.test, labels=labels))

    monkeypatch.setattr(setup, "load_task", wrong)
    other = run(dataclasses.replace(config, out=tmp_path / "run"))
    assert untimed(other["search"]) == untimed(found["search"])
    for role in ("alone", "default", "tuned"):
        ours, theirs = (x["models"][role]["seeds"][0] for x in (found, other))
        assert ours["epochs"] == theirs["epochs"]
        assert ours["test"]["accuracy"] != theirs["test"]["accuracy"]


def test_the_text_shows_the_best_and_what_tuning_was_worth(searched):
    _, found = searched
    text = trial_tables.as_text(found)
    lines = text.splitlines()
    assert lines[0].split() == ["trial", "score", "epochs", "temperature", "alpha", "learning_rate"]
    assert lines[2].startswith(f"{found['search']['best']} * ")
    gain = [found["models"][k]["summary"]["accuracy"]["mean"] for k in ("tuned", "default")]
    assert f"accuracy {gain[0] - gain[1]:+.4f} against the default setting" in lines[-1]
    assert f"Best on validation, of 3 trials: {found['search']['best']}, temp" in lines[-1]


# --- one teacher ---


@pytest.mark.slow
def test_the_teacher_answers_once_for_all_trials_on_disk(tmp_path, monkeypatch):
    built = []
    build = cache.build._build

    def counting(request, folder, limit):
        built.append(folder)
        build(request, folder, limit)

    monkeypatch.setattr(cache.build, "_build", counting)
    monkeypatch.setattr(cache.build, "in_memory", None)
    config = make(tmp_path, trials=3, epochs=1, seeds=(0,), space="student", seed=2)
    found = run(config)
    students = {row["values"]["student"] for row in found["search"]["trials"]}
    assert students == {"mlp", "cnn"}
    assert len(built) == 2  # on train, and on train and validation
    assert all(folder.parent == config.folder / "work" / "answers" for folder in built)


SPACE = "def space(hp):\n    return {'alpha': hp.Float('alpha', 0.2, 0.5) * 1.0}\n"


@pytest.fixture(scope="module")
def by_files(tmp_path_factory):
    """The config of a search whose teacher and space are files."""
    folder = tmp_path_factory.mktemp("files")
    files = {"teacher": str(folder / "t.keras"), "space": f"{folder / 'mine.py'}:space"}
    config = make(folder, **files, teacher_knobs=(), epochs=1, trials=1, seeds=(0,))
    task = setup.load_task(config)
    setup.build_model("cnn", ("width=0.25",), None, task, seed=5).save(config.teacher)
    (folder / "mine.py").write_text(SPACE)
    run(config)
    return config


@pytest.mark.slow
def test_a_teacher_from_a_file_is_not_trained(by_files):
    config = by_files
    lines = [json.loads(x) for x in (config.folder / "metrics.jsonl").read_text().splitlines()]
    assert {line["model"] for line in lines} == {
        *("alone", "default"),
        *("alone, all data", "default, all data", "tuned, all data"),
    }


# --- oracles ---


@pytest.fixture(scope="module")
def by_auc(tmp_path_factory):
    """A search by another objective: its config and results; its best two when it was through."""
    search, kept = Tuner.search, []

    def watched(tuner):
        search(tuner)
        kept.extend([tuner.get_best_models(2), tuner.oracle.get_best_trials(2), tuner])

    config = make(tmp_path_factory.mktemp("auc"), trials=2, objective="auc", seeds=(0,))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Tuner, "search", watched)
        return config, run(config), kept


@pytest.mark.slow
def test_another_objective_chooses_epochs_and_trials(by_auc):
    config, found, _ = by_auc
    assert found["search"]["metric"] == found["task"]["metric"] == "auc"
    text = (config.folder / "search/trial_0000/metrics.jsonl").read_text()
    lines = [json.loads(line)["validation"] for line in text.splitlines()]
    assert found["search"]["trials"][0]["score"]["mean"] == max(line["auc"] for line in lines)


@pytest.mark.slow
def test_hyperband_promotes_by_going_on(tmp_path):
    """`test_tune_resume.py` compares the same search by several processes."""
    words = {"oracle": "hyperband", "epochs": 2, "factor": 2, "seeds": (0,), "limit": 64, "seed": 1}
    config = make(tmp_path / "one", **words)
    found = run(config)
    values = {
        path.parent.name: json.loads(path.read_text())["values"]
        for path in config.folder.glob("search/*/outcome.json")
    }
    promoted = {name: v for name, v in values.items() if "tuner/trial_id" in v}
    assert promoted
    rows = {f"trial_{row['trial']}": row for row in found["search"]["trials"]}
    for name, value in promoted.items():
        past = config.folder / f"search/trial_{value['tuner/trial_id']}/metrics.jsonl"
        lines = (config.folder / f"search/{name}/metrics.jsonl").read_text()
        assert lines.startswith(past.read_text())  # to the clock's last digit
        assert rows[name]["epochs"] == lines.count("\n") == 2
    assert {row["status"] for row in rows.values()} == {"COMPLETED"}


@pytest.mark.slow
def test_the_best_models_are_models_of_their_own(by_auc):
    config, _, (models, trials, tuner) = by_auc
    task = setup.load_task(config)
    assert models[0] is not models[1]
    for model, trial in zip(models, trials, strict=True):
        logits = Predictor(model.student)(task.validation)
        assert quality.score("auc", logits, task.validation.labels) == trial.score
    with pytest.raises(FileNotFoundError, match="the run is finished"):
        tuner.get_best_models()


# --- bad days ---


def half_bad(hp):
    """Learning rates of which some make every loss infinite."""
    rate = hp.Choice("learning_rate", [1e-3, 3e38, 2e-3])
    return {"learning_rate": rate}


@pytest.mark.slow
def test_a_grid_ends_where_it_is_through_and_a_failing_trial_is_reported(tmp_path, caplog):
    config = make(tmp_path, oracle="grid", epochs=1, seeds=(0,), student="lenet5", student_knobs=())
    config = dataclasses.replace(config, learning_rate=1e-3)
    with caplog.at_level("INFO", logger="kd_keras.tuning"):
        found = run(config, space=half_bad)
    rows = found["search"]["trials"]
    assert [row["values"]["learning_rate"] for row in rows] == [1e-3, 3e38, 2e-3]
    # the first is the default setting, trained with the same seed
    assert rows[0]["score"] == found["search"]["default"]["score"]
    assert [row["status"] for row in rows] == ["COMPLETED", "FAILED", "COMPLETED"]
    assert found["search"]["failed"] == 1
    assert "Diverged: The training 'trial' diverged" in rows[1]["message"]
    tuning = [record for record in caplog.records if record.name == "kd_keras.tuning"]
    said = [record.getMessage() for record in tuning]
    failed = next(k for k, text in enumerate(said) if "failed" in text)
    assert said[failed].startswith("trial 0001 failed, with learning_rate=3e+38\nTraceback")
    assert said[failed + 1].startswith("trial 0002: ")  # said when it failed, not at the end
    assert "3 trials, 1 of them failed" in trial_tables.as_text(found)
    table = frame(rows)
    assert math.isnan(table["score"][1])
    assert table["status"].tolist() == ["COMPLETED", "FAILED", "COMPLETED"]


@pytest.mark.slow
def test_three_failures_in_a_row_end_the_search_and_it_can_go_on(tmp_path):
    config = make(tmp_path, trials=5, epochs=1, seeds=(0,))

    def never(hp):
        return {"learning_rate": hp.Float("learning_rate", 2e38, 3e38)}

    lenet = dataclasses.replace(config, student="lenet5", student_knobs=())
    with pytest.raises(RuntimeError, match=r"(?s)consecutive failures exceeded.*diverged"):
        run(lenet, space=never)
    assert not (lenet.folder / "results.json").exists()
    with pytest.raises(RuntimeError, match="consecutive failures"):
        run(lenet, space=never)


def test_a_finished_search_is_not_repeated_and_other_settings_are_refused(searched, monkeypatch):
    config, found = searched
    monkeypatch.setattr(Tuner, "search", None)
    assert run(config) == found
    with pytest.raises(FileExistsError, match=r"run with other settings \(trials\)"):
        run(dataclasses.replace(config, trials=2))
    with pytest.raises(FileExistsError, match=r"run with other settings \(epochs, trials\)"):
        run(dataclasses.replace(config, trials=4, epochs=4))
    with pytest.raises(FileExistsError, match=r"run with other settings \(digest of space\)"):
        run(config, space=lambda hp: {"alpha": hp.Float("alpha", 0.0, 0.5)})


@pytest.mark.slow
def test_the_same_hyper_parameters_that_mean_something_else_are_another_space(by_files):
    config = by_files
    Path(config.space.removesuffix(":space")).write_text(SPACE.replace("1.0", "2.0"))
    with pytest.raises(FileExistsError, match=r"run with other settings \(digest of space\)"):
        run(config)


# --- train and validation ---


def test_without_validation_nothing_is_lost(tmp_path):
    task = setup.load_task(make(tmp_path, limit=None))
    whole = without_validation(task)
    assert len(whole.validation) == 0
    count = len(task.train)
    np.testing.assert_array_equal(whole.train.images[:count], task.train.images)
    np.testing.assert_array_equal(whole.train.labels[count:], task.validation.labels)
    assert whole.test is task.test
    assert whole.fingerprint != task.fingerprint
