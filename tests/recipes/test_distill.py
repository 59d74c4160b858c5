"""The whole comparison: what a run leaves, and that it is fair."""

import dataclasses
import json

import keras
import numpy as np
import pytest
from tiny_runs import Watcher, lines, same_weights, tiny, trial, without_times

from kd_keras import export, report
from kd_keras.data import images
from kd_keras.evaluation import cost, quality
from kd_keras.recipes import distill, setup
from kd_keras.recipes.predictions import Predictor
from kd_keras.recipes.runs import OURS, RunFolder
from kd_keras.recipes.training import Outcome
from kd_keras.training.divergence import Diverged
from kd_keras.utils.files import is_ours

ROLES = ["teacher", "alone", "distilled"]


def test_an_export_that_could_not_be_written_is_refused_before_the_training(tmp_path):
    config = tiny(tmp_path / "run")
    assert (
        distill._target(dataclasses.replace(config, format="onnx", export=None)).suffix == ".onnx"
    )
    wrong = dataclasses.replace(config, format="litert", export=tmp_path / "student")
    with pytest.raises(ValueError, match=r"`path` must end in \.tflite|needs ai_edge_litert"):
        distill.run(wrong)
    half = dataclasses.replace(
        wrong, export=tmp_path / "student.tflite", precision="mixed_bfloat16"
    )
    with pytest.raises(ValueError, match=r"compute in bfloat16|needs ai_edge_litert"):
        distill.run(half)
    assert list(tmp_path.iterdir()) == []


# --- what a run leaves ---


@pytest.mark.slow
def test_the_run_folder_holds_the_promised_files_and_nothing_else(finished):
    config, found, _ = finished
    assert sorted(path.name for path in config.folder.iterdir()) == [
        "alone.keras",
        "config.json",
        "environment.json",
        "metrics.jsonl",
        "predictions.csv",
        "predictions.npz",
        "predictions.parquet",
        "results.json",
        "student.keras",
        "teacher.keras",
        "thumbnails",
    ]
    assert all(is_ours(path.name, OURS) for path in config.folder.iterdir())
    assert json.loads((config.folder / "results.json").read_text()) == found
    settings = json.loads((config.folder / "config.json").read_text())
    assert (settings["kind"], settings["seeds"], settings["limit"]) == (
        "DistillConfig",
        [0, 1],
        100,
    )
    # without the optimizer, which would make it three times as large
    size = (config.folder / "teacher.keras").stat().st_size
    assert size < 2 * found["models"]["teacher"]["cost"]["weight_bytes"] + 40_000


@pytest.mark.slow
def test_a_line_for_every_epoch_of_every_model_in_order(finished):
    config, _, _ = finished
    entries = lines(config)
    want = [(s, role, e) for s in (0, 1) for role in ROLES for e in (1, 2, 3)]
    assert [(line["seed"], line["model"], line["epoch"]) for line in entries] == want
    for line in entries:
        assert 0 <= line["validation"]["accuracy"] <= 1
        parts = {"loss", "student_loss", "distillation_loss"}
        assert parts & set(line) == (parts if line["model"] == "distilled" else {"loss"})


@pytest.mark.slow
def test_the_results_hold_every_role_with_its_seeds_costs_and_agreement(finished):
    config, found, _ = finished
    assert list(found["models"]) == ROLES
    for role, entry in found["models"].items():
        assert entry["name"] == ("cnn" if role == "teacher" else "mlp")
        assert [seed["seed"] for seed in entry["seeds"]] == [0, 1]
        assert entry["summary"]["accuracy"]["n"] == 2
        tests = [seed["test"] for seed in entry["seeds"]]
        assert all(test["examples"] == 100 for test in tests)
        assert entry["summary"]["nll"]["mean"] == pytest.approx(np.mean([t["nll"] for t in tests]))
        assert all(("agreement" in test) == (role != "teacher") for test in tests)
        scores = {
            (line["seed"], line["epoch"]): line["validation"]["accuracy"]
            for line in lines(config)
            if line["model"] == role
        }
        for seed in entry["seeds"]:
            best = max(v for (s, _), v in scores.items() if s == seed["seed"])
            assert seed["validation"] == {"accuracy": best}
            assert scores[seed["seed"], seed["best_epoch"]] == best
            assert (seed["epochs"], seed["train_seconds"] > 0) == (3, True)
    assert found["models"]["alone"]["cost"]["parameters"] == 64 * 8 + 8 + 8 * 10 + 10
    assert found["verdict"]["metric"] == "accuracy"
    assert found["task"]["train"] == found["task"]["test"] == 100


@pytest.mark.slow
def test_the_saved_models_are_those_of_the_seed_best_on_validation(finished):
    config, found, _ = finished
    seeds = found["models"]["distilled"]["seeds"]
    best = max(seeds, key=lambda seed: seed["validation"]["accuracy"])
    assert found["export"]["seed"] == best["seed"]
    task = setup.load_task(config)
    student, teacher = (
        keras.models.load_model(config.folder / f"{name}.keras", compile=False)
        for name in ("student", "teacher")
    )
    theirs = Predictor(teacher)(task.test)
    logits = Predictor(student)(task.test)
    judged = quality.evaluate(logits, task.test.labels, teacher_logits=theirs)
    assert judged == best["test"]
    assert cost.parameters(student) == found["models"]["distilled"]["cost"]["parameters"]
    answers = export.predict(config.export_folder, task.test.images)
    np.testing.assert_allclose(answers["logits"], logits, atol=1e-4)
    names = config.export_folder / "assets.extra/class_names.json"
    assert json.loads(names.read_text()) == [str(digit) for digit in range(10)]


@pytest.mark.slow
def test_the_same_seeds_give_the_same_run_and_test_labels_decide_nothing(
    finished, tmp_path, monkeypatch
):
    first, found, _ = finished
    config = dataclasses.replace(first, out=tmp_path / "run", export=tmp_path / "student")
    task = setup.load_task(config)
    wrong = dataclasses.replace(task.test, labels=(task.test.labels + 1) % 10)
    monkeypatch.setattr(setup, "load_task", lambda _: dataclasses.replace(task, test=wrong))
    again = distill.run(config)
    assert without_times(lines(config)) == without_times(lines(first))
    assert again["export"]["seed"] == found["export"]["seed"]
    for name in ("student", "teacher"):
        models = [
            keras.models.load_model(run.folder / f"{name}.keras", compile=False)
            for run in (first, config)
        ]
        assert same_weights(*models)
    for role in ROLES:
        for one, two in zip(
            found["models"][role]["seeds"], again["models"][role]["seeds"], strict=True
        ):
            assert one["best_epoch"] == two["best_epoch"]
            assert one["validation"] == two["validation"]
            assert one["test"]["confusion"] != two["test"]["confusion"]


# --- that it is fair ---


@pytest.mark.slow
def test_alone_and_distilled_start_from_the_same_weights(finished):
    _, _, watcher = finished
    starts = {}
    for seed in (0, 1):
        alone, distilled = (
            watcher.states(role, "begin", seed)[0]["weights"].values()
            for role in ("alone", "distilled")
        )
        assert same_weights(list(alone), list(distilled))
        starts[seed] = list(alone)
    assert not same_weights(starts[0], starts[1])


@pytest.mark.slow
def test_with_the_labels_alone_the_distilled_student_is_the_student_alone(tmp_path):
    # the same start, the same batches in the same order, the same budget: alpha=1 leaves nothing
    # that could differ but the way the same loss is computed
    done, _ = trial(tiny(tmp_path, alpha=1.0, epochs=2))
    alone, distilled = (done.models[role].get_weights() for role in ("alone", "distilled"))
    for one, two in zip(alone, distilled, strict=True):
        np.testing.assert_allclose(one, two, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("augmentation", "views"),
    [("none", None), ("shift", None), ("crop+rotate=20+cutout+randaugment=1x5", 2)],
)
def test_teacher_and_student_see_the_same_pixels(tmp_path, augmentation, views):
    """A student that is its teacher, and hardly moves, has a distillation loss of zero."""
    config = tiny(
        tmp_path,
        augmentation=augmentation,
        views=views,
        cache_dir=tmp_path / "answers",
        teacher=str(tmp_path / "twin.keras"),
        teacher_knobs=(),
        alpha=0.0,
        epochs=2,
        learning_rate=1e-9,
    )
    task = setup.load_task(config)
    setup.build_model("mlp", config.student_knobs, None, task, seed=0).save(config.teacher)
    done, _ = trial(config, task=task)
    losses = [line["distillation_loss"] for line in lines(config) if line["model"] == "distilled"]
    assert len(losses) == 2
    np.testing.assert_allclose(losses, 0, atol=1e-9)
    if augmentation != "shift":  # else the teacher runs at every step
        (stored,) = (tmp_path / "answers").glob("*/meta.json")
        assert json.loads(stored.read_text())["count"] == (views or 1) * len(task.train)
    assert done.outcomes["teacher"].epochs == 0
    if augmentation != "none":
        return
    # of another seed it is no twin
    trial(dataclasses.replace(config, out=tmp_path / "other"), task=task, seed=1)
    other = lines(dataclasses.replace(config, out=tmp_path / "other"))
    assert min(line["distillation_loss"] for line in other if "distillation_loss" in line) > 1e-4


@pytest.mark.slow
def test_pixels_in_memory_in_a_file_and_decoded_at_every_epoch_give_the_same_run(
    tmp_path, drawings, monkeypatch
):
    runs = []
    for name, kind in (("memory", np.ndarray), ("file", np.memmap), ("lazy", type(None))):
        if name == "file":
            monkeypatch.setattr(images, "available_memory", lambda: 0)
        if name == "lazy":
            monkeypatch.setattr(setup, "decoded_once", lambda split, **_: split)
        config = tiny(
            tmp_path / name,
            task="folder",
            data_dir=drawings,
            limit=None,
            epochs=2,
            teacher="lenet5",
            teacher_knobs=(),
        )
        task = setup.load_task(dataclasses.replace(config, cache_dir=tmp_path / "cache"))
        for split in (task.train, task.validation, task.test):
            assert type(split.images) is kind
        done, _ = trial(config, task=task)
        assert images.pixels_of(task.test.rows(np.arange(5))).shape == (5, 32, 32, 3)
        runs.append((done, without_times(lines(config))))
    assert len([*(tmp_path / "cache").glob("*/")]) == 3
    (memory, said), *others = runs
    for done, same in others:
        assert said == same
        for role in ROLES:
            assert same_weights(memory.models[role], done.models[role])


# --- schedules ---


@pytest.mark.slow
def test_alpha_and_temperature_move_linearly_over_all_epochs(tmp_path):
    config = tiny(
        tmp_path,
        head_epochs=1,
        epochs=4,
        alpha=0.0,
        alpha_end=1.0,
        temperature=8.0,
        temperature_end=2.0,
    )
    _, watcher = trial(config)
    states = watcher.states("distilled", "epoch")
    assert [s["alpha"] for s in states] == pytest.approx([0, 0.25, 0.5, 0.75, 1])
    assert [s["temperature"] for s in states] == pytest.approx([8, 6.5, 5, 3.5, 2])
    # the loss is mixed by the alpha of its epoch
    for s in states:
        logs, alpha = s["logs"], s["alpha"]
        mixed = alpha * logs["student_loss"] + (1 - alpha) * logs["distillation_loss"]
        assert logs["loss"] == pytest.approx(mixed, rel=1e-4)


def test_a_temperature_that_only_ends_begins_with_the_methods_default(tmp_path):
    config = tiny(tmp_path, temperature_end=1.0)
    method = setup.plan(config, epochs=4).loss
    seen = []
    for epoch in range(4):
        method.on_epoch_begin(epoch)
        seen.append(method.temperature)
    assert seen == pytest.approx([4, 3, 2, 1])
    assert setup.plan(tiny(tmp_path), epochs=4).loss.temperature == 4.0
    assert setup.alpha(tiny(tmp_path), epochs=4) == 0.1


# --- transfer learning ---


@pytest.mark.slow
def test_the_head_learns_on_a_frozen_backbone_whose_statistics_never_move(tmp_path, drawings):
    config = tiny(
        tmp_path,
        task="folder",
        data_dir=drawings,
        limit=None,
        teacher="lenet5",
        teacher_knobs=(),
        student="resnet8",
        student_knobs=(),
        head_epochs=1,
        epochs=1,
        batch_size=8,
        class_weights=True,
        learning_rate=1e-3,
        head_learning_rate=1e-2,
    )
    _, watcher = trial(config)
    for role in ("alone", "distilled"):
        begin, after_head, tuning, last = watcher.log[f"seed 0: {role}"]
        assert [begin["rate"], tuning["rate"]] == pytest.approx([1e-2, 1e-3])
        assert {path.split("/")[0] for path in begin["trainable"]} == {"logits"}
        first, second, third = (s["weights"] for s in (begin, after_head, last))
        moved = {path for path in first if not np.array_equal(first[path], second[path])}
        assert moved == {"logits/kernel", "logits/bias"}
        statistics = [path for path in first if "moving_" in path]
        assert len(statistics) > 10  # `test_mhist_smoke.py` has a larger one
        for path in statistics:
            np.testing.assert_array_equal(first[path], third[path])
        convolutions = [path for path in tuning["trainable"] if "kernel" in path]
        assert len(convolutions) > 5
        assert not any(np.array_equal(second[path], third[path]) for path in convolutions)
        assert not any("gamma" in path or "beta" in path for path in tuning["trainable"])


# --- a teacher from a file ---


@pytest.fixture(scope="module")
def teacher_file(tmp_path_factory):
    path = tmp_path_factory.mktemp("teacher") / "teacher.keras"
    config = tiny(path.parent)
    task = setup.load_task(config)
    setup.build_model("cnn", ("width=0.25",), None, task, seed=5).save(path)
    return path


@pytest.mark.slow
def test_a_teacher_from_a_file_is_used_as_it_is(tmp_path, teacher_file):
    config = tiny(tmp_path, teacher=str(teacher_file), teacher_knobs=())
    done, watcher = trial(config)
    given = keras.models.load_model(teacher_file)
    assert same_weights(done.models["teacher"], given)
    assert set(watcher.log) == {"seed 0: alone", "seed 0: distilled"}
    assert (done.outcomes["teacher"].epochs, done.outcomes["teacher"].best_epoch) == (0, 0)
    logits = Predictor(given)(done.task.validation)
    want = quality.score("accuracy", logits, done.task.validation.labels)
    assert done.outcomes["teacher"].score == want


@pytest.mark.slow
def test_without_validation_a_comparison_chooses_nothing(tmp_path, teacher_file):
    config = tiny(
        tmp_path,
        teacher=str(teacher_file),
        teacher_knobs=(),
        without_validation=True,
        seeds=(0, 1),
        epochs=2,
    )
    found = distill.run(config)
    assert found["task"]["train"] == 200  # 100 of each split
    assert found["export"]["seed"] == 0
    for role in ("alone", "distilled"):
        assert [seed["best_epoch"] for seed in found["models"][role]["seeds"]] == [2, 2]
    assert "teacher_over" in found
    student = keras.models.load_model(config.folder / "student.keras")
    test = setup.load_task(config).test
    want = found["models"]["distilled"]["seeds"][0]["test"]["accuracy"]
    assert quality.score("accuracy", Predictor(student)(test), test.labels) == want
    page = report.build([config.folder], tmp_path / "page")
    assert page.is_file()


def test_a_method_that_chooses_on_validation_is_refused_without_one(tmp_path):
    own = {"method": "eskd", "method_knobs": ("teacher_epochs=1",)}
    config = tiny(tmp_path, **own, without_validation=True)
    with pytest.raises(ValueError, match="`without_validation` is for methods of one training"):
        distill.run(config)
    assert not config.folder.exists()


def softmax_file(path):
    inputs = keras.Input((8, 8, 1))
    flat = keras.layers.Flatten()(inputs)
    keras.Model(inputs, keras.layers.Dense(10, activation="softmax")(flat)).save(path)


def other_classes_file(path):
    inputs = keras.Input((8, 8, 1))
    keras.Model(inputs, keras.layers.Dense(3)(keras.layers.Flatten()(inputs))).save(path)


def damaged_file(path):
    softmax_file(path)
    raw = bytearray(path.read_bytes())
    raw[2000:2300] = bytes(300)
    path.write_bytes(raw)


def lambda_file(path):
    inputs = keras.Input((8, 8, 1))
    flat = keras.layers.Flatten()(inputs)
    keras.Model(inputs, keras.layers.Lambda(lambda x: x[:, :10])(flat)).save(path)


@pytest.mark.parametrize(
    ("write", "said"),
    [
        (other_classes_file, r"has 3 classes, and the task 'digits' has 10"),
        (softmax_file, "must return logits, .* To fix it"),
        (damaged_file, "cannot be loaded as a Keras model"),
        (lambda_file, "cannot be loaded as a Keras model: .*Lambda"),
        (
            lambda path: path.write_text("no model"),
            r"A whole Keras model is needed, .* is neither\.",
        ),
    ],
)
def test_a_file_that_cannot_teach_is_refused_before_anything_is_written(tmp_path, write, said):
    path = tmp_path / "teacher.keras"
    write(path)
    with pytest.raises(ValueError, match=said) as error:
        distill.run(tiny(tmp_path, teacher=str(path), teacher_knobs=()))
    assert str(path) in str(error.value)
    assert sorted(tmp_path.iterdir()) == [path]


# --- settings that cannot be run ---


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"task": "digit"}, "Unknown task 'digit'"),
        ({"augmentation": "shfit"}, "Unknown augmentation"),
        ({"teacher": "cnm"}, "Unknown model 'cnm'"),
        ({"student": "mpl"}, r"Unknown model 'mpl'\. Did you mean 'mlp'"),
        ({"method": "kdd"}, "Unknown method 'kdd'"),
        ({"student_knobs": ("hiden=8",)}, "Did you mean 'hidden'"),
        ({"student_knobs": ("hidden=0",)}, "`hidden` must be"),
        ({"student_knobs": ("hidden",)}, "takes entries like"),
        ({"teacher_knobs": ("width=-1",)}, "`width` must be a positive number"),
        ({"student_weights": "imagenet"}, "mlp has no pretrained weights"),
        ({"method_knobs": ("temprature=2",)}, "Did you mean 'temperature'"),
        ({"method_knobs": ("temperature=0",)}, "`temperature` must be a positive number"),
        ({"head_epochs": 1, "unfreeze_blocks": 7}, "`last` must be a number of blocks from 1 to"),
        ({"image_size": 4}, "option of task 'digits': 'image_size'"),
        ({"soft_labels": True}, "option of task 'digits': 'soft_labels'"),
    ],
)
def test_wrong_settings_are_refused_before_anything_is_written(tmp_path, changes, said):
    with pytest.raises(ValueError, match=said):
        distill.run(tiny(tmp_path, **changes))
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize(
    "changes", [{"teacher": "absent.keras"}, {"task": "folder"}, {"task": "mhist"}]
)
def test_files_that_are_not_there_are_told_before_anything_is_written(tmp_path, changes):
    with pytest.raises(FileNotFoundError):
        distill.run(tiny(tmp_path, **changes))
    assert not any(tmp_path.iterdir())


@pytest.mark.slow
def test_a_finished_run_of_other_settings_is_refused(finished):
    config, found, _ = finished
    with pytest.raises(FileExistsError, match=r"other settings \(alpha, epochs\)"):
        distill.run(dataclasses.replace(config, alpha=0.5, epochs=1))
    assert json.loads((config.folder / "results.json").read_text()) == found


TOO_FAST = 3e38  # the biases alone overflow, whatever a processor's ReLU makes of a NaN


def test_a_distillation_that_diverges_names_both_terms(tmp_path):
    config = tiny(tmp_path, learning_rate=TOO_FAST, steps_per_execution=1)
    task = setup.load_task(config)
    done = distill._Trial(config, task, 0, RunFolder(config), Watcher())
    done._keep("teacher", setup.build_model("lenet5", (), None, task, 0), Outcome(1, 1, 0.5, 1.0))
    with pytest.raises(Diverged) as error:
        done._distilled()
    message = str(error.value)
    assert "'distilled' diverged: " in message
    assert "distillation_loss" in message
    assert "student_loss" in message
    assert "epoch 1, step 2, learning rate 3e+38" in message


def test_a_teacher_that_diverges_ends_the_run_with_its_own_sentence(tmp_path):
    config = tiny(tmp_path, learning_rate=TOO_FAST, teacher="mlp", teacher_knobs=("hidden=8,",))
    with pytest.raises(Diverged, match=r"The training 'teacher' diverged: loss is not finite by"):
        distill.run(config)


@pytest.mark.slow
@pytest.mark.parametrize(
    "changes",
    [
        {},
        # has weights of its own, drawn by the seed; and the teacher runs at every step
        {"method": "crd", "augmentation": "shift"},
        {"method": "simkd", "student": "cnn", "student_knobs": ("width=0.25",)},  # deploys another
        {"more_teachers": ("cnn:width=0.25",)},
    ],
)
def test_seeds_that_share_their_models_end_as_each_alone(tmp_path, changes):
    """The second seed trains in the models of the first, whose traced steps it takes over."""
    config = tiny(tmp_path, seeds=(0, 1), epochs=2, **changes)
    task, shared, progress = setup.load_task(config), distill._Shared(), Watcher()
    with RunFolder(config) as folder:
        trials = [
            distill._Trial(config, task, seed, folder, progress, shared=shared) for seed in (0, 1)
        ]
        for each in trials:
            each.train()
        # the first begins as a run of its own does: once tells that it ends as one too
        for each in trials if not changes else trials[1:]:
            own = tiny(tmp_path / f"own-{each.seed}", epochs=2, **changes)
            alone, _ = trial(own, seed=each.seed)
            for role in ROLES:
                assert each.outcomes[role].score == alone.outcomes[role].score
                np.testing.assert_array_equal(each.on("test", role), alone.on("test", role))
                assert same_weights(each.model(role), alone.model(role)), (each.seed, role)
    shares = [trials[0].models[role] is trials[1].models[role] for role in ROLES]
    assert shares == [True, True, "simkd" not in changes.values()]
