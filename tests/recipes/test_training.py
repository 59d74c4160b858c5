"""One training: its phases, its best epoch, its divergence."""

import dataclasses
import functools
import gc
import json
import shutil

import keras
import numpy as np
import pytest
from tensorflow.python.framework.func_graph import FuncGraph
from tiny_runs import (
    InterruptAfter,
    Interrupted,
    Snapshots,
    lines,
    same_weights,
    without_times,
)

from kd_keras.config import TrainConfig
from kd_keras.data import pipeline
from kd_keras.data.task import balanced_class_weight
from kd_keras.evaluation import quality
from kd_keras.recipes import setup, supervised, training
from kd_keras.recipes.callbacks import LAYOUT, Best, Checkpoint, Validation
from kd_keras.recipes.learners import TrainerPool
from kd_keras.recipes.predictions import Predictor
from kd_keras.recipes.runs import RunFolder
from kd_keras.recipes.training import phases, train
from kd_keras.training.divergence import Diverged
from kd_keras.utils import records


@pytest.fixture(scope="module")
def task():
    return setup.load_task(TrainConfig(limit=100))


def settings(out, **changes):
    return TrainConfig(
        **{
            "model": "mlp",
            "model_knobs": ("hidden=8,",),
            "limit": 100,
            "epochs": 3,
            "batch_size": 16,
            "steps_per_execution": 2,
            "seeds": (0,),
            "out": out,
            **changes,
        }
    )


def trained(config, task, *, seed=0, join=None, callback=None):
    """The model, its outcome, and its states by epoch."""
    model = setup.build_model(config.model, config.model_knobs, config.weights, task, seed)
    learner = TrainerPool(config, task).alone("model", seed, model)
    if join is not None:
        last = learner.join
        learner = dataclasses.replace(learner, join=lambda *given: join(last(*given)))
    states = []
    progress = [Snapshots(states), *([callback] if callback else [])]
    outcome = train(learner, task, config, RunFolder(config), progress=progress)
    return model, outcome, states


def batches_of(config, task):
    """The first epoch's batches, as `fit` is given them."""
    seen = []
    trained(config, task, join=lambda data: (seen.append(data), data)[1])
    steps = -(-len(task.train) // config.batch_size)
    return list(seen[0].take(steps).as_numpy_iterator())


# --- phases ---


def test_one_phase_without_a_head(tmp_path):
    (whole,) = phases(settings(tmp_path, learning_rate=0.1), 5)
    assert (whole.first_epoch, whole.last_epoch, whole.rate(4)) == (0, 5, 0.1)


def test_two_phases_with_a_head_that_follow_each_other(tmp_path):
    budget = settings(tmp_path, head_epochs=2, head_learning_rate=0.3, learning_rate=0.1)
    head, tuning = phases(budget, 5)
    assert (head.name, head.first_epoch, head.last_epoch) == ("head", 0, 2)
    assert (tuning.name, tuning.first_epoch, tuning.last_epoch) == ("fine-tuning", 2, 7)
    assert (head.rate(0), tuning.rate(tuning.first_epoch)) == (0.3, 0.1)


def test_the_head_learns_alone_and_then_the_last_blocks_at_their_own_rate(tmp_path, task):
    config = settings(
        tmp_path,
        model="cnn",
        model_knobs=("width=0.25",),
        head_epochs=2,
        head_learning_rate=0.01,
        learning_rate=0.001,
        epochs=1,
        unfreeze_blocks=1,
    )
    _, outcome, states = trained(config, task)
    assert outcome.epochs == 3
    begun = [state for state in states if state["moment"] == "begin"]
    assert [state["rate"] for state in begun] == pytest.approx([0.01, 0.001])
    layers = [{path.split("/")[0] for path in state["trainable"]} for state in begun]
    assert layers == [{"logits"}, {"embedding", "logits"}]
    first, _, after_head, _, last = states
    changed = [
        {path.split("/")[0] for path in a if not np.array_equal(a[path], b[path])}
        for a, b in (
            (first["weights"], after_head["weights"]),
            (after_head["weights"], last["weights"]),
        )
    ]
    assert changed == layers


# --- the best epoch ---


def test_the_best_epochs_weights_are_those_kept(tmp_path, task):
    config = settings(tmp_path, epochs=8, learning_rate=0.03)
    model, outcome, states = trained(config, task)
    scores = [entry["validation"]["accuracy"] for entry in lines(config)]
    assert [entry["epoch"] for entry in lines(config)] == list(range(1, 9))
    assert outcome.best_epoch == 1 + int(np.argmax(scores))
    assert outcome.score == max(scores)
    assert outcome.epochs == 8
    logits = Predictor(model)(task.validation)
    assert quality.score("accuracy", logits, task.validation.labels) == max(scores)
    epochs = [state["weights"] for state in states if state["moment"] == "epoch"]
    best = epochs[outcome.best_epoch - 1]
    assert same_weights(model, list(best.values()))
    # a rate so high that the last epoch is not the best, or this test says nothing
    assert outcome.best_epoch < 8


def test_of_epochs_that_are_equally_good_the_first_is_best(task):
    """And with `last`, the last: whatever its score."""
    right = np.eye(task.classes)[task.validation.labels]
    for last, want in ((False, 2), (True, 4)):
        best, model = Best(), setup.build_model("mlp", (), None, task, 0)
        answers = iter((-right, right, right, -right))
        judge = Validation(
            *("model", model, lambda split, answers=answers: next(answers), task.validation),
            *("accuracy", best, lambda line: None, last),
        )
        for epoch in range(4):
            judge.on_epoch_begin(epoch)
            judge.on_epoch_end(epoch)
        assert best.epoch == want


def test_the_journal_tells_loss_validation_and_time(tmp_path, task):
    config = settings(tmp_path, epochs=1)
    _, _, states = trained(config, task)
    (entry,) = lines(config)
    assert set(entry) == {"seed", "model", "epoch", "loss", "validation", "seconds"}
    assert entry["loss"] == states[-1]["logs"]["loss"]
    assert entry["seconds"] > 0


@pytest.mark.slow
def test_the_same_seed_gives_the_same_weights_and_another_does_not(tmp_path, task):
    knobs = {"model": "cnn", "model_knobs": ("width=0.25",), "epochs": 2}
    one, two, other = (
        trained(settings(tmp_path / str(i), **knobs), task, seed=seed)[0]
        for i, seed in enumerate((0, 0, 1))
    )
    assert same_weights(one, two)
    assert not same_weights(one, other)


def test_a_finished_training_is_not_repeated(tmp_path, task):
    config = settings(tmp_path, epochs=2)
    model, outcome, _ = trained(config, task)
    again, same, states = trained(config, task)
    assert same == outcome
    assert states == []
    assert same_weights(model, again)
    assert len(lines(config)) == 2


# --- interrupted ---


@pytest.fixture
def checkpoints(monkeypatch):
    """A checkpoint after every epoch, however short."""
    monkeypatch.setattr(training, "Checkpoint", functools.partial(Checkpoint, every=0.0))


@pytest.mark.slow
def test_interrupted_after_an_epoch_it_ends_as_if_it_had_not_been(tmp_path, task, checkpoints):
    """With dropout and Adam's moments: between the phases, and within one."""
    knobs = {"model": "cnn", "model_knobs": ("width=0.25",), "learning_rate": 3e-3}
    knobs |= {"head_epochs": 1, "epochs": 2, "augmentation": "shift"}
    whole = settings(tmp_path / "whole", **knobs)
    model, outcome, _ = trained(whole, task)
    for epoch in (1, 2):
        config = settings(tmp_path / str(epoch), **knobs)
        with pytest.raises(Interrupted):
            trained(config, task, callback=InterruptAfter(epoch))
        again, same, _ = trained(config, task)
        assert without_times(lines(config)) == without_times(lines(whole))
        assert same_weights(model, again)
        assert (same.best_epoch, same.score) == (outcome.best_epoch, outcome.score)


def test_every_interruption_keeps_the_best_weights_so_far(tmp_path, task):
    config = settings(tmp_path, epochs=5)
    with pytest.raises(Interrupted):
        trained(config, task, callback=InterruptAfter(2))
    stored = setup.build_model("mlp", config.model_knobs, None, task, 1)
    stored.load_weights(tmp_path / "work/model-0/best.weights.h5")
    logits = Predictor(stored)(task.validation)
    best = max(entry["validation"]["accuracy"] for entry in lines(config))
    assert quality.score("accuracy", logits, task.validation.labels) == best


def test_what_a_kill_leaves_of_a_checkpoint_does_no_harm(tmp_path, task, checkpoints):
    config = settings(tmp_path, epochs=3)
    with pytest.raises(Interrupted):
        trained(config, task, callback=InterruptAfter(1))
    work = tmp_path / "work/model-0"
    (work / ".kd_keras.state.json.x7abcdef").mkdir()
    (work / "epoch-00002.weights.h5").write_bytes(b"half of it")
    _, outcome, _ = trained(config, task)
    assert outcome.epochs == 3
    assert [entry["epoch"] for entry in lines(config)] == [1, 2, 3]
    assert len(list(work.glob("epoch-*"))) == 2  # of the last checkpoint alone


def damage(path, place):
    """Change one byte of a file, or cut it."""
    data = bytearray(path.read_bytes())
    data[place % len(data)] ^= 0x55
    path.write_bytes(data if place else data[: len(data) // 2])


@pytest.mark.slow
def test_a_damaged_working_file_is_named_and_that_training_begins_anew(
    tmp_path, task, checkpoints, caplog
):
    config = settings(tmp_path / "run", epochs=2)
    model, outcome, _ = trained(settings(tmp_path / "whole", epochs=2), task)
    work = tmp_path / "run/work/model-0"
    for number, (name, place) in enumerate(
        (("state.json", 40), ("*.best.npz", 0), ("epoch*.weights.h5", 5000), ("metrics.jsonl", 5)),
        start=1,
    ):
        with pytest.raises(Interrupted):
            trained(config, task, callback=InterruptAfter(1))
        (path,) = (work.parent.parent if "metrics" in name else work).glob(name)
        damage(path, place)
        caplog.clear()
        again, same, states = trained(config, task)
        assert f"{path} is damaged: " in caplog.text
        assert "starts again" in caplog.text
        assert len([state for state in states if state["moment"] == "epoch"]) == 2
        assert same_weights(model, again)
        assert same.best_epoch == outcome.best_epoch
        assert len(list(work.parent.glob("model-0.damaged*"))) == number
        shutil.rmtree(work)
    trained(config, task)
    for name, place in (("best.weights.h5", 3000), ("outcome.json", 30)):
        damage(work / name, place)
        again, _, states = trained(config, task)
        assert len([state for state in states if state["moment"] == "epoch"]) == 2
        assert same_weights(model, again)
    assert len(lines(config)) == 2


def test_checkpoints_are_apart_by_the_asked_time(tmp_path, task, monkeypatch):
    monkeypatch.setattr(training, "Checkpoint", functools.partial(Checkpoint, every=1000.0))
    trained(settings(tmp_path), task)
    assert {path.name for path in (tmp_path / "work/model-0").iterdir()} == {
        "best.weights.h5",
        "outcome.json",
    }


# --- what it learns from ---


def test_class_weights_reach_the_batches(tmp_path, task):
    kept = np.flatnonzero((task.train.labels != 3) | (np.arange(len(task.train)) < 50))
    uneven = dataclasses.replace(task, train=task.train.rows(kept))
    want = balanced_class_weight(uneven.train.labels, 10)
    assert want[3] > want[0]
    for name, given in (("own", {k: 1.0 + k for k in range(10)}), ("balanced", None)):
        used = given or want
        config = settings(tmp_path / name, epochs=1, class_weights=True)
        seen = batches_of(config, dataclasses.replace(uneven, class_weight=given))
        for _, label, weight in seen:
            np.testing.assert_allclose(weight, [used[k] for k in label], rtol=1e-6)
    plain = batches_of(settings(tmp_path / "off", epochs=1), task)
    assert all(len(batch) == 2 for batch in plain)


def test_the_augmentation_reaches_the_batches(tmp_path, task):
    config = settings(tmp_path, epochs=1, augmentation="shift")
    ours = pipeline.Epochs(task.train, batch_size=16, seed=0, augmentation="shift")
    want = list(ours.dataset.as_numpy_iterator())
    got = batches_of(config, task)
    for (batch, _), (same, _) in zip(got, want, strict=True):
        np.testing.assert_array_equal(batch["image"], same["image"])
    plain = task.train.images[got[0][0]["index"]]
    assert (got[0][0]["image"] != plain).any()


def test_soft_labels_are_learned_from(tmp_path, task):
    soft = np.full((100, 10), 0.01, "float32")
    soft[:, 7] = 0.91
    one_for_all = dataclasses.replace(task, train=dataclasses.replace(task.train, soft_labels=soft))
    config = settings(tmp_path, epochs=40, learning_rate=0.01)
    trained(config, one_for_all)
    losses = [entry["loss"] for entry in lines(config)]
    # cross-entropy is at least the entropy of the labels, 0.5003, and nears it
    entropy = -(0.91 * np.log(0.91) + 9 * 0.01 * np.log(0.01))
    assert min(losses) >= entropy - 1e-4
    assert losses[-1] < entropy + 0.05 < losses[0]


def test_labels_of_a_task_that_are_none_are_refused_before_the_first_step(tmp_path, task):
    labels = task.train.labels.copy()
    labels[3] = 10
    outside = dataclasses.replace(task, train=dataclasses.replace(task.train, labels=labels))
    with pytest.raises(ValueError, match=r"1 of 100 labels .*the first of them 10 at position 3"):
        trained(settings(tmp_path, class_weights=False), outside)


# --- divergence ---


def test_a_loss_that_is_not_finite_stops_and_names_step_term_and_rate(tmp_path, task):
    config = settings(tmp_path, learning_rate=3e38, steps_per_execution=1)
    with pytest.raises(Diverged) as error:
        trained(config, task)
    message = str(error.value)
    assert "The training 'model' diverged: loss is not finite by epoch 1, step 2, " in message
    assert "learning rate 3e+38" in message
    assert not (tmp_path / "metrics.jsonl").exists()


def test_several_steps_an_execution_never_name_a_step_beyond_the_epoch(tmp_path, task):
    config = settings(tmp_path, learning_rate=3e38, steps_per_execution=50)
    with pytest.raises(Diverged, match="by epoch 1, step 7,"):  # 100 examples in batches of 16
        trained(config, task)


def test_a_last_step_that_breaks_the_weights_is_found_on_validation(tmp_path, task):
    # one step an epoch: its loss is that of the initial weights, and finite
    config = settings(tmp_path, learning_rate=3e38, batch_size=100)
    with pytest.raises(
        Diverged, match="a prediction on validation is not finite by epoch 1, step 1,"
    ):
        trained(config, task)


def test_the_best_epoch_before_a_divergence_is_kept(tmp_path, task):
    config = settings(tmp_path, head_epochs=3, head_learning_rate=0.01, learning_rate=3e38)
    model = setup.build_model("mlp", config.model_knobs, None, task, 0)
    learner = TrainerPool(config, task).alone("model", 0, model)
    with pytest.raises(Diverged, match=r"by epoch 4, step [1-7], learning rate 3e\+38"):
        train(learner, task, config, RunFolder(config))
    scores = [entry["validation"]["accuracy"] for entry in lines(config)]
    assert len(scores) == 3
    assert all(np.isfinite(value).all() for value in model.get_weights())
    logits = Predictor(model)(task.validation)
    assert quality.score("accuracy", logits, task.validation.labels) == max(scores)
    stored = setup.build_model("mlp", config.model_knobs, None, task, 1)
    stored.load_weights(tmp_path / "work/model-0/best.weights.h5")
    assert same_weights(stored, model)


# --- the command `train` ---


@pytest.mark.slow
def test_a_supervised_run_keeps_the_seed_best_on_validation(tmp_path):
    config = settings(tmp_path / "run", seeds=(0, 1), epochs=2, head_epochs=1)
    found = supervised.run(config)
    names = {path.name for path in config.folder.iterdir()}
    assert names == {
        "config.json",
        "environment.json",
        "metrics.jsonl",
        "results.json",
        "model.keras",
        *("predictions.npz", "predictions.csv", "predictions.parquet", "thumbnails"),
    }
    assert json.loads((config.folder / "results.json").read_text()) == found
    (entry,) = found["models"].values()
    assert [seed["seed"] for seed in entry["seeds"]] == [0, 1]
    assert [seed["epochs"] for seed in entry["seeds"]] == [3, 3]
    best = max(entry["seeds"], key=lambda seed: seed["validation"]["accuracy"])
    judged = supervised.judge(config.folder / "model.keras", config)
    assert judged["models"]["model"]["seeds"][0]["test"] == best["test"]
    model = keras.models.load_model(config.folder / "model.keras")
    assert not model.compiled  # an optimizer would make the file three times as large


@pytest.mark.slow
def test_without_validation_all_is_learned_from_and_the_last_epoch_is_kept(tmp_path):
    config = settings(tmp_path / "run", seeds=(0, 1), epochs=2, head_epochs=0)
    task = setup.load_task(config)
    config = dataclasses.replace(config, without_validation=True)
    found = supervised.run(config)
    assert found["task"]["train"] == len(task.train) + len(task.validation)
    assert found["task"]["validation"] == 0
    seeds = found["models"]["model"]["seeds"]
    assert [seed["best_epoch"] for seed in seeds] == [2, 2]
    assert not any("validation" in seed for seed in seeds)
    assert not any("best on validation" in sentence for sentence in found["findings"])
    judged = supervised.judge(config.folder / "model.keras", config)  # of the first seed
    assert judged["models"]["model"]["seeds"][0]["test"] == seeds[0]["test"]


def test_the_blocks_to_unfreeze_are_checked_before_training(tmp_path):
    config = settings(tmp_path / "run", head_epochs=1, unfreeze_blocks=9)
    with pytest.raises(ValueError, match="`last` must be a number of blocks from 1 to 1"):
        supervised.run(config)
    assert not (tmp_path / "run").exists()


def test_a_checkpoint_of_an_earlier_version_is_not_read(tmp_path):
    """Its weights lie at other paths: without a word Keras would say so at length, and stop."""
    state = {
        "stem": "epoch-00001",
        "epochs": 1,
        "best_epoch": 1,
        "best_score": 0.5,
        "random": [],
        "seconds": 1.0,
        "digests": {},
    }
    records.write_signed(tmp_path / "state.json", state)
    with pytest.raises(records.DamagedFile, match="written by an earlier version"):
        Checkpoint(tmp_path, Best())
    records.write_signed(tmp_path / "state.json", {**state, "layout": LAYOUT})
    assert Checkpoint(tmp_path, Best()).epochs == 1


def copies_of(images):
    """Tensors of the shape of `images` that graphs of pipelines hold, garbage included."""
    graphs = [each for each in gc.get_objects() if isinstance(each, FuncGraph)]
    held = {id(outer): outer for graph in graphs for outer, _ in graph.captures}
    return sum(getattr(tensor, "shape", None) == images.shape for tensor in held.values())


def test_the_copies_of_images_are_freed(tmp_path, task, monkeypatch):
    """Each pipeline holds one; Python's collector alone comes too rarely."""
    monkeypatch.setattr(training, "RELEASED_BYTES", 0)
    gc.disable()
    try:
        for seed in range(3):
            trained(settings(tmp_path / str(seed), epochs=1), task, seed=seed)
        assert copies_of(task.train.images) <= 1  # that of the last training
    finally:
        gc.enable()
