"""`KD`: the sheet's numbers, its one knob, and its use by hand."""

import math

import keras
import numpy as np
import pytest
import tensorflow as tf

import kd_keras as kd

TEACHER = np.array([[4.0, 1.0, 0.0], [0.0, 2.0, 1.0]])
STUDENT = np.array([[2.0, 1.0, 0.0], [1.0, 1.0, 0.0]])
LABELS = np.array([0, 1])


def loss_of(method, student=STUDENT, teacher=TEACHER):
    return method({"logits": student}, {"logits": teacher}, {"label": LABELS})


@pytest.mark.parametrize(
    ("temperature", "want"), [(1.0, 0.24426443), (4.0, 0.45348325), (20.0, 0.45090047)]
)
def test_by_hand_it_gives_the_numbers_of_the_sheet(temperature, want):
    loss = loss_of(kd.methods.KD(temperature=temperature, dtype="float64"))
    assert loss.shape == (2,)
    assert loss.dtype == tf.float64
    np.testing.assert_allclose(np.mean(loss), want, atol=5e-9)


def test_by_hand_it_computes_in_float32():
    loss = loss_of(kd.methods.KD(temperature=4.0))
    assert loss.shape == (2,)
    assert loss.dtype == tf.float32
    np.testing.assert_allclose(np.mean(loss), 0.45348325, rtol=1e-5)


def test_it_needs_neither_labels_nor_index():
    loss = kd.methods.KD(4.0)({"logits": STUDENT}, {"logits": TEACHER}, {})
    np.testing.assert_allclose(np.mean(loss), 0.45348325, rtol=1e-5)
    assert not kd.methods.KD.needs_labels
    assert not kd.methods.KD.needs_index


def test_it_is_known_by_name():
    assert kd.methods.get("kd", temperature=2.0).temperature == 2.0
    assert kd.methods.get("kd").temperature == 4.0
    assert kd.methods.knobs_of("kd") == {"temperature": 4.0}
    with pytest.raises(ValueError, match=r"Unknown method 'kdd'\. Did you mean 'kd'\?"):
        kd.methods.get("kdd")
    with pytest.raises(ValueError, match=r"'temprature'\. Did you mean 'temperature'\?"):
        kd.methods.get("kd", temprature=2.0)


@pytest.mark.parametrize("bad", [0, -1, math.nan, math.inf, "4", True, None])
def test_a_temperature_that_is_not_positive_is_refused(bad):
    message = f"`temperature` must be a positive number. Received: temperature={bad!r}"
    with pytest.raises(ValueError, match="temperature") as at_first:
        kd.methods.KD(temperature=bad)
    method = kd.methods.KD(temperature=3.0)
    with pytest.raises(ValueError, match="temperature") as later:
        method.temperature = bad
    assert str(at_first.value) == str(later.value) == message
    assert method.temperature == 3.0


@pytest.mark.parametrize("temperature", [2, 2.0, np.float32(2), np.int64(2), np.float64(2)])
def test_a_temperature_may_be_any_number(temperature):
    method = kd.methods.KD(temperature)
    assert method.temperature == 2.0
    twin = kd.methods.KD.from_config(method.get_config())
    assert twin.temperature == 2.0


def test_a_scheduled_temperature_moves_with_the_epochs():
    method = kd.methods.KD(kd.schedules.Linear(8.0, 2.0, epochs=4))
    seen = []
    for epoch in range(5):
        method.on_epoch_begin(epoch)
        seen.append(method.temperature)
    assert seen == [8.0, 6.0, 4.0, 2.0, 2.0]
    np.testing.assert_array_equal(loss_of(method), loss_of(kd.methods.KD(2.0)))


def test_a_fixed_temperature_does_not():
    method = kd.methods.KD(3.0)
    method.on_epoch_begin(7)
    assert method.temperature == 3.0


def test_a_schedule_that_leaves_the_range_is_refused_where_it_does():
    method = kd.methods.KD(lambda epoch: 2.0 - epoch)
    method.on_epoch_begin(1)
    with pytest.raises(ValueError, match=r"temperature=0\.0"):
        method.on_epoch_begin(2)
    assert method.temperature == 1.0


def test_a_scheduled_temperature_comes_back_from_its_configuration():
    cool = kd.schedules.Steps((8.0, 1.0), (2,))
    kept = keras.saving.serialize_keras_object(kd.methods.KD(cool))
    twin = keras.saving.deserialize_keras_object(kept)
    twin.on_epoch_begin(2)
    assert twin.temperature == 1.0
    assert kd.schedules.restored(twin.get_config()["temperature"]) == cool


def test_a_new_temperature_acts_in_the_old_trace():
    method, traces = kd.methods.KD(1.0), []

    @tf.function
    def step(student, teacher):
        traces.append(1)
        return loss_of(method, student, teacher)

    student, teacher = (tf.constant(z, tf.float32) for z in (STUDENT, TEACHER))
    for temperature in (1.0, 4.0, kd.schedules.Linear(20.0, 1.0, epochs=3)):
        method.temperature = temperature
        want = loss_of(kd.methods.KD(temperature), student, teacher)
        np.testing.assert_allclose(step(student, teacher), want, rtol=1e-5)
    assert len(traces) == 1
