"""A new head on a model that exists: what is kept, what is replaced, and what is refused."""

import keras
import numpy as np
import pytest
from keras import layers

from kd_keras.models import freezing, new_head

rng = np.random.default_rng(0)
IMAGES = rng.uniform(0, 255, (3, 8, 8, 1)).astype("float32")


def backbone(*after):
    keras.utils.set_random_seed(0)
    return keras.Sequential(
        [keras.Input((8, 8, 1)), layers.Conv2D(4, 3, activation="relu"), *after], name="given"
    )


ENDS = {
    "maps": (),
    "features": (layers.GlobalAveragePooling2D,),
    "other classes": (layers.GlobalAveragePooling2D, lambda: layers.Dense(7)),
    "their softmax": (
        layers.GlobalAveragePooling2D,
        lambda: layers.Dense(7, activation="softmax"),
    ),
    "softmax as a layer": (layers.GlobalAveragePooling2D, lambda: layers.Dense(7), layers.Softmax),
}


@pytest.mark.parametrize("name", ENDS)
def test_the_new_head_stands_on_the_features_of_the_model(name):
    model = backbone(*(make() for make in ENDS[name]))
    made = new_head.for_classes(model, 5)
    features = np.asarray(model.layers[0](IMAGES)).mean(axis=(1, 2))
    kernel, bias = made.get_layer("logits").get_weights()
    np.testing.assert_allclose(made(IMAGES), features @ kernel + bias, rtol=1e-5, atol=1e-4)
    assert kernel.shape == (4, 5)


def test_a_head_of_the_right_classes_stays_with_its_weights():
    model = backbone(layers.GlobalAveragePooling2D(), layers.Dense(5, name="mine"))
    assert new_head.for_classes(model, 5) is model
    inputs = keras.Input((8, 8, 1))
    made = new_head.for_classes(model, 5, inputs, inputs / 2)
    np.testing.assert_allclose(made(IMAGES), model(IMAGES / 2), rtol=1e-5)
    freezing.freeze(made)  # the head is on top, and not in a block
    assert [layer.name for layer in made.layers if layer.weights and layer.trainable] == ["mine"]
    freezing.unfreeze(made, 1)
    assert len(made.trainable_weights) == 4


def test_probabilities_of_the_right_classes_are_refused():
    model = backbone(layers.GlobalAveragePooling2D(), layers.Dense(5, activation="softmax"))
    with pytest.raises(ValueError, match="must return logits"):
        new_head.for_classes(model, 5)


def test_a_head_inside_a_nested_model_is_refused():
    inner = backbone(layers.GlobalAveragePooling2D(), layers.Dense(7))
    outer = keras.Sequential([keras.Input((8, 8, 1)), layers.Rescaling(1 / 255), inner])
    with pytest.raises(ValueError, match="lies inside its layer 'given'"):
        new_head.for_classes(outer, 5)


def test_sequences_of_features_are_refused():
    model = backbone(layers.Reshape((36, 4)))
    with pytest.raises(ValueError, match="A head is put on features"):
        new_head.for_classes(model, 5)


def test_custom_code_is_called_as_one_layer():
    @keras.saving.register_keras_serializable("tests")
    class Custom(keras.Model):
        def __init__(self):
            super().__init__()
            self.conv = layers.Conv2D(4, 3)

        def call(self, images):
            return self.conv(images)

    model = Custom()
    model(IMAGES)
    made = new_head.for_classes(model, 5)
    assert made.output_shape == (None, 5)
    assert any(layer is model for layer in made.layers)
