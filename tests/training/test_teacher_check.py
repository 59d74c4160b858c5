"""A teacher that cannot teach is noticed, and why."""

import logging

import keras
import numpy as np
from keras import layers

import kd_keras as kd
from kd_keras.evaluation import findings
from kd_keras.recipes import results
from kd_keras.training import teacher_check
from kd_keras.training.teacher_check import examine


def answers(labels, classes, right=0.9, seed=0):
    """Logits of a teacher that is right so often, and else says anything."""
    rng = np.random.default_rng(seed)
    said = np.where(
        rng.random(len(labels)) < right, labels, rng.integers(classes, size=len(labels))
    )
    return 3.0 * np.eye(classes)[said] + rng.normal(size=(len(labels), classes))


def test_a_teacher_is_judged_by_the_commonest_class():
    rng = np.random.default_rng(0)
    even = np.arange(200) % 5
    rare = (np.arange(200) % 10 == 0).astype(int)  # nine of ten are of class 0
    ranking = np.stack([np.zeros(200), rng.normal(size=200) + 2 * rare - 5.0], axis=1)
    for name, logits, labels, warned in (
        ("good", answers(even, 5), even, False),
        ("weak, and still better", answers(even, 5, 0.2), even, False),
        ("random", rng.normal(size=(200, 5)), even, True),
        ("one class alone", np.eye(5)[np.zeros(200, int)], even, True),
        ("the commonest class alone", np.eye(2)[np.zeros(200, int)], rare, True),
        ("the commonest class alone, ranking well", ranking, rare, False),
        ("few images, all right", answers(even[:6], 5, 1.0), even[:6], False),
        ("few images, all wrong", answers((even[:4] + 1) % 5, 5, 1.0), even[:4], True),
    ):
        found = examine(logits, labels)
        assert (found.warning is not None) == warned, (name, found)
        assert found.accuracy == (logits.argmax(1) == labels).mean()
        assert found.commonest == np.bincount(labels).max() / len(labels)
        if warned:
            assert "no better than always predicting the most common class" in found.warning


def test_another_order_of_the_classes_is_named_and_chance_is_not_taken_for_one():
    labels = np.random.default_rng(1).integers(6, size=400)
    order = np.array([0, 2, 1, 4, 5, 3])  # its number for each class
    found = examine(answers(order[labels], 6), labels, names="uvwxyz")
    assert found.order == tuple(order)
    assert "it predicts 'w' for 'v', 'v' for 'w', 'y' for 'x' and so on, 5 in all." in found.warning
    swapped = examine(answers(1 - labels % 2, 2), labels % 2)
    assert swapped.order == (1, 0)
    # two classes of many changed places: the teacher is far better than the commonest class
    pair = examine(answers(np.array([0, 1, 2, 3, 5, 4])[labels], 6), labels)
    assert pair.order == (0, 1, 2, 3, 5, 4)
    for seed in range(5):
        few = np.random.default_rng(seed).integers(20, size=100)  # where chance fits some order
        assert examine(answers(few, 20, 0.0, seed), few).order is None
        assert examine(answers(labels, 6, 0.1, seed), labels).order is None


def scaled(scale, offset=0.0):
    """A teacher of three brightnesses, which wants pixels on a scale of its own."""
    inputs = keras.Input((2, 2, 1))
    brightness = layers.GlobalAveragePooling2D()(inputs)
    made = layers.Dense(3, name="logits")
    logits = made(layers.Rescaling(1.0 / scale, -offset / scale)(brightness))
    model = keras.Model(inputs, logits)
    middles = np.array([0.1, 0.5, 0.9])
    made.set_weights([200 * middles[None], -100 * middles**2])  # the nearest of the three
    return model


def bright(levels):
    labels = np.arange(90) % 3
    middles = np.array(levels, "float32")[labels]
    return np.broadcast_to(middles[:, None, None, None], (90, 2, 2, 1)).copy(), labels


def test_pixels_on_another_scale_are_named_by_fit(caplog):
    caplog.set_level(logging.INFO, logger="kd_keras")
    pixels, labels = bright([26, 128, 230])
    for teacher, x, said in (
        (scaled(255.0), pixels, None),
        (scaled(255.0), pixels / 255, "their pixels are multiplied by 255"),
        (scaled(1.0), pixels, "their pixels are divided by 255"),
        (scaled(2.0, -1.0), pixels, "their pixels are divided by 127.5, less 1"),
    ):
        caplog.clear()
        keras.utils.set_random_seed(0)
        student = keras.Sequential(
            [keras.Input((2, 2, 1)), layers.Flatten(), layers.Dense(3, name="logits")]
        )
        distiller = kd.Distiller(student=student, teacher=teacher)
        distiller.compile(run_eagerly=True)
        distiller.fit(x, labels, batch_size=90, verbose=0)
        ours = [r for r in caplog.records if r.name == teacher_check.__name__]
        warned = [r.getMessage() for r in ours if r.levelno == logging.WARNING]
        assert len(warned) == (said is not None)
        assert all(said in text for text in warned)
        assert "The teacher on the training images: accuracy" in caplog.text


def test_a_run_says_how_good_its_teacher_is_and_puts_a_warning_behind_the_verdict(caplog):
    caplog.set_level(logging.INFO, logger="kd_keras")
    task = kd.data.load("digits")
    inputs = keras.Input(task.image_shape)
    constant = keras.Model(inputs, layers.Dense(10, kernel_initializer="zeros")(
        layers.Flatten()(inputs)))  # fmt: skip
    found = results.teacher_facts(constant, task, 3)
    assert found["validation"]["examples"] == 288
    assert found["train"]["examples"] == results.TRAIN_IMAGES
    assert "seed 3: the teacher on validation: accuracy 0.1007" in caplog.text
    assert "on train of 1,149: accuracy" in caplog.text
    assert [r.levelname for r in caplog.records] == ["INFO", "WARNING"]
    assert findings.teacher_warning([{"seed": 1, "warning": None}, found]).startswith(
        "Warning about the teacher (seed 3). The teacher's accuracy is"
    )
    assert findings.teacher_warning([{"seed": 1, "warning": None}]) == ""
    assert teacher_check.PROBED < 288
