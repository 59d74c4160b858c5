"""Compare what lies behind taps of a model with the model."""

import keras
import numpy as np

from kd_keras import models


def check(model, taps, atol):
    """Each tail answers as the model does, once it has its weights; the model is as it was."""
    before = [np.array(v) for v in model.weights]
    ours = {layer.name: layer for layer in model.layers}
    tapped = [ours[models.pretrained.TAPS.get(model.name, {}).get(tap, tap)] for tap in taps]
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (2, *model.input_shape[1:])).astype("float32")
    around = keras.Model(model.input, [[layer.input, layer.output] for layer in tapped])
    wanted, found = model(images, training=False), around(images, training=False)
    for tap, (entering, leaving) in zip(taps, found, strict=True):
        behind = models.tail(model, tap)
        for layer in behind.layers:
            if layer.weights:
                assert layer is not ours[layer.name]
                layer.set_weights(ours[layer.name].get_weights())
        got = None
        if behind.input_shape[1:] == leaving.shape[1:]:
            got = behind(leaving, training=False)
        if got is None or not np.allclose(got, wanted, atol=atol):
            got = behind(entering, training=False)
        np.testing.assert_allclose(got, wanted, atol=atol, err_msg=tap)
    for old, new in zip(before, model.weights, strict=True):
        np.testing.assert_array_equal(old, new)
