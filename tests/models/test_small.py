"""The small networks: what they are made of, sizes they take, knobs they check."""

import keras
import numpy as np
import pytest

from kd_keras.models import small

IMAGE = np.random.default_rng(0).integers(0, 256, size=(2, 8, 8, 1), dtype=np.uint8)


def test_mlp_is_relu_of_scaled_pixels():
    model = small.mlp((8, 8, 1), 3, hidden=(5, 4))
    w1, b1, w2, b2, w3, b3 = model.get_weights()
    hidden = np.maximum(IMAGE.reshape(2, 64) / 255 @ w1 + b1, 0)
    embedding = np.maximum(hidden @ w2 + b2, 0)
    np.testing.assert_allclose(model(IMAGE), embedding @ w3 + b3, rtol=1e-4, atol=1e-5)
    names = [layer.name for layer in model.layers if layer.weights]
    assert names == ["stage1", "embedding", "logits"]


def test_mlp_default_is_the_mnist_student():
    model = small.mlp((28, 28, 1), 10)
    assert model.count_params() == 2 * (784 * 784 + 784) + 784 * 10 + 10


def test_mlp_drops_after_each_hidden_layer():
    model = small.mlp((8, 8, 1), 3, hidden=(5, 4), dropout=0.5)
    dropped = [layer for layer in model.layers if isinstance(layer, keras.layers.Dropout)]
    assert [layer.name for layer in dropped] == ["stage1_dropout", "embedding_dropout"]
    assert model.get_layer("logits").input is model.get_layer("embedding_dropout").output


def test_mlp_drops_pixels_and_limits_the_weights_of_hidden_units():
    model = small.mlp((8, 8, 1), 3, hidden=(5, 4), input_dropout=0.2, max_norm=1.5)
    dropped = [layer for layer in model.layers if isinstance(layer, keras.layers.Dropout)]
    assert [(layer.name, layer.rate) for layer in dropped] == [("input_dropout", 0.2)]
    assert model.get_layer("stage1").input is dropped[0].output
    limits = [model.get_layer(name).kernel_constraint for name in ("stage1", "embedding")]
    assert [limit.max_value for limit in limits] == [1.5, 1.5]
    kernel = limits[0](model.get_layer("stage1").kernel * 100.0)
    np.testing.assert_allclose(np.linalg.norm(kernel, axis=0), 1.5, rtol=1e-5)  # of each unit
    assert model.get_layer("logits").kernel_constraint is None


def test_lenet5_has_the_widths_of_the_paper():
    model = small.lenet5((28, 28, 1), 10)
    shapes = [model.get_layer(f"stage{n}").output.shape[1:] for n in (1, 2)]
    assert shapes == [(28, 28, 6), (14, 14, 16)]
    assert model.get_layer("hidden").units == 120
    assert model.get_layer("embedding").units == 84


def test_cnn_is_the_mnist_teacher():
    model = small.cnn((28, 28, 1), 10)
    shapes = [model.get_layer(f"stage{n}").output.shape[1:] for n in (1, 2)]
    assert shapes == [(28, 28, 32), (14, 14, 64)]
    assert model.count_params() == 320 + 18496 + (7 * 7 * 64 * 128 + 128) + 1290
    rates = [layer.rate for layer in model.layers if isinstance(layer, keras.layers.Dropout)]
    assert rates == [0.25, 0.5]


def test_cnn_width_scales_every_layer():
    model = small.cnn((8, 8, 1), 10, width=0.5)
    sizes = [model.get_layer(name).output.shape[-1] for name in ("stage1", "stage2", "embedding")]
    assert sizes == [16, 32, 64]


@pytest.mark.parametrize("build", [small.mlp, small.lenet5, small.cnn])
@pytest.mark.parametrize("shape", [(8, 8, 1), (28, 28, 1), (32, 20, 3), (5, 3, 2), (1, 1, 1)])
def test_any_image_size_works(build, shape):
    assert build(shape, 4)(np.zeros((1, *shape), "uint8")).shape == (1, 4)


@pytest.mark.parametrize(
    ("build", "knobs", "message"),
    [
        (small.mlp, {"hidden": ()}, r"`hidden` must be a positive integer or"),
        (small.mlp, {"hidden": (8, 0)}, r"Received: hidden=\(8, 0\)"),
        (small.mlp, {"hidden": (8.5,)}, r"non-empty sequence"),
        (small.mlp, {"hidden": "88"}, r"Received: hidden='88'"),
        (small.mlp, {"hidden": 0}, r"Received: hidden=0"),
        (small.mlp, {"dropout": 1.0}, r"`dropout` must lie in \[0, 1\). Received: dropout=1.0"),
        (small.mlp, {"dropout": -0.1}, r"`dropout` must lie"),
        (small.mlp, {"input_dropout": 1.0}, r"Received: input_dropout=1.0"),
        (small.mlp, {"max_norm": 0}, r"`max_norm` must be a positive number. Received: max_norm=0"),
        (small.cnn, {"width": 0}, r"`width` must be a positive number. Received: width=0"),
    ],
)
def test_wrong_knobs_are_named(build, knobs, message):
    with pytest.raises(ValueError, match=message):
        build((8, 8, 1), 10, **knobs)
