"""Every storage gives back what it says it keeps, and refuses what it cannot."""

import math

import numpy as np
import pytest
import tensorflow as tf

from kd_keras.cache import Float16, Float32, TopK, as_storage
from kd_keras.cache.request import storages

LOGITS = np.random.default_rng(0).normal(scale=4.0, size=(17, 12)).astype("float32")


def roundtrip(storage, values, tap="logits"):
    """Through bytes, in a graph, as rows go; the parts are as announced."""
    parts = storage.encode(values)
    announced = storage.parts(tap, values.shape[1:])
    assert list(parts) == list(announced)
    for name, part in parts.items():
        assert part.dtype == announced[name].dtype, name
        assert part.shape == (len(values), *announced[name].shape), name
        assert part[:1].nbytes == announced[name].row_bytes
    decode = tf.function(lambda parts: storage.decode(parts, values.shape[1:]))
    return decode({name: tf.constant(part) for name, part in parts.items()}).numpy()


def slow_top_k(row, k):
    """The twin: plain loops over probabilities."""
    total = sum(math.exp(z) for z in row)
    p = [math.exp(z) / total for z in row]
    best = sorted(range(len(p)), key=lambda c: -p[c])[:k]
    rest = (1.0 - sum(p[c] for c in best)) / (len(p) - k)
    return [p[c] if c in best else rest for c in range(len(p))]


@pytest.mark.parametrize("shape", [(12,), (3, 4), (2, 3, 2)])
def test_float32_gives_back_every_bit(shape):
    values = LOGITS.reshape(17, *shape)
    np.testing.assert_array_equal(roundtrip(Float32(), values, "embedding"), values)


def test_float16_is_right_to_eleven_bits():
    np.testing.assert_allclose(roundtrip(Float16(), LOGITS), LOGITS, rtol=Float16.rounding)


@pytest.mark.parametrize("value", [65505.0, -1e9])
def test_float16_refuses_what_would_become_infinite(value):
    with pytest.raises(ValueError, match=r"does not fit float16, .* storage='float32'"):
        Float16().encode(np.array([[1.0, value]], "float32"))


def test_the_largest_float16_is_kept():
    assert roundtrip(Float16(), np.array([[-65504.0]], "float32")).tolist() == [[-65504.0]]


@pytest.mark.parametrize("k", [1, 3, 11])
def test_top_k_against_its_slow_twin(k):
    got = np.exp(roundtrip(TopK(k), LOGITS))
    np.testing.assert_allclose(got, [slow_top_k(row, k) for row in LOGITS], rtol=1e-2)
    np.testing.assert_allclose(got.sum(axis=1), 1.0, rtol=1e-2)


def test_top_k_by_hand():
    """Two of five classes: 3 with 0.6, 0 with 0.2; the other three share 0.2."""
    logits = np.log([[0.2, 0.1, 0.06, 0.6, 0.04]]).astype("float32")
    parts = TopK(2).encode(logits)
    assert parts["classes"].tolist() == [[3, 0]]
    np.testing.assert_allclose(np.exp(parts["log_probabilities"]), [[0.6, 0.2]], rtol=1e-3)
    want = [[0.2, 0.0667, 0.0667, 0.6, 0.0667]]
    np.testing.assert_allclose(np.exp(roundtrip(TopK(2), logits)), want, rtol=2e-3)


def test_top_k_keeps_what_a_temperature_would_show():
    """Probabilities of 1e-30 underflow in float16; their logarithms do not."""
    logits = np.array([[69.0, 0.0, -1.0]], "float32")
    got = roundtrip(TopK(2), logits)
    np.testing.assert_allclose(got - got[:, :1], logits - 69.0, rtol=1e-3)
    assert np.isfinite(got).all()


@pytest.mark.parametrize(("classes", "kind"), [(32767, "int16"), (32768, "int32")])
def test_class_numbers_take_two_bytes_while_they_fit(classes, kind):
    logits = np.zeros((1, classes), "float32")
    logits[0, -1] = 9.0
    assert TopK(1).encode(logits)["classes"].dtype == kind
    assert roundtrip(TopK(1), logits).argmax() == classes - 1


@pytest.mark.parametrize("k", [12, 40])
def test_top_k_refuses_to_keep_all_classes(k):
    with pytest.raises(ValueError, match=f"below the number of classes. Received: k={k} for 12"):
        TopK(k).parts("logits", (12,))


@pytest.mark.parametrize(("tap", "shape"), [("embedding", (64,)), ("logits", (4, 4))])
def test_top_k_is_for_logits_alone(tap, shape):
    with pytest.raises(ValueError, match=f"Received: tap '{tap}' of shape"):
        TopK(2).parts(tap, shape)


@pytest.mark.parametrize("storage", [Float32(), Float16(), TopK(3)])
def test_the_error_is_that_of_a_changed_answer(storage):
    parts = storage.encode(LOGITS)
    assert storage.error(parts, LOGITS) <= 2 * storage.rounding
    changed = LOGITS.copy()
    changed[:, 0] += 1.0
    assert storage.error(parts, changed) > 0.03


@pytest.mark.parametrize(
    ("name", "storage"), [("float32", Float32()), ("float16", Float16()), ("top10", TopK(10))]
)
def test_a_storage_is_found_by_its_name(name, storage):
    assert as_storage(name) == storage == as_storage(storage)
    assert storage.name == name


@pytest.mark.parametrize("value", ["float64", "top", "topten", 10, None])
def test_an_unknown_storage_is_refused(value):
    with pytest.raises(ValueError, match="`storage` must be 'float32', 'float16', 'top10'"):
        as_storage(value)


@pytest.mark.parametrize("k", [0, -1, True, 2.0])
def test_k_is_a_positive_whole_number(k):
    with pytest.raises(ValueError, match="`k` must be a positive whole number"):
        TopK(k)


def test_one_storage_or_one_a_tap():
    shapes = {"logits": (None, 12), "embedding": (None, 5)}
    assert storages("top2", shapes) == {"logits": TopK(2), "embedding": Float32()}
    assert storages("float16", shapes) == {"logits": Float16(), "embedding": Float16()}
    assert storages({"embedding": "float16"}, shapes)["logits"] == Float32()
    with pytest.raises(ValueError, match=r"names the taps \['logit'\]"):
        storages({"logit": "float16"}, shapes)
