"""Images that are divided by 255 before a model divides them again."""

import keras
import numpy as np
import pytest

import kd_keras as kd
from kd_keras.models.scaling import divided_twice, rescales


@pytest.fixture(scope="module")
def ours():
    return kd.models.build("mlp", input_shape=(4, 4, 1), classes=2, hidden=(3,))


def test_a_model_rescales_if_a_layer_of_it_or_within_it_does(ours):
    assert rescales(ours)
    assert rescales(keras.Sequential([keras.Input((4, 4, 1)), ours]))
    bare = [keras.Input((4, 4, 1)), keras.layers.Rescaling(2.0), keras.layers.Flatten()]
    assert not rescales(keras.Sequential(bare))


def test_images_within_0_to_1_are_warned_of_and_others_are_not(ours):
    pixels = np.random.default_rng(0).integers(0, 256, (5, 4, 4, 1))
    for images in (pixels / 255, (pixels / 255).astype("float32"), pixels > 99):
        assert "look divided by 255 already, but the student would divide" in divided_twice(
            images, {"student": ours}
        )
    for images in (pixels, pixels / 127.5 - 1, np.zeros_like(pixels), pixels[:0]):
        assert divided_twice(images, {"student": ours}) is None
    bare = keras.Sequential([keras.Input((4, 4, 1)), keras.layers.Flatten()])
    assert divided_twice(pixels / 255, {"student": bare}) is None


def test_fit_says_so(ours, caplog):
    images = np.random.default_rng(0).random((4, 4, 4, 1), "float32")
    distiller = kd.Distiller(student=ours, teacher=keras.models.clone_model(ours))
    distiller.compile(run_eagerly=True)
    distiller.fit(images, np.array([0, 1, 0, 1]), batch_size=4, verbose=0)
    assert [record.levelname for record in caplog.records if "divided" in record.message] == [
        "WARNING"
    ]
