"""Backbones of keras.applications: the same numbers as the stock model."""

import re

import keras
import numpy as np
import pytest

from kd_keras.models import pretrained
from kd_keras.models.backbones import BACKBONES, TAPS
from kd_keras.models.taps import FeatureExtractor

rng = np.random.default_rng(0)

# where keras.applications keeps the preprocessing that belongs to each
PREPROCESSING = {
    "resnet50v2": keras.applications.resnet_v2,
    "resnet101v2": keras.applications.resnet_v2,
    "mobilenetv2": keras.applications.mobilenet_v2,
    "mobilenetv3small": keras.applications.mobilenet_v3,
    "efficientnetv2b0": keras.applications.efficientnet_v2,
    "densenet121": keras.applications.densenet,
    "xception": keras.applications.xception,
}
# the larger of two of one family takes 170 MB, and tells no more
SMALLER = [name for name in PREPROCESSING if name != "resnet101v2"]


def stock(name, size=96, **settings):
    return BACKBONES[name].constructor(input_shape=(size, size, 3), pooling="avg", **settings)


def embedding(model):
    return keras.Model(model.input, model.get_layer("embedding").output)


def pixels(size=96, channels=3):
    return rng.integers(0, 256, size=(2, size, size, channels)).astype("float32")


@pytest.mark.slow
@pytest.mark.parametrize("application_name", SMALLER)
def test_same_numbers_as_the_stock_model(built, application_name):
    model, original = built(application_name), stock(application_name)
    original.set_weights(model.get_weights()[:-2])
    images = pixels()
    prepared = PREPROCESSING[application_name].preprocess_input(images.copy())
    want = original(prepared)
    assert np.std(want) > 0
    # rounding alone, over a hundred layers; another scale or offset shows at 1e-2
    tolerance = 2e-4 * np.abs(want).max()
    np.testing.assert_allclose(embedding(model)(images), want, rtol=0, atol=tolerance)


def test_preprocessing_is_that_of_keras_applications(built, application_name):
    model, images = built(application_name), pixels()
    if BACKBONES[application_name].rescaling is None:  # the backbone brings its own
        assert "preprocess" not in [layer.name for layer in model.layers]
        np.testing.assert_array_equal(
            PREPROCESSING[application_name].preprocess_input(images), images
        )
        return
    want = PREPROCESSING[application_name].preprocess_input(images.copy())
    got = model.get_layer("preprocess")(images)
    np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-6)


def test_stages_lie_at_strides_4_to_32(built, backbone_name):
    model = built(backbone_name)
    sizes = [
        model.get_layer(TAPS[backbone_name][f"stage{n}"]).output.shape[1] for n in (1, 2, 3, 4)
    ]
    # Xception does not pad: its first stage is 23 pixels wide where a quarter is 24
    assert [round(96 / size) for size in sizes] == [4, 8, 16, 32]
    assert (
        model.get_layer("embedding").input is model.get_layer(TAPS[backbone_name]["stage4"]).output
    )


@pytest.mark.slow
def test_a_stage_has_negative_numbers_unless_it_has_passed_a_relu(built, backbone_name):
    view = FeatureExtractor(built(backbone_name), ("stages", "embedding"))
    assert view.taps == ("stage1", "stage2", "stage3", "stage4", "embedding")
    for tap, features in view(pixels()).items():
        assert bool(np.min(features) >= 0) == view.rectified(tap), tap


def test_stages_do_not_depend_on_what_was_built_before(built, backbone_name):
    """Keras numbers some layers by how many of their kind the process has made."""
    built(backbone_name)
    again = getattr(pretrained, backbone_name)((96, 96, 3), 2)
    for layer in TAPS[backbone_name].values():
        again.get_layer(layer)


def test_grey_is_repeated_to_three_channels():
    grey = pretrained.mobilenetv2((32, 32, 1), 2, width=0.35)
    colour = pretrained.mobilenetv2((32, 32, 3), 2, width=0.35)
    colour.set_weights(grey.get_weights())
    images = pixels(32, channels=1)
    np.testing.assert_allclose(grey(images), colour(np.repeat(images, 3, axis=-1)), rtol=1e-5)


def test_width_scales_the_backbone():
    half = pretrained.mobilenetv2((32, 32, 3), 2, width=0.5)
    assert embedding(half).count_params() == stock("mobilenetv2", 32, alpha=0.5).count_params()


def test_dropout_lies_between_embedding_and_logits():
    model = pretrained.mobilenetv2((32, 32, 3), 2, width=0.35, dropout=0.3)
    assert model.get_layer("embedding_dropout").rate == 0.3
    assert model.get_layer("logits").input is model.get_layer("embedding_dropout").output


@pytest.mark.parametrize(
    ("name", "shape", "settings", "message"),
    [
        ("mobilenetv2", (31, 32, 3), {}, "mobilenetv2 needs images of at least 32x32 pixels"),
        ("xception", (64, 96, 3), {}, "xception needs images of at least 71x71 pixels"),
        ("resnet50v2", (32, 32, 2), {}, "1 or 3 channels. Received: input_shape=(32, 32, 2)"),
        ("resnet50v2", (32, 32, 3), {"dropout": 1}, "`dropout` must lie in [0, 1)"),
        ("mobilenetv2", (32, 32, 3), {"width": 0}, "`width` must be a positive number"),
        (
            "mobilenetv2",
            (32, 32, 3),
            {"width": 0.6, "weights": "imagenet"},
            "exist for the widths 0.35, 0.5, 0.75, 1.0, 1.3, 1.4. Received: width=0.6",
        ),
    ],
)
def test_wrong_arguments_are_named(name, shape, settings, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        getattr(pretrained, name)(shape, 2, **settings)
