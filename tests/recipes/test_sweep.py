"""One teacher, many students: traced once, answered once, chosen on validation."""

import dataclasses
import json

import keras
import numpy as np
import pytest
import tensorflow as tf
from tiny_runs import Watcher, lines, same_weights, trial, without_times

from kd_keras import cache, methods
from kd_keras.config import CompareConfig, DistillConfig, SweepConfig
from kd_keras.evaluation import quality
from kd_keras.methods import KD
from kd_keras.recipes import grid, learners, predictions, setup, sweep
from kd_keras.recipes.learners import TrainerPool
from kd_keras.recipes.predictions import Predictor
from kd_keras.recipes.runs import RunFolder
from kd_keras.recipes.training import train
from kd_keras.training.divergence import Diverged


def tiny_sweep(kind, folder, **changes):
    """A sweep over the digits that takes seconds."""
    settings = {
        "teacher": "cnn",
        "teacher_knobs": ("width=0.25",),
        "limit": 100,
        "epochs": 2,
        "batch_size": 16,
        "learning_rate": 3e-3,
        "steps_per_execution": 2,
        "seeds": (0,),
        "out": folder / "run",
    }
    return kind(**{**settings, **changes})


def study(folder, **changes):
    settings = {"student_knobs": ("hidden=8,",), "temperatures": (1.0, 4.0), "alphas": (0.1, 0.5)}
    return tiny_sweep(SweepConfig, folder, **{**settings, **changes})


def compare(folder, **changes):
    settings = {"students": ("mlp:hidden=8,", "lenet5"), "methods": ("kd", "kd:temperature=1")}
    return tiny_sweep(CompareConfig, folder, **{**settings, **changes})


# --- one trace ---


@pytest.mark.slow
def test_six_settings_trace_no_more_than_one(tmp_path, counted):
    counts = []
    for name, temperatures, alphas in (("one", (1.0,), (0.1,)), ("six", (1.0, 2.0, 4.0), (0, 0.5))):
        counted.calls = 0
        config = study(
            tmp_path / name,
            method="counted",
            temperatures=temperatures,
            alphas=alphas,
            seeds=(0, 1),
            epochs=1,
        )
        found = sweep.run(config)
        assert len(found["sweep"]["settings"]) == len(temperatures) * len(alphas)
        counts.append(counted.calls)
    assert counts[0] == counts[1] > 0


class CountedDense(keras.layers.Dense):
    calls = 0

    def call(self, inputs, training=None):
        if tf.inside_function():
            type(self).calls += 1
        return super().call(inputs, training=training)


@pytest.mark.slow
@pytest.mark.parametrize("head_epochs", [0, 1])
def test_the_student_is_traced_in_the_first_training_alone(tmp_path, head_epochs):
    """Each phase of it, and validation."""
    config = study(tmp_path, head_epochs=head_epochs, unfreeze_blocks=1)
    task = setup.load_task(config)
    teacher = setup.build_model("cnn", ("width=0.25",), None, task, 0)

    def new(seed):
        keras.utils.set_random_seed(seed)
        inputs = keras.Input(task.image_shape)
        flat = keras.layers.Flatten()(keras.layers.Rescaling(1 / 255)(inputs))
        hidden = CountedDense(8, activation="relu", name="hidden")(flat)
        return keras.Model(inputs, CountedDense(10, name="logits")(hidden))

    bench, calls = TrainerPool(config, task), []
    with RunFolder(config) as folder:
        for number in range(6):
            student = new(number)
            stage = methods.as_plan(KD(1.0 + number)).stages(methods.Roles(student, teacher))[0]
            before = CountedDense.calls
            train(bench.distilled(f"r{number}", number, stage, 0.1), task, config, folder)
            calls.append(CountedDense.calls - before)
    assert calls[0] > 0
    assert calls[1:] == [0] * 5


# --- the same training ---


@pytest.mark.slow
def test_a_restarted_training_is_that_of_a_fresh_distiller_to_the_last_bit(tmp_path):
    config = study(tmp_path, epochs=3)
    task = setup.load_task(config)
    teacher = setup.build_model("cnn", ("width=0.25",), None, task, 0)

    def new(seed):
        keras.utils.set_random_seed(seed)
        inputs = keras.Input(task.image_shape)
        hidden = keras.layers.Dense(12)(keras.layers.Flatten()(inputs))
        hidden = keras.layers.BatchNormalization()(hidden)
        hidden = keras.layers.Dropout(0.4)(keras.layers.ReLU()(hidden))
        return keras.Model(inputs, keras.layers.Dense(10, name="logits")(hidden))

    def trained(bench, role, seed, temperature, alpha, folder):
        stage = methods.as_plan(KD(temperature)).stages(methods.Roles(new(seed), teacher))[0]
        learner = bench.distilled(role, seed, stage, alpha)
        outcome = train(learner, task, config, folder)
        return learner.model.get_weights(), dataclasses.replace(outcome, seconds=0.0)

    plan = [(0, 4.0, 0.1), (1, 1.0, 0.5), (0, 2.0, 0.0)]
    shared = TrainerPool(config, task)
    with RunFolder(config) as folder:
        for number, (seed, temperature, alpha) in enumerate(plan):
            one = trained(shared, f"shared{number}", seed, temperature, alpha, folder)
            fresh = trained(
                TrainerPool(config, task), f"own{number}", seed, temperature, alpha, folder
            )
            assert one[1] == fresh[1]
            assert same_weights(one[0], fresh[0])


@pytest.mark.slow
def test_a_setting_of_a_study_ends_as_a_run_of_distill_with_its_teacher(studied, tmp_path):
    config, found, _ = studied
    row = next(row for row in found["sweep"]["settings"] if row["label"] == "T=4 alpha=0.1")
    own = {field: getattr(config, field) for field in ("limit", "epochs", "batch_size", "seeds")}
    single = DistillConfig(
        **own,
        learning_rate=config.learning_rate,
        steps_per_execution=2,
        teacher=str(config.folder / "teacher.keras"),
        student_knobs=config.student_knobs,
        temperature=4.0,
        alpha=0.1,
        out=tmp_path / "single",
    )
    outcomes = trial(single)[0].outcomes
    for role, ours in (("distilled", row), ("alone", found["sweep"]["alone"][0])):
        seed = ours["seeds"][0]
        assert outcomes[role].score == seed["validation"]
        assert outcomes[role].best_epoch == seed["best_epoch"]


# --- one teacher, answered once ---


@pytest.mark.slow
def test_the_teacher_answers_once_for_all(compared):
    _, _, opened = compared
    assert len(opened) >= 4  # one per student and method
    assert len({id(stored) for stored in opened}) == 1


@pytest.mark.slow
def test_augmented_views_are_stored_once_for_all_seeds(tmp_path):
    config = study(
        tmp_path,
        augmentation="shift",
        views=2,
        seeds=(0, 1),
        temperatures=(1.0,),
        alphas=(0.0,),
        epochs=3,
        cache_dir=tmp_path / "answers",
    )
    sweep.run(config)
    (folder,) = [path for path in (tmp_path / "answers").iterdir() if path.is_dir()]
    assert json.loads((folder / "meta.json").read_text())["count"] == 2 * 100


# --- the results ---


@pytest.fixture(scope="module")
def studied(tmp_path_factory):
    config = study(tmp_path_factory.mktemp("study"), seeds=(0, 1), alphas=(0.1, 1.0))
    watcher = Watcher()
    return config, sweep.run(config, watcher), watcher


@pytest.fixture(scope="module")
def compared(tmp_path_factory):
    """A comparison of two students by two methods: its config, results, and rows opened."""
    opened, fetch = [], cache.Cache.open

    def counting(self, source, transfer_set):
        stored = fetch(self, source, transfer_set)
        opened.append(stored)
        return stored

    config = compare(tmp_path_factory.mktemp("compare"), seeds=(0, 1))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cache.Cache, "open", counting)
        return config, sweep.run(config), opened


@pytest.mark.slow
def test_a_study_shows_validation_and_judges_the_chosen_on_test(studied):
    config, found, _ = studied
    assert json.loads((config.folder / "results.json").read_text()) == found
    rows = found["sweep"]["settings"]
    best = max(rows, key=lambda row: row["validation"]["mean"])
    assert found["sweep"]["chosen"] == best["label"]
    assert [row["label"] for row in rows if "test" in row] == [best["label"]]
    assert list(found["models"]) == ["teacher", "alone", "distilled"]
    assert found["models"]["teacher"]["summary"]["accuracy"]["n"] == 1
    for key in ("alone", "distilled"):
        assert found["models"][key]["summary"]["accuracy"]["n"] == 2
    assert found["verdict"]["text"].startswith(
        f"Best on validation, of 4 settings: {best['label']}. "
    )
    assert sorted(path.name for path in config.folder.iterdir()) == [
        *("alone.keras", "config.json", "environment.json", "metrics.jsonl"),
        *("predictions.csv", "predictions.npz", "predictions.parquet", "results.json"),
        *("student.keras", "teacher.keras", "thumbnails"),
    ]


def test_the_scores_of_a_study_are_those_of_its_epochs(studied):
    config, found, _ = studied
    entries = lines(config)
    rows = [*found["sweep"]["settings"], found["sweep"]["alone"][0]]
    for row in rows:
        for seed in row["seeds"]:
            own = [
                line["validation"]["accuracy"]
                for line in entries
                if (line["model"], line["seed"]) == (row["label"], seed["seed"])
            ]
            assert len(own) == 2
            assert seed["validation"] == max(own) == own[seed["best_epoch"] - 1]
        assert row["validation"]["mean"] == np.mean([seed["validation"] for seed in row["seeds"]])
    assert [line["model"] for line in entries[:2]] == ["teacher", "teacher"]


def test_every_training_of_a_seed_starts_from_the_same_weights(studied):
    config, _, watcher = studied
    starts = {}
    for seed in (0, 1):
        first = [
            list(watcher.states(role, "begin", seed)[0]["weights"].values())
            for role in ("alone", *(row.label for row in grid.settings(config)))
        ]
        assert all(same_weights(first[0], other) for other in first[1:])
        starts[seed] = first[0]
    assert not same_weights(starts[0], starts[1])


def test_the_saved_student_is_the_chosen_one_of_its_best_seed_beside_the_same_alone(studied):
    config, found, _ = studied
    task = setup.load_task(config)
    student, alone, teacher = (
        Predictor(keras.models.load_model(config.folder / f"{name}.keras", compile=False))(
            task.test
        )
        for name in ("student", "alone", "teacher")
    )
    seeds = {role: found["models"][role]["seeds"] for role in ("distilled", "alone")}
    best = max(seeds["distilled"], key=lambda seed: seed["validation"]["accuracy"])
    its = next(seed for seed in seeds["alone"] if seed["seed"] == best["seed"])
    for logits, entry in ((student, best), (alone, its)):
        judged = quality.evaluate(logits, task.test.labels, teacher_logits=teacher)
        assert judged == entry["test"]


@pytest.mark.slow
def test_test_labels_do_not_choose(studied, tmp_path, monkeypatch):
    config, found, _ = studied
    again = dataclasses.replace(config, out=tmp_path / "run")
    task = setup.load_task(config)
    wrong = dataclasses.replace(task.test, labels=(task.test.labels + 1) % 10)
    monkeypatch.setattr(setup, "load_task", lambda _: dataclasses.replace(task, test=wrong))
    other = sweep.run(again)
    assert other["sweep"]["chosen"] == found["sweep"]["chosen"]
    scores = [
        [without_times(row["seeds"]) for row in x["sweep"]["settings"]] for x in (found, other)
    ]
    assert scores[0] == scores[1]
    assert other["models"]["distilled"]["seeds"] != found["models"]["distilled"]["seeds"]


@pytest.mark.slow
def test_a_comparison_judges_every_row_on_test_beside_its_student_alone(compared):
    config, found, _ = compared
    assert list(predictions.read(config.folder)[1]) == list(found["models"])
    labels = ["mlp:hidden=8, alone", "mlp:hidden=8, kd", "mlp:hidden=8, kd:temperature=1"]
    labels += ["lenet5 alone", "lenet5 kd", "lenet5 kd:temperature=1"]
    assert list(found["models"]) == ["teacher", *labels]
    for row in found["sweep"]["settings"]:
        ours = found["models"][row["label"]]
        alone = found["models"][f"{row['student']} alone"]
        means = [x["summary"]["accuracy"]["mean"] for x in (ours, alone)]
        assert row["test"] == ours["summary"]["accuracy"]
        assert row["verdict"]["gain"] == pytest.approx(means[0] - means[1])
        assert len(row["verdict"]["interval"]) == len(row["verdict"]["by_seed"]) == 2
        assert ours["cost"]["parameters"] == alone["cost"]["parameters"]
        assert all("agreement" in seed["test"] for seed in ours["seeds"])


# --- bad days ---


class Stop(Exception):
    pass


@pytest.mark.slow
def test_a_killed_study_goes_on_and_repeats_nothing(studied, tmp_path, monkeypatch):
    whole, found, _ = studied
    config = dataclasses.replace(whole, out=tmp_path / "run")
    began = []

    def training(learner, *args, **kwargs):
        began.append((learner.role, learner.seed))
        if len(began) == 6:
            raise Stop
        return train(learner, *args, **kwargs)

    monkeypatch.setattr(sweep, "train", training)
    with pytest.raises(Stop):
        sweep.run(config)
    again = sweep.run(config)
    # the teacher's training is asked for again, and found finished
    assert began[6] == ("teacher", 0)
    assert began[7] == began[5]
    assert len(began[7:]) == len(set(began[7:])) == 1 + 2 + 8 - 5
    assert without_times(lines(config)) == without_times(lines(whole))
    assert without_times(again) == without_times(found)


def test_a_finished_sweep_is_not_repeated(studied, monkeypatch):
    config, found, _ = studied
    monkeypatch.setattr(sweep, "train", None)
    assert sweep.run(config) == found


def test_a_setting_that_diverges_is_named(tmp_path):
    config = study(tmp_path, learning_rate=3e38, teacher="lenet5", teacher_knobs=())
    task = setup.load_task(config)
    path = tmp_path / "teacher.keras"
    setup.build_model("lenet5", (), None, task, 0).save(path)
    with pytest.raises(Diverged, match="The training 'alone' diverged"):
        sweep.run(dataclasses.replace(config, teacher=str(path)))


def test_answers_beyond_the_limit_are_refused_before_anything_is_trained(tmp_path):
    with pytest.raises(ValueError, match="more than `limit`=1000 allows"):
        sweep.run(study(tmp_path, cache_limit_gb=1e-6))
    assert not any(tmp_path.iterdir())


@pytest.mark.slow
def test_plans_of_several_stages_train_each_in_its_own_distiller(tmp_path, monkeypatch):
    @dataclasses.dataclass(eq=False)
    class Twice(methods.FitNets):
        """The student learns from the teacher, and then once more."""

        def stages(self, roles):
            stage = methods.Stage("first", roles.student, roles.teacher, KD(), epochs=1)
            return [stage, super().stages(roles)[-1]]

    monkeypatch.setitem(methods.METHODS, "twice", Twice)
    config = study(tmp_path, method="twice", temperatures=(1.0, 2.0), alphas=(0.1,), epochs=1)
    sweep.run(config)
    roles = [line["model"] for line in lines(config)]
    assert roles == [
        *("teacher", "alone", "T=1 alpha=0.1 first", "T=1 alpha=0.1"),
        *("T=2 alpha=0.1 first", "T=2 alpha=0.1"),
    ]


@pytest.mark.slow
def test_a_teacher_from_a_file_teaches_all(tmp_path):
    config = study(tmp_path, teacher=str(tmp_path / "t.keras"), teacher_knobs=(), epochs=1)
    config = dataclasses.replace(config, alphas=(0.1,))
    task = setup.load_task(config)
    setup.build_model("cnn", ("width=0.25",), None, task, seed=5).save(config.teacher)
    found = sweep.run(config)
    assert found["sweep"]["teacher"]["seeds"][0]["epochs"] == 0
    assert "teacher" not in {line["model"] for line in lines(config)}
    assert learners.setup is setup
