"""The residual networks for CIFAR: sizes as published, what their blocks do, where stages end."""

import keras
import numpy as np
import pytest

from kd_keras import models
from kd_keras.models import residual
from kd_keras.models.taps import FeatureExtractor

# millions of weights on 100 classes, as the field rounds them: Tian et al. (2020) and the tables
# of their public benchmark; moving statistics are not counted there
PUBLISHED = {
    "resnet20": 0.28,
    "resnet56": 0.86,
    "resnet8x4": 1.23,
    "resnet32x4": 7.43,
    "wrn_16_2": 0.70,
    "wrn_40_2": 2.26,
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_the_number_of_weights_is_the_published_one(name):
    model = models.build(name, input_shape=(32, 32, 3), classes=100)
    count = sum(int(np.prod(w.shape)) for w in model.trainable_weights)
    assert round(count / 1e6, 2) == PUBLISHED[name]


@pytest.mark.parametrize(("name", "widths"), [("resnet8x4", (64, 128, 256)),
                                              ("wrn_16_2", (32, 64, 128))])  # fmt: skip
def test_stages_end_at_full_half_and_quarter_size(name, widths):
    model = models.build(name, input_shape=(32, 32, 3), classes=10)
    shapes = FeatureExtractor(model, ("stages", "embedding")).shapes
    sizes = zip((32, 16, 8), widths, strict=True)
    want = {f"stage{n}": (None, s, s, w) for n, (s, w) in enumerate(sizes, start=1)}
    assert shapes == {**want, "embedding": (None, widths[-1])}


def test_a_stage_has_negative_numbers_where_its_block_ends_in_a_sum():
    images = np.random.default_rng(0).integers(0, 256, (4, 32, 32, 3)).astype("float32")
    for name, rectified in (("resnet8x4", True), ("wrn_16_2", False)):
        model = models.build(name, input_shape=(32, 32, 3), classes=10)
        view = FeatureExtractor(model, ("stages",))
        for tap, features in view(images).items():
            assert view.rectified(tap) == bool(np.min(features) >= 0) == rectified, (name, tap)


def test_a_block_is_two_convolutions_beside_its_input():
    """The second block of a stage, by hand, with the statistics of a new model."""
    model = residual.resnet20((8, 8, 3), 3)
    before, after = (model.get_layer(n).output for n in ("stage1_block1_out", "stage1_block2_out"))
    x, y = keras.Model(model.input, [before, after])(np.full((1, 8, 8, 3), 200.0))
    one, two = (model.get_layer(f"stage1_block2_{n}_conv").kernel for n in (1, 2))
    scale = 1 / np.sqrt(1 + 1e-5)
    inner = keras.ops.relu(keras.ops.conv(x, one, padding="same") * scale)
    want = keras.ops.relu(keras.ops.conv(inner, two, padding="same") * scale + x)
    np.testing.assert_allclose(y, want, rtol=1e-4, atol=1e-5)


def test_pixels_are_centred_and_scaled():
    model = residual.resnet20((8, 8, 3), 3)
    mean, deviation = np.array([0.5071, 0.4867, 0.4408]), np.array([0.2675, 0.2565, 0.2761])
    pixels = np.random.default_rng(0).integers(0, 256, (2, 8, 8, 3))
    got = model.get_layer("preprocess")(pixels.astype("float32"))
    np.testing.assert_allclose(got, (pixels / 255 - mean) / deviation, rtol=1e-4, atol=1e-5)


def test_grey_images_of_another_size_work():
    assert residual.wrn_16_2((20, 12, 1), 4)(np.zeros((1, 20, 12, 1), "uint8")).shape == (1, 4)
