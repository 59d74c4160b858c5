"""The residual networks for CIFAR: sizes as published, what their blocks do, where stages end."""

import keras
import numpy as np
import pytest

from kd_keras import models
from kd_keras.models import residual
from kd_keras.models.taps import FeatureExtractor

# weights on 100 classes, without moving statistics. The field rounds them: 0.28 M, 0.86 M, 1.23 M,
# 7.43 M, 0.70 M and 2.26 M in the benchmark of Tian et al. (2020); 0.27 M and 0.85 M on 10 classes,
# with shortcuts that have no weights, for resnet20 and resnet56 in He et al. (2016), table 6; 2.2 M
# on 10 classes for wrn_40_2 in Zagoruyko and Komodakis (2016)
WEIGHTS = {
    "resnet8": 83_892,
    "resnet20": 278_324,
    "resnet56": 861_620,
    "resnet8x4": 1_233_540,
    "resnet32x4": 7_433_860,
    "wrn_16_2": 703_284,
    "wrn_40_2": 2_255_156,
}


def by_hand(blocks, widths, early, classes=100):
    """The number of weights, from the papers.

    With K = 9 numbers in a 3x3 kernel and no biases, a convolution from a to b channels has K*a*b
    weights, the batch normalisation of b channels a gamma and a beta for each, 2*b, and the dense
    layer a kernel and a bias, (d + 1)*classes. A block from a to b channels is

        K*a*b + K*b*b                     two convolutions
        + 2*b + 2*b                       normalised behind each; or, if `early`, before: 2*a + 2*b
        + a*b                             if a != b: the shortcut, a 1x1 convolution
        + 2*b                             ... which is normalised, unless `early`

    The stem is K*3*w convolution weights, and 2*w behind it, unless `early`: then the last stage
    is normalised once more, 2*d.

    resnet20, for example: stem 432 + 32; stage 1, 3*(2*2304 + 64) = 14,016; stage 2, 4608 + 9216
    + 128 + 512 + 64 = 14,528 and 2*(2*9216 + 128) = 37,120; stage 3, 18,432 + 36,864 + 256 + 2048
    + 128 = 57,728 and 2*(2*36,864 + 256) = 147,968; dense 6500. Together 278,324.
    """
    before, *stages = widths
    count = 9 * 3 * before + (0 if early else 2 * before)
    for width in stages:
        for _ in range(blocks):
            count += 9 * before * width + 9 * width * width
            count += 2 * (before if early else width) + 2 * width
            if before != width:
                count += before * width + (0 if early else 2 * width)
            before = width
    return count + (2 * before if early else 0) + (before + 1) * classes


@pytest.mark.parametrize(
    ("name", "blocks", "widths", "early"),
    [
        # depth 6n + 2: n blocks of two layers in each of three stages, the stem and the dense layer
        ("resnet8", 1, (16, 16, 32, 64), False),
        ("resnet20", 3, (16, 16, 32, 64), False),
        ("resnet56", 9, (16, 16, 32, 64), False),
        ("resnet8x4", 1, (32, 64, 128, 256), False),
        ("resnet32x4", 5, (32, 64, 128, 256), False),
        # depth 6n + 4: Zagoruyko and Komodakis count a shortcut of each stage as a layer
        ("wrn_16_2", 2, (16, 32, 64, 128), True),
        ("wrn_40_2", 6, (16, 32, 64, 128), True),
    ],
)
def test_the_number_of_weights_is_the_published_one(name, blocks, widths, early):
    model = models.build(name, input_shape=(32, 32, 3), classes=100)
    count = sum(int(np.prod(w.shape)) for w in model.trainable_weights)
    assert count == by_hand(blocks, widths, early) == WEIGHTS[name]


@pytest.mark.parametrize("name", ["resnet8x4", "wrn_16_2"])
def test_kernels_begin_as_he_et_al_draw_them(name):
    """Normal with variance 2 / (9 * channels of the output), whatever its width."""
    keras.utils.set_random_seed(0)
    model = models.build(name, input_shape=(32, 32, 3), classes=10)
    for layer in ("stem_conv", "stage2_block1_1_conv", "stage3_block1_2_conv"):
        kernel = np.asarray(model.get_layer(layer).kernel)
        want = np.sqrt(2 / (9 * kernel.shape[-1]))
        error = 4 * want / np.sqrt(2 * kernel.size)
        assert abs(kernel.std() - want) < error, layer


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
