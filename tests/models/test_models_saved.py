"""A saved model of the registry is a plain Keras file."""

import json
import zipfile

import keras
import numpy as np
import pytest

rng = np.random.default_rng(0)


def pixels(model):
    return rng.integers(0, 256, size=(2, *model.input_shape[1:]), dtype=np.uint8)


@pytest.mark.slow
def test_saved_file_is_plain_keras_and_gives_the_same(built, model_name, tmp_path):
    model = built(model_name)
    path = tmp_path / "model.keras"
    model.save(path)
    config = json.loads(zipfile.ZipFile(path).read("config.json"))
    for part in parts(config):
        assert part["registered_name"] in (None, part["class_name"])
        assert part["module"].split(".")[0] == "keras"
    again = keras.models.load_model(path)
    images = pixels(model)
    np.testing.assert_allclose(again(images), model(images), rtol=1e-5, atol=1e-6)
    assert again.name == model_name
    assert [layer.name for layer in again.layers] == [layer.name for layer in model.layers]


def parts(config):
    """Every serialised object in a config, at any depth."""
    if isinstance(config, list):
        for item in config:
            yield from parts(item)
    elif isinstance(config, dict):
        if "class_name" in config and "module" in config and "registered_name" in config:
            yield config
        for item in config.values():
            yield from parts(item)
