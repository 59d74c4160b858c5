"""Schedules: their value at every epoch, what they refuse, and their way through a file."""

import json

import keras
import numpy as np
import pytest

from kd_keras import schedules


def test_linear_goes_from_start_to_end_and_stays():
    cool = schedules.Linear(8.0, 2.0, epochs=4)
    assert [cool(epoch) for epoch in range(6)] == [8.0, 6.0, 4.0, 2.0, 2.0, 2.0]


def test_linear_over_a_single_epoch_is_its_end():
    assert schedules.Linear(1.0, 0.25, epochs=1)(0) == 0.25


def test_steps_change_at_their_boundaries():
    """Early-stopped distillation of the sheet: 0.1 at epoch 59, plain training from 60 on."""
    alpha = schedules.Steps((0.1, 1.0), (60,))
    assert [alpha(epoch) for epoch in (0, 59, 60, 61)] == [0.1, 0.1, 1.0, 1.0]
    rate = schedules.Steps((0.1, 0.02, 0.004), (15, 30))
    assert [rate(epoch) for epoch in (14, 15, 29, 30)] == [0.1, 0.02, 0.02, 0.004]
    assert schedules.Steps((0.3,), ())(7) == 0.3


@pytest.mark.parametrize(
    ("values", "boundaries", "message"),
    [
        ((1.0,), (3,), r"one entry more.*values=\(1.0,\), boundaries=\(3,\)"),
        ((1.0, 2.0, 3.0), (5, 2), r"must increase. Received: \(5, 2\)"),
        ((1.0, 2.0, 3.0), (2, 2), r"must increase. Received: \(2, 2\)"),
    ],
)
def test_steps_refuse_what_does_not_fit(values, boundaries, message):
    with pytest.raises(ValueError, match=message):
        schedules.Steps(values, boundaries)


@pytest.mark.parametrize(
    "schedule", [schedules.Linear(0.9, 0.1, 5), schedules.Steps((0.1, 0.5, 1.0), (2, 4))]
)
def test_schedules_come_back_from_json(schedule):
    kept = json.loads(json.dumps(keras.saving.serialize_keras_object(schedule)))
    assert schedules.restored(kept) == schedule


def test_numbers_of_every_kind_are_their_own_value():
    for number in (4, 0.5, np.float32(0.5), np.int64(4)):
        assert schedules.restored(number) is number
        assert schedules.value_at(number, 3) == number


def test_a_schedule_is_any_callable():
    assert schedules.value_at(lambda epoch: epoch / 10, 3) == 0.3
    assert isinstance(schedules.value_at(lambda epoch: epoch, 3), float)


def test_a_ramp_is_the_weight_of_soft_targets_in_fitnets():
    mnist = schedules.Ramp(4.0, 0.0, first=5, last=150)
    np.testing.assert_allclose(
        [mnist(epoch) for epoch in (0, 4, 5, 77, 149, 150, 500)],
        [4.0, 4.0, 3.97260274, 2.0, 0.02739726, 0.0, 0.0],
        atol=5e-9,
    )
    cifar = schedules.Ramp(4.0, 1.0, first=5, last=400)
    np.testing.assert_allclose(
        [cifar(epoch) for epoch in (4, 5, 288, 400)], [4.0, 3.99242424, 1.84848485, 1.0], atol=5e-9
    )
    kept = json.loads(json.dumps(keras.saving.serialize_keras_object(cifar)))
    assert schedules.restored(kept) == cifar


def test_a_ramp_that_ends_before_it_begins_is_refused():
    with pytest.raises(ValueError, match=r"must be epochs in order\. Received: first=5, last=4"):
        schedules.Ramp(1.0, 0.0, first=5, last=4)


@pytest.mark.parametrize(
    "schedule",
    [
        schedules.Cosine(0.1, 5, 2),
        schedules.WarmUp(0.1, 2),
        schedules.WarmUp(schedules.Cosine(1.0, 4), 1),
    ],
)
def test_cosine_and_warm_up_come_back_from_json(schedule):
    kept = json.loads(json.dumps(keras.saving.serialize_keras_object(schedule)))
    assert schedules.restored(kept) == schedule


def test_a_cosine_halves_midway_and_stays_at_its_ends():
    cool = schedules.Cosine(0.4, epochs=8, first=2)
    np.testing.assert_allclose(
        [cool(epoch) for epoch in (0, 2, 5, 8, 9)], [0.4, 0.4, 0.2, 0, 0], atol=1e-12
    )


def test_a_warm_up_multiplies_what_follows():
    warm = schedules.WarmUp(schedules.Drops(1.0, 0.5, every=2), epochs=3)
    assert [warm(epoch) for epoch in range(5)] == [0.25, 0.5, 0.375, 0.5, 0.25]
    with pytest.raises(ValueError, match="`epochs` must be a positive whole number"):
        schedules.WarmUp(1.0, 0)


def test_a_cosine_that_begins_at_its_end_is_refused():
    with pytest.raises(ValueError, match=r"one of the `epochs`\. Received: first=3, epochs=3"):
        schedules.Cosine(0.1, epochs=3, first=3)
