"""Models of keras.applications and of the user's own code."""

import keras
import numpy as np
import pytest

from kd_keras import models
from kd_keras.models import outside, taps

CODE = """
import keras

def small(input_shape, classes, units=4):
    inputs = keras.Input(input_shape)
    x = keras.layers.Dense(units, name="embedding")(keras.layers.Flatten()(inputs))
    return keras.Model(inputs, keras.layers.Dense(classes)(x))

def list_of(input_shape, classes):
    return [1]

def three(input_shape, classes):
    inputs = keras.Input(input_shape)
    return keras.Model(inputs, keras.layers.Dense(3)(keras.layers.Flatten()(inputs)))

def other(shape):
    return None

class Custom(keras.Model):
    def __init__(self, classes):
        super().__init__()
        self.dense = keras.layers.Dense(classes)

    def call(self, x):
        return self.dense(keras.ops.reshape(x, (-1, 16)))

def custom(input_shape, classes):
    return Custom(classes)
"""


@pytest.fixture(scope="module")
def code(tmp_path_factory):
    path = tmp_path_factory.mktemp("code") / "mine.py"
    path.write_text(CODE)
    return path


def test_all_constructors_of_keras_applications_are_found():
    found = outside.applications()
    assert {"resnet50", "vgg16", "efficientnetb0", "convnexttiny", "mobilenet"} <= set(found)
    assert "imagenet_utils" not in found
    assert len(found) >= 35


@pytest.mark.parametrize("name", ["MobileNet", "efficientnetb0"])
@pytest.mark.slow
def test_an_application_takes_raw_pixels_and_gives_logits(name):
    keras.utils.set_random_seed(0)
    model = models.build(name, input_shape=(32, 32, 1), classes=5, dropout=0.1)
    assert model.name == name.lower()
    assert model.output_shape == (None, 5)
    assert models.knobs(name) == {"dropout": 0.0}
    images = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 1), "uint8")
    assert np.isfinite(model(images)).all()
    extractor = taps.FeatureExtractor(model, ("stages", "embedding", "logits"))
    assert {"stage1", "stage2", "embedding", "logits"} <= set(extractor.shapes)


def test_mobilenet_gets_what_its_weights_expect():
    """Its own preprocessing maps raw pixels to -1 to 1."""
    model = models.build("MobileNet", input_shape=(32, 32, 3), classes=2)
    first = next(layer for layer in model.layers if layer.name == "conv1")
    entering = keras.Model(model.input, first.input)
    found = entering(np.full((1, 32, 32, 3), 255.0, "float32"))
    np.testing.assert_allclose(found, 1.0, atol=1e-6)


def test_a_function_of_ones_own_is_called_with_shape_classes_and_knobs(code):
    name = f"{code}:small"
    assert models.knobs(name) == {"units": 4}
    model = models.build(name, input_shape=(4, 4, 1), classes=3, units=6)
    assert model.count_params() == 16 * 6 + 6 + 6 * 3 + 3
    assert outside.file_of(name) == code
    assert outside.file_of("kd_keras.models.small:mlp").name == "small.py"
    assert models.build("kd_keras.models.small:mlp", input_shape=(4, 4, 1), classes=3, hidden=(2,))


@pytest.mark.parametrize(
    ("name", "match"),
    [
        ("mine.py:absent", r"has no function 'absent'. It has: small, list_of"),
        ("mine.py:list_of", "must return a Keras model. Received: list"),
        ("mine.py:three", r"model with 2 logits per image. Received: .*\(None, 3\)"),
        ("mine.py:other", "must take `input_shape` and `classes`"),
        ("mine.py:custom", "returns a Custom that Keras cannot save"),
        ("absent.py:small", "There is no file"),
        ("no.such.module:small", r"'no.such.module' cannot be imported"),
        ("MobileNt", "Unknown model 'MobileNt'"),
    ],
)
def test_what_makes_no_model_is_told(code, name, match):
    name = str(code.with_name(name)) if ".py:" in name else name
    with pytest.raises((ValueError, FileNotFoundError), match=match):
        models.build(name, input_shape=(4, 4, 1), classes=2)


def test_code_that_fails_is_told_and_can_be_mended(tmp_path):
    path = tmp_path / "broken.py"
    path.write_text("import nothing_of_this_name\n")
    with pytest.raises(ValueError, match=r"broken.py' cannot be imported: ModuleNotFoundError"):
        outside.function_at(f"{path}:small")
    path.write_text(CODE)
    assert callable(outside.function_at(f"{path}:small"))
