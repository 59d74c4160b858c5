"""What every model of the registry must do, in one file, so that each is built once."""

import json
import zipfile

import keras
import numpy as np
import pytest
from tail_answers import check

from kd_keras import models
from kd_keras.models import freezing
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


def pixels(model):
    return rng.integers(0, 256, size=(2, *model.input_shape[1:])).astype("float32")


# --- the model ---


@pytest.mark.slow
def test_takes_uint8_or_float_pixels_and_gives_logits_of_its_embedding(built, model_name):
    model = built(model_name)
    head = model.get_layer("logits")
    both = keras.Model(model.input, [head.input, head.output])
    images = pixels(model).astype("uint8")
    embedding, logits = both(images)
    assert tuple(logits.shape) == (2, 3)
    assert logits.dtype == "float32"
    assert np.isfinite(logits).all()
    assert not np.allclose(np.sum(logits, axis=-1), 1.0)
    assert head.activation is keras.activations.linear
    assert head.output is model.output
    kernel, bias = head.get_weights()
    np.testing.assert_allclose(embedding @ kernel + bias, logits, rtol=1e-4, atol=1e-5)
    entering = model.get_layer("embedding").output
    assert head.input is entering or model.get_layer("embedding_dropout").input is entering
    np.testing.assert_array_equal(model(images.astype("float32")), logits)


def test_is_flat_and_carries_its_name(built, model_name):
    model = built(model_name)
    assert model.name == model_name
    assert not [layer.name for layer in model.layers if isinstance(layer, keras.Model)]
    assert len({layer.name for layer in model.layers}) == len(model.layers)


def test_every_row_of_taps_names_layers(built, backbone_name):
    _check_row_of_taps(built(backbone_name), backbone_name)


@pytest.mark.slow
def test_the_row_of_a_deeper_network_names_layers_too(built):
    _check_row_of_taps(built("resnet101v2"), "resnet101v2")


def _check_row_of_taps(model, backbone_name):
    for layer in TAPS[backbone_name].values():
        assert model.get_layer(layer) in model.layers


@pytest.mark.slow
def test_saved_file_is_plain_keras_and_gives_the_same(built, model_name, tmp_path):
    model = built(model_name)
    path = tmp_path / "model.keras"
    model.save(path)
    config = json.loads(zipfile.ZipFile(path).read("config.json"))
    for part in parts_of(config):
        assert part["registered_name"] in (None, part["class_name"])
        assert part["module"].split(".")[0] == "keras"
    again = keras.models.load_model(path)
    images = pixels(model)
    np.testing.assert_allclose(again(images), model(images), rtol=1e-5, atol=1e-6)
    assert again.name == model_name
    assert [layer.name for layer in again.layers] == [layer.name for layer in model.layers]


def parts_of(config):
    """Every serialised object in a config, at any depth."""
    if isinstance(config, list):
        for item in config:
            yield from parts_of(item)
    elif isinstance(config, dict):
        if "class_name" in config and "module" in config and "registered_name" in config:
            yield config
        for item in config.values():
            yield from parts_of(item)


# --- the backbones of keras.applications: the same numbers as the stock model ---


@pytest.mark.slow
@pytest.mark.parametrize("application_name", SMALLER)
def test_same_numbers_as_the_stock_model(built, application_name):
    model = built(application_name)
    original = BACKBONES[application_name].constructor(input_shape=(96, 96, 3), pooling="avg")
    original.set_weights(model.get_weights()[:-2])
    images = pixels(model)
    prepared = PREPROCESSING[application_name].preprocess_input(images.copy())
    want = original(prepared)
    assert np.std(want) > 0
    # rounding alone, over a hundred layers; another scale or offset shows at 1e-2
    tolerance = 2e-4 * np.abs(want).max()
    embedding = keras.Model(model.input, model.get_layer("embedding").output)
    np.testing.assert_allclose(embedding(images), want, rtol=0, atol=tolerance)


def test_preprocessing_is_that_of_keras_applications(built, application_name):
    model = built(application_name)
    images = pixels(model)
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
    model = built(backbone_name)
    view = FeatureExtractor(model, ("stages", "embedding"))
    assert view.taps == ("stage1", "stage2", "stage3", "stage4", "embedding")
    for tap, features in view(pixels(model)).items():
        assert bool(np.min(features) >= 0) == view.rectified(tap), tap


@pytest.mark.slow
def test_stages_do_not_depend_on_what_was_built_before():
    """Keras numbers some layers by how many of their kind the process has made.

    All networks but the first of this file are built after others; here it is one of their own.
    """
    for _ in range(2):
        model = models.build("mobilenetv3small", input_shape=(32, 32, 3), classes=2)
        _check_row_of_taps(model, "mobilenetv3small")


# --- blocks and tails ---


@pytest.mark.parametrize(
    ("name", "first", "last", "count"),
    [
        ("mobilenetv2", ("stem", "expanded_conv", "block_1"), ("block_16", "Conv_1"), 19),
        ("resnet50v2", ("stem", "conv2_block1"), ("conv5_block2", "conv5_block3"), 17),
        ("mobilenetv3small", ("stem", "expanded_conv"), ("expanded_conv_10", "conv_1"), 13),
    ],
)
def test_blocks_of_a_backbone(built, name, first, last, count):
    blocks = freezing.blocks(built(name))
    assert blocks[: len(first)] == first
    assert blocks[-len(last) :] == last
    assert len(blocks) == count


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "first", "last", "count"),
    [
        ("efficientnetv2b0", ("stem", "block1a"), ("block6h", "top"), 23),
        ("efficientnet_lite0", ("stem", "block1a", "block2a"), ("block6d", "block7a", "top"), 18),
        ("densenet121", ("stem", "conv2_block1"), ("conv5_block15", "conv5_block16"), 62),
        ("xception", ("block1", "block2"), ("block13", "block14"), 14),
    ],
)
def test_blocks_of_a_large_backbone(built, name, first, last, count):
    test_blocks_of_a_backbone(built, name, first, last, count)


def test_every_layer_with_weights_is_in_one_block(built, backbone_name):
    model = built(backbone_name)
    layers = [layer for block in freezing._layers_by_block(model).values() for layer in block]
    assert layers == [layer for layer in model.layers if layer.weights and layer.name != "logits"]
    assert len(freezing.blocks(model)) < len(layers)


@pytest.mark.slow
def test_a_shortcut_without_a_name_belongs_to_its_block(built):
    blocks = freezing._layers_by_block(built("xception"))
    shortcuts = [
        name
        for name, layers in blocks.items()
        if any(layer.name.startswith("conv2d") for layer in layers)
    ]
    assert shortcuts == ["block2", "block3", "block4", "block13"]


@pytest.mark.slow
def test_a_tail_answers_as_the_model_does(built, backbone_name):
    check(built(backbone_name), ("stage1", "stage2", "stage3", "stage4"), 1e-3)
