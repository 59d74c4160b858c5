"""`fit` in all the ways Keras offers it, and the ways that must come to the same."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import kd_keras as kd
from kd_keras import cache


def train(student, teacher, *data, method=None, alpha=0.3, seed=0, compiled=None, **settings):
    """A Distiller after `fit`, and its history."""
    mode = settings.pop("teacher_cache", "auto")
    distiller = kd.Distiller(
        student=student, teacher=teacher, method=method or "kd", alpha=alpha, teacher_cache=mode
    )
    optimizer = keras.optimizers.SGD(0.1, momentum=0.9)
    distiller.compile(optimizer, metrics=["accuracy"], **(compiled or {}))
    keras.utils.set_random_seed(seed)
    return distiller, distiller.fit(*data, verbose=0, **settings).history


def same(left, right, rtol=1e-4, atol=1e-5):
    """Two results of `train` are the same training, to float32 rounding."""
    (ours, our_history), (theirs, their_history) = left, right
    assert list(our_history) == list(their_history)
    for name, values in our_history.items():
        np.testing.assert_allclose(values, their_history[name], rtol=rtol, err_msg=name)
    pairs = zip(ours.student.variables, theirs.student.variables, strict=True)
    for mine, yours in pairs:
        np.testing.assert_allclose(mine, yours, rtol=rtol, atol=atol, err_msg=mine.path)


SETTINGS = {
    "plain": {},
    "in_order": {"shuffle": False},
    "weighted": {"sample_weight": np.linspace(0.0, 2.0, 16)},
    "split": {"validation_split": 0.25, "sample_weight": np.linspace(0.0, 2.0, 16)},
    "by_class": {"class_weight": {0: 1.0, 1: 0.5, 2: 0.0}},
}


@pytest.mark.slow
@pytest.mark.parametrize("settings", SETTINGS.values(), ids=SETTINGS)
def test_cached_and_live_are_the_same_training(examples, mlp, settings):
    runs = [
        train(mlp(0), mlp(1), *examples, batch_size=5, epochs=3, teacher_cache=mode, **settings)
        for mode in ("auto", "off")
    ]
    same(*runs)
    assert runs[0][1]["distillation_loss"][-1] < runs[0][1]["distillation_loss"][0]


def test_stored_and_live_are_the_same_training(examples, mlp):
    x, _ = examples
    stored = kd.CachedTeacher({"logits": np.asarray(mlp(1)(x))})
    runs = [
        train(mlp(0), teacher, *examples, epochs=3, batch_size=5) for teacher in (mlp(1), stored)
    ]
    same(*runs)


def test_an_ensemble_teaches_from_its_cache_as_it_does_live(examples, mlp):
    runs = [
        train(
            mlp(0),
            kd.EnsembleTeacher([mlp(1), mlp(2)], mean="arithmetic"),
            *examples,
            epochs=2,
            batch_size=5,
            teacher_cache=mode,
        )
        for mode in ("auto", "off")
    ]
    same(*runs)


class Pages(keras.utils.PyDataset):
    """Batches of four with weights, the way users write them."""

    def __init__(self, x, y, weight):
        super().__init__()
        self.data = x, y, weight

    def __len__(self):
        return 4

    def __getitem__(self, k):
        return tuple(part[4 * k : 4 * k + 4] for part in self.data)


def generator(x, y, weight):
    while True:
        for k in range(4):
            yield tuple(part[4 * k : 4 * k + 4] for part in (x, y, weight))


@pytest.mark.slow
def test_every_kind_of_input_is_the_same_training(examples, mlp):
    x, y = examples
    weight = np.linspace(0.0, 2.0, 16).astype("float32")
    dataset = tf.data.Dataset.from_tensor_slices((x, y, weight)).batch(4)
    named = tf.data.Dataset.from_tensor_slices(
        ({"image": x, "index": np.arange(16)}, y, weight)
    ).batch(4)
    rows = {"logits": np.asarray(mlp(1)(x))}
    arrays = train(
        mlp(0), mlp(1), x, y, sample_weight=weight, batch_size=4, epochs=2, shuffle=False
    )
    for teacher, data, settings in [
        (mlp(1), dataset, {}),
        (mlp(1), named, {}),
        (kd.CachedTeacher(rows), named, {}),
        (mlp(2), cache.join(named, rows), {}),  # the rows go before the teacher
        (mlp(1), Pages(x, y, weight), {"shuffle": False}),
        (mlp(1), generator(x, y, weight), {"steps_per_epoch": 4, "shuffle": False}),
    ]:
        same(arrays, train(mlp(0), teacher, data, epochs=2, **settings))
    tensors = [tf.constant(part) for part in (x, y, weight)]
    same(
        arrays,
        train(
            mlp(0),
            mlp(1),
            *tensors[:2],
            sample_weight=tensors[2],
            batch_size=4,
            epochs=2,
            shuffle=False,
        ),
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    ("compiled", "mode"),
    [
        ({"steps_per_execution": 2}, "auto"),
        ({"run_eagerly": True}, "off"),
        ({"jit_compile": True}, "off"),
    ],
    ids=["steps", "eager", "xla"],
)
def test_every_execution_is_the_same_training(examples, mlp, compiled, mode):
    settings = {"epochs": 2, "batch_size": 4, "teacher_cache": mode}
    plain = train(mlp(0), mlp(1), *examples, **settings)
    other = train(mlp(0), mlp(1), *examples, compiled=compiled, **settings)
    assert other[0].optimizer.iterations == plain[0].optimizer.iterations == 8
    same(plain, other)


def test_validation_data_is_what_evaluate_says(examples, mlp):
    x, y = examples
    weight = np.linspace(0.0, 2.0, 4)
    for data in [(x[12:], y[12:]), (x[12:], y[12:], weight)]:
        distiller, history = train(mlp(0), mlp(1), x[:12], y[:12], validation_data=data)
        sample_weight = data[2] if len(data) == 3 else None
        final = distiller.evaluate(
            *data[:2], sample_weight=sample_weight, verbose=0, return_dict=True
        )
        assert {f"val_{name}" for name in final} == {n for n in history if n.startswith("val_")}
        for name, value in final.items():
            assert history[f"val_{name}"] == [pytest.approx(value, rel=1e-5)]


def test_unlabelled_training_validates_on_labels(examples, mlp):
    x, y = examples
    distiller, history = train(mlp(0), mlp(1), x, alpha=0, validation_data=(x, y))
    assert list(history) == [
        "distillation_loss",
        "loss",
        "val_accuracy",
        "val_loss",
        "val_student_loss",
    ]
    logits = distiller.predict(x, verbose=0)
    assert history["val_accuracy"] == [pytest.approx(np.mean(logits.argmax(axis=1) == y))]


def test_a_list_of_callbacks_made_beforehand_is_used(examples, mlp):
    distiller = kd.Distiller(student=mlp(0), teacher=mlp(1), alpha=lambda e: [0.5, 0.25][e])
    distiller.compile("sgd")
    history = keras.callbacks.History()
    made = keras.callbacks.CallbackList([history], model=distiller)
    distiller.fit(*examples, epochs=2, verbose=0, callbacks=made)
    assert len(history.history["loss"]) == 2
    assert distiller.alpha == 0.25


def test_arguments_stand_where_keras_has_them(examples, mlp):
    distiller = kd.Distiller(student=mlp(0), teacher=mlp(1))
    distiller.compile("sgd")
    seen = []
    watch = keras.callbacks.LambdaCallback(on_epoch_begin=lambda epoch, logs: seen.append(epoch))
    history = distiller.fit(*examples, 8, 3, 0, watch)
    assert len(history.history["loss"]) == 3
    assert seen == [0, 1, 2]
    assert distiller.optimizer.iterations == 6


def test_early_stopping_and_checkpoints_keep_the_best_epoch(examples, mlp, tmp_path):
    x, y = examples
    path = tmp_path / "best.weights.h5"
    stop = keras.callbacks.EarlyStopping("val_loss", patience=1, restore_best_weights=True)
    keep = keras.callbacks.ModelCheckpoint(
        path, "val_loss", save_best_only=True, save_weights_only=True
    )
    distiller = kd.Distiller(student=mlp(0), teacher=mlp(1))
    distiller.compile(keras.optimizers.SGD(3.0))  # too fast: it soon gets worse
    history = distiller.fit(
        x, y, epochs=50, validation_data=(x, y), verbose=0, shuffle=False, callbacks=[stop, keep]
    ).history
    best = int(np.argmin(history["val_loss"]))
    assert len(history["loss"]) == best + 2 < 50
    assert distiller.evaluate(x, y, verbose=0)[0] == pytest.approx(
        history["val_loss"][best], rel=1e-5
    )
    twin = kd.Distiller(student=mlp(5), teacher=mlp(1))
    twin.load_weights(path)
    for ours, theirs in zip(
        twin.student.get_weights(), distiller.student.get_weights(), strict=True
    ):
        np.testing.assert_array_equal(ours, theirs)


def test_mixed_precision_trains_like_float32(examples, mlp, mixed_float16):
    student, teacher = mlp(0, dtype="float32"), mlp(1, dtype="float32")
    half = train(student, teacher, *examples, epochs=10)
    assert isinstance(half[0].optimizer, keras.optimizers.LossScaleOptimizer)
    assert student.get_layer("embedding").compute_dtype == "float16"
    assert {v.dtype for v in student.trainable_variables} == {"float32"}
    keras.config.set_dtype_policy("float32")
    full = train(mlp(0), mlp(1), *examples, epochs=10)
    same(half, full, rtol=0.02, atol=0.01)
    assert half[1]["loss"][-1] < 0.85 * half[1]["loss"][0]


@pytest.mark.parametrize("mode", ["auto", "off"])
def test_a_teacher_set_later_is_the_one_that_teaches(examples, mlp, mode):
    x, _ = examples
    distiller = kd.Distiller(student=mlp(0), teacher=mlp(1), teacher_cache=mode)
    distiller.compile(keras.optimizers.SGD(0.0))
    for seed in (1, 2):
        distiller.teacher = mlp(seed)
        history = distiller.fit(*examples, verbose=0).history
        soft = kd.losses.softened_kl(mlp(0)(x), mlp(seed)(x), temperature=4.0)
        assert history["distillation_loss"] == [pytest.approx(np.mean(soft), rel=1e-5)]


def test_arrays_are_said_not_to_be_augmented_where_a_method_asks_for_it(examples, mlp, caplog):
    train(mlp(0), mlp(1), *examples)
    assert "augments" not in caplog.text
    train(mlp(0), mlp(1), *examples, method=kd.methods.FunctionMatching(), alpha=0.0)
    assert "FunctionMatching is meant for images with mixup" in caplog.text
