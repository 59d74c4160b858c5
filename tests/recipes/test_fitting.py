"""Optimizer, schedule, averages, smoothing, early stopping and precision, compared with Keras'."""

import dataclasses
import functools
import logging

import keras
import numpy as np
import pytest
import tensorflow as tf
from tiny_runs import InterruptAfter, Interrupted, lines, same_weights, tiny, trial, without_times

from kd_keras.config import BudgetConfig, SweepConfig, TrainConfig
from kd_keras.data import pipeline
from kd_keras.evaluation import quality
from kd_keras.recipes import optimizers, setup, training
from kd_keras.recipes.callbacks import Best, Checkpoint, EarlyStop
from kd_keras.recipes.learners import TrainerPool
from kd_keras.recipes.phases import phases
from kd_keras.recipes.predictions import Predictor
from kd_keras.recipes.runs import RunFolder
from kd_keras.recipes.training import OUTCOME, folder_of, train

ADAMW = {"optimizer": "adamw", "weight_decay": 0.1}
EVERYTHING = {
    **ADAMW,
    "schedule": "cosine",
    "warmup": 0.2,
    "clip_norm": 1.0,
    "ema": 0.8,
    "label_smoothing": 0.1,
}


@pytest.fixture(scope="module")
def task():
    return setup.load_task(TrainConfig(limit=100))


def settings(out, **changes):
    given = {
        "model": "mlp",
        "model_knobs": ("hidden=8,",),
        "limit": 100,
        "epochs": 3,
        "batch_size": 32,
        "learning_rate": 3e-3,
        "steps_per_execution": 2,
        "seeds": (0,),
        "out": out,
    }
    return TrainConfig(**{**given, **changes})


def built(config, task, seed=0):
    named = config.model, config.model_knobs, config.weights
    return setup.build_model(*named, task, seed, precision=config.precision)


def trained(config, task, *, pool=None, seed=0, callback=None, keep="best", **how):
    """The model after a training, and its outcome."""
    pool = pool or TrainerPool(config, task)
    learner = dataclasses.replace(pool.alone("model", seed, built(config, task, seed)), keep=keep)
    progress = [callback] if callback else []
    outcome = train(learner, task, config, RunFolder(config), progress=progress, **how)
    return learner.model, outcome


@pytest.fixture
def checkpoints(monkeypatch):
    """A checkpoint after every epoch, however short."""
    monkeypatch.setattr(training, "Checkpoint", functools.partial(Checkpoint, every=0.0))


# --- plain Keras ---


def by_hand(config, task, batches, optimizer, rates=None, smoothing=0.0):
    """The same training, in a loop of TensorFlow and Keras without this library."""
    model = built(config, task)
    optimizer.build(model.trainable_variables)

    def step(images, labels):
        with tf.GradientTape() as tape:
            logits = model(images, training=True)
            marked = tf.one_hot(labels, logits.shape[-1])
            marked = (1.0 - smoothing) * marked + smoothing / logits.shape[-1]
            loss = tf.reduce_mean(tf.nn.softmax_cross_entropy_with_logits(marked, logits))
            loss = optimizer.scale_loss(loss)
        gradients = tape.gradient(loss, model.trainable_variables)
        optimizer.apply(gradients, model.trainable_variables)

    steps = len(batches) // config.epochs
    for number, (batch, labels) in enumerate(batches):
        if rates is not None:
            optimizer.learning_rate = rates[number // steps]
        step(batch["image"], labels)
    optimizer.finalize_variable_values(model.trainable_variables)
    return model


def ours(tmp_path, task, **changes):
    """A config, the model that it trains, and the batches of all epochs."""
    config = settings(tmp_path, **changes)
    model, _ = trained(config, task, keep="last")
    data = pipeline.Epochs(task.train, batch_size=config.batch_size, seed=0)
    batches = data.endless().take(data.steps * config.epochs).as_numpy_iterator()
    return config, model, list(batches)


def apart(one, other):
    """The largest difference of two lists of weights."""
    return max(np.abs(a - b).max() for a, b in zip(one, other, strict=True))


def assert_close(one, other, tolerance=2e-5):
    assert apart(one.get_weights(), other.get_weights()) < tolerance


def without_biases(optimizer):
    optimizer.exclude_from_weight_decay(var_names=["bias"])
    return optimizer


HOW = {"weight_decay": 2.0, "global_clipnorm": 0.1, "use_ema": True, "ema_momentum": 0.9}
OPTIONS = {"weight_decay": 2.0, "clip_norm": 0.1, "ema": 0.9}


@pytest.mark.parametrize(
    ("name", "rate", "theirs"),
    [
        ("adamw", 3e-3, lambda **how: keras.optimizers.AdamW(3e-3, **how)),
        ("sgd", 0.05, lambda **how: keras.optimizers.SGD(0.05, 0.9, True, **how)),
        ("rmsprop", 3e-3, lambda **how: keras.optimizers.RMSprop(3e-3, **how)),
    ],
    ids=["adamw", "sgd", "rmsprop"],
)
def test_a_training_ends_with_the_weights_of_plain_keras(tmp_path, task, name, rate, theirs):
    """AdamW and SGD are updated by a kernel on a CPU: it must drop none of the settings."""
    config, model, seen = ours(tmp_path, task, optimizer=name, learning_rate=rate, **OPTIONS)
    assert_close(model, by_hand(config, task, seen, without_biases(theirs(**HOW))))
    # and each of them matters, or this test says nothing
    for left_out in ({"weight_decay": 0.0}, {"global_clipnorm": None}, {"use_ema": False}):
        other = by_hand(config, task, seen, without_biases(theirs(**{**HOW, **left_out})))
        assert apart(model.get_weights(), other.get_weights()) > 1e-3
    other = by_hand(config, task, seen, theirs(**HOW))  # that decays biases
    assert apart(model.get_weights(), other.get_weights()) > 5e-5


@pytest.mark.parametrize("name", ["adam", "lion", "muon"])
def test_an_optimizer_trains_as_in_keras(tmp_path, task, name):
    config, model, seen = ours(tmp_path, task, optimizer=name, epochs=1)
    kind = optimizers.known()[name]
    own = {"exclude_layers": ["logits"]} if name == "muon" else {}
    assert_close(model, by_hand(config, task, seen, without_biases(kind(3e-3, **own))))


@pytest.mark.parametrize("name", sorted(optimizers.known()))
def test_every_optimizer_of_keras_steps_as_in_keras(name):
    own = {"sgd": {"momentum": 0.9, "nesterov": True}, "muon": {"exclude_layers": ["logits"]}}
    start = np.eye(3, dtype="float32") + 1
    mine, theirs = (keras.Variable(start, name="kernel") for _ in range(2))
    optimizer = optimizers.new(BudgetConfig(optimizer=name), 0.1, [mine])
    plain = optimizers.known()[name](0.1, **own.get(name, {}))
    gradient = tf.constant(np.arange(9.0).reshape(3, 3), tf.float32)
    for _ in range(2):
        optimizer.apply([gradient], [mine])
        plain.apply([gradient], [theirs])
    np.testing.assert_array_equal(mine, theirs)
    assert (np.array(mine) != start).any()


def test_all_optimizers_are_found():
    names = {"adam", "adamw", "sgd", "muon", "lion", "rmsprop", "nadam", "lamb", "adafactor"}
    assert names <= set(optimizers.known())
    assert not {"optimizer", "multioptimizer", "lossscaleoptimizer"} & set(optimizers.known())


@pytest.mark.parametrize("command", [TrainConfig, SweepConfig])
def test_an_unknown_optimizer_gets_the_nearest_name(command):
    with pytest.raises(ValueError, match=r"Unknown optimizer 'adamww'\. Did you mean 'adamw'\?"):
        setup.check(command(optimizer="adamww"))


def test_biases_and_normalisation_are_not_decayed():
    layers = [
        keras.layers.DepthwiseConv2D(3),
        keras.layers.BatchNormalization(),
        keras.layers.LayerNormalization(axis=(1, 2, 3)),
    ]
    for layer in layers:
        layer.build((None, 4, 4, 2))
    decayed = [w.path for layer in layers for w in layer.weights if optimizers.is_decayed(w)]
    assert decayed == [layers[0].kernel.path]
    attention = keras.layers.MultiHeadAttention(2, 3)
    attention.build((None, 4, 5), (None, 4, 5))
    decayed = [w for w in attention.weights if optimizers.is_decayed(w)]
    assert {w.name for w in decayed} == {"kernel"}
    assert len(decayed) == 4


def test_weight_decay_that_is_given_is_that_of_all_of_muons_weights():
    muon = optimizers.new(BudgetConfig(optimizer="muon", weight_decay=0.3), 0.1, [])
    assert (muon.weight_decay, muon.adam_weight_decay) == (0.3, 0.3)


# --- the learning rate ---


def rates(epochs=10, of=None, **changes):
    (phase,) = phases(BudgetConfig(learning_rate=0.1, **changes), epochs, of)
    return [phase.rate(epoch) for epoch in range(epochs)]


def test_the_cosine_falls_from_the_rate_to_near_zero():
    want = [0.05 * (1 + np.cos(np.pi * epoch / 10)) for epoch in range(10)]
    np.testing.assert_allclose(rates(schedule="cosine"), want)


def test_the_warm_up_comes_before_the_cosine():
    found = rates(schedule="cosine", warmup=0.2)
    np.testing.assert_allclose(found[:3], [0.1 / 3, 0.2 / 3, 0.1])
    np.testing.assert_allclose(found[2:], [0.05 * (1 + np.cos(np.pi * k / 8)) for k in range(8)])


def test_the_warm_up_of_other_schedules():
    np.testing.assert_allclose(rates(4, warmup=0.5), [0.1 / 3, 0.2 / 3, 0.1, 0.1])
    drops = rates(4, warmup=0.25, schedule="step", learning_rate_drop=(0.5, 0.1))
    np.testing.assert_allclose(drops, [0.05, 0.1, 0.01, 0.01])


def test_a_small_share_warms_up_one_epoch_and_a_single_epoch_none():
    np.testing.assert_allclose(rates(4, warmup=0.01), [0.05, 0.1, 0.1, 0.1])
    assert rates(1, warmup=0.5) == [0.1]
    assert rates(1, schedule="cosine", warmup=0.9) == [0.1]


def test_step_is_the_drop_and_the_drop_alone_means_step():
    drop = {"learning_rate_drop": (0.3, 0.2)}
    assert rates(**drop) == rates(schedule="step", **drop)
    assert len(set(rates(**drop))) == 4


def test_the_first_epochs_of_a_longer_training_have_its_rates():
    how = {"schedule": "cosine", "warmup": 0.2}
    assert rates(4, of=10, **how) == rates(10, **how)[:4]
    assert rates(4, of=10, **how) != rates(4, **how)


def test_each_phase_has_a_cosine_of_its_own():
    budget = BudgetConfig(
        head_epochs=2, head_learning_rate=0.4, learning_rate=0.1, schedule="cosine"
    )
    head, tuning = phases(budget, 4)
    np.testing.assert_allclose([head.rate(epoch) for epoch in (0, 1)], [0.4, 0.2])
    want = [0.05 * (1 + np.cos(np.pi * epoch / 4)) for epoch in range(4)]
    np.testing.assert_allclose([tuning.rate(epoch) for epoch in range(2, 6)], want)


def test_the_rates_reach_the_training(tmp_path, task):
    config, model, seen = ours(tmp_path, task, schedule="cosine", warmup=0.34, epochs=4)
    want = [0.003 / 3, 0.006 / 3, 0.003, 0.0015]
    theirs = by_hand(config, task, seen, keras.optimizers.Adam(3e-3), rates=want)
    assert_close(model, theirs)
    np.testing.assert_allclose([line["learning_rate"] for line in lines(config)], want, rtol=1e-6)


# --- the loss on the labels ---


def test_smoothed_labels_train_as_by_hand(tmp_path, task):
    config, model, seen = ours(tmp_path, task, label_smoothing=0.3)
    adam = keras.optimizers.Adam
    assert_close(model, by_hand(config, task, seen, adam(3e-3), smoothing=0.3))


def test_soft_labels_are_smoothed_too():
    loss = optimizers.label_loss(BudgetConfig(label_smoothing=0.2))
    soft, logits = np.array([[0.75, 0.25, 0.0]]), np.array([[2.0, 0.0, -1.0]])
    log_p = logits - np.log(np.exp(logits).sum())
    want = -((0.8 * soft + 0.2 / 3) * log_p).sum()
    np.testing.assert_allclose(np.asarray(loss(soft, logits)), want, rtol=1e-6)


@pytest.mark.slow
def test_every_training_of_a_run_learns_smoothed_labels(tmp_path):
    """With a rate so low that the weights stay, the loss of an epoch is that of the first ones."""
    mlp = {"teacher": "mlp", "teacher_knobs": ("hidden=8,",), "alpha": 0.5, "epochs": 1}
    config = tiny(tmp_path, **mlp, label_smoothing=0.4, learning_rate=1e-9, batch_size=25)
    data = setup.load_task(config)
    done, _ = trial(config, task=data)
    model = setup.build_model("mlp", ("hidden=8,",), None, data, 0)
    log_p = np.asarray(tf.nn.log_softmax(model(data.train.images)))
    marked = 0.6 * np.eye(10)[data.train.labels] + 0.04
    want = -(marked * log_p).sum(axis=1).mean()
    parts = {"teacher": "loss", "alone": "loss", "distilled": "student_loss"}
    for line in lines(config):
        np.testing.assert_allclose(line[parts.pop(line["model"])], want, rtol=1e-4)
    assert not parts
    assert done.outcomes["teacher"].epochs == 1


# --- early stopping ---


def test_a_training_stops_when_its_best_epoch_is_long_ago():
    stop = EarlyStop("model", Best(epoch=3), patience=2)
    assert [stop.reached(epochs) for epochs in (3, 4, 5, 6)] == [False, False, True, True]
    after_head = EarlyStop("model", Best(epoch=1), patience=2, first=4)
    assert [after_head.reached(epochs) for epochs in (4, 5, 6)] == [False, False, True]
    assert not EarlyStop("model", Best(), None).reached(1000)


def test_the_epochs_that_were_trained_are_recorded(tmp_path, task, caplog):
    config = settings(tmp_path, learning_rate=0.05, epochs=30, early_stopping=3)
    with caplog.at_level(logging.INFO, "kd_keras"):
        _, outcome = trained(config, task)
    assert outcome.epochs == outcome.best_epoch + 3 < 30
    assert [line["epoch"] for line in lines(config)] == list(range(1, outcome.epochs + 1))
    assert f"model stops after epoch {outcome.epochs}: validation has not improved" in caplog.text
    _, again = trained(config, task)  # finished: read from its files
    assert again == outcome


def test_a_training_that_keeps_its_last_epoch_does_not_stop(tmp_path, task):
    config = settings(tmp_path, learning_rate=0.05, epochs=12, early_stopping=1)
    _, outcome = trained(config, task, keep="last")
    assert (outcome.epochs, outcome.best_epoch) == (12, 12)


# --- averages ---


def test_the_averages_are_what_is_validated_and_kept(tmp_path, task):
    """With a momentum so near 1 that they stay near the first step: the trained weights move."""
    config = settings(tmp_path, ema=0.9999, learning_rate=0.02, epochs=3)
    states = {}

    class Watch(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            states[epoch + 1] = self.model.student.get_weights()

    model, outcome = trained(config, task, callback=Watch())
    start, end = built(config, task).get_weights(), states[outcome.epochs]
    assert apart(start, model.get_weights()) < 0.03 < 0.1 < apart(start, end)
    score = quality.score("accuracy", Predictor(model)(task.validation), task.validation.labels)
    assert score == outcome.score == lines(config)[outcome.best_epoch - 1]["validation"]["accuracy"]


def test_the_weights_that_are_trained_are_left_as_they_were(examples, mlp):
    model = mlp()
    model.compile(keras.optimizers.Adam(0.1, use_ema=True), "mse")
    model.train_on_batch(examples[0], np.eye(3)[examples[1]])
    model.train_on_batch(examples[0], np.eye(3)[examples[1]])
    before = model.get_weights()
    with optimizers.averaged(model):
        within = model.get_weights()
    assert same_weights(model, before)
    assert not same_weights(before, within)


# --- resuming ---


@pytest.mark.slow
def test_interrupted_with_everything_it_ends_as_if_it_had_not_been(tmp_path, task, checkpoints):
    """Between the phases, within one, and after the epoch at which the training stops."""
    knobs = {**EVERYTHING, "learning_rate": 0.05, "epochs": 20, "early_stopping": 3}
    knobs |= {"head_epochs": 2, "head_learning_rate": 0.01}
    whole = settings(tmp_path / "whole", **knobs)
    model, outcome = trained(whole, task)
    assert outcome.epochs < 22  # it stopped
    assert outcome.best_epoch < outcome.epochs
    config = settings(tmp_path / "parts", **knobs)
    for epoch in (2, 4, outcome.epochs):
        with pytest.raises(Interrupted):
            trained(config, task, callback=InterruptAfter(epoch))
    again, same = trained(config, task)
    assert without_times(lines(config)) == without_times(lines(whole))
    assert same_weights(model, again)
    assert without_times(dataclasses.asdict(same)) == without_times(dataclasses.asdict(outcome))


def test_a_training_that_goes_on_ends_as_if_it_had_never_stopped(tmp_path, task):
    """As one that Hyperband promotes: averages and schedule are those of the whole."""
    whole = settings(tmp_path / "whole", **EVERYTHING, epochs=5)
    model, outcome = trained(whole, task)
    config = settings(tmp_path / "parts", **EVERYTHING, epochs=5)
    trained(config, task, epochs=1, of=5, to_go_on=True)
    (folder_of(RunFolder(config), "model", 0) / OUTCOME).unlink()
    again, same = trained(config, task)
    assert same_weights(model, again)
    assert (same.epochs, same.best_epoch, same.score) == (5, outcome.best_epoch, outcome.score)
    assert without_times(lines(config)) == without_times(lines(whole))


@pytest.mark.parametrize(
    "changes",
    [
        {**EVERYTHING, "optimizer": "schedulefreeadamw"},
        {"precision": "mixed_float16", "ema": 0.5},
    ],
)
def test_one_trainer_for_several_seeds_trains_as_new_ones(tmp_path, task, checkpoints, changes):
    shared = TrainerPool(settings(tmp_path, **changes), task)
    for seed in (0, 1):
        config = settings(tmp_path / "shared", **changes)
        if seed:  # also resumed, in a trainer that has trained before
            with pytest.raises(Interrupted):
                trained(config, task, pool=shared, seed=seed, callback=InterruptAfter(1))
        model, _ = trained(config, task, pool=shared, seed=seed)
        alone, _ = trained(settings(tmp_path / "alone", **changes), task, seed=seed)
        assert same_weights(model, alone)


# --- precision ---


@pytest.mark.slow
def test_all_models_of_a_run_have_its_precision(tmp_path):
    mlp = {"teacher": "mlp", "teacher_knobs": ("hidden=8,",), "method": "takd"}
    mlp["method_knobs"] = ("assistants=mlp(hidden=4)",)
    done, _ = trial(tiny(tmp_path, **mlp, precision="mixed_bfloat16", epochs=1))
    assert len(done.models) == 4
    for model in done.models.values():
        assert model.get_layer("embedding").compute_dtype == "bfloat16"
        assert model.get_layer("logits").compute_dtype == "float32"
        assert {w.dtype for w in model.trainable_weights} == {"float32"}
    assert keras.config.dtype_policy().name == "float32"


def test_half_precision_scales_its_loss(tmp_path, task):
    config, model, seen = ours(tmp_path, task, precision="mixed_float16", clip_norm=0.1)
    assert model.get_layer("embedding").compute_dtype == "float16"
    inner = keras.optimizers.Adam(3e-3, global_clipnorm=0.1)
    theirs = by_hand(config, task, seen, keras.optimizers.LossScaleOptimizer(inner))
    assert_close(model, theirs, tolerance=2e-3)
