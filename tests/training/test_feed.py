"""Arrays given to `fit` come as Keras gives them, and steps end where an epoch does."""

import itertools

import keras
import numpy as np
import pytest
import tensorflow as tf

from kd_keras.runtime.execution import Execution
from kd_keras.training.feed import Feed
from kd_keras.training.supervised import Supervised

COUNT, BATCH = 11, 4
NUMBERS = np.arange(COUNT)


def epochs_of(feed, count):
    """The first numbers that a feed gives, an array an epoch."""
    batches = list(itertools.islice(feed.dataset, count * feed.steps))
    sizes = [len(batch[0]["index"]) for batch in batches]
    assert sizes == [4, 4, 3] * count
    numbers = np.concatenate([batch[0]["index"] for batch in batches])
    return numbers.reshape(count, COUNT)


def of_numbers(shuffle):
    return Feed.of({"index": NUMBERS}, None, None, batch_size=BATCH, shuffle=shuffle)


def test_without_shuffling_every_epoch_is_in_order():
    np.testing.assert_array_equal(epochs_of(of_numbers(False), 3), [NUMBERS] * 3)


def test_shuffled_epochs_hold_every_example_once():
    for epoch in epochs_of(of_numbers(True), 5):
        np.testing.assert_array_equal(np.sort(epoch), NUMBERS)


def test_what_belongs_together_stays_together():
    x = {"image": NUMBERS[:, None] * 10.0, "teacher": {"logits": NUMBERS * 3}}
    feed = Feed.of(x, NUMBERS + 1, NUMBERS / 2, batch_size=BATCH, shuffle=True)
    for known, label, weight in itertools.islice(feed.dataset, 2 * feed.steps):
        number = label.numpy() - 1
        assert known["image"].dtype == weight.dtype == tf.float32
        np.testing.assert_array_equal(known["image"][:, 0], number * 10)
        np.testing.assert_array_equal(known["teacher"]["logits"], number * 3)
        np.testing.assert_allclose(weight, number / 2)


@keras.saving.register_keras_serializable("tests")
class Recorded(keras.Model):
    """Writes down the examples that it is trained on."""

    def train_step(self, data):
        x, *_ = data
        self.seen.append(x.numpy().ravel().astype(int))
        return {"loss": tf.constant(0.0)}


def test_the_order_under_a_seed_is_that_of_keras():
    model = Recorded()
    model.seen, model.built = [], True
    model.compile(run_eagerly=True)
    keras.utils.set_random_seed(4)
    model.fit(NUMBERS[:, None], NUMBERS, batch_size=BATCH, epochs=2, verbose=0)
    keras.utils.set_random_seed(4)
    ours = epochs_of(of_numbers(True), 2)
    np.testing.assert_array_equal(ours.ravel(), np.concatenate(model.seen))


def test_lengths_that_differ_are_refused():
    with pytest.raises(ValueError, match=r"one entry per example.*10 and 11 entries"):
        Feed.of({"index": NUMBERS}, NUMBERS[:10], None, batch_size=BATCH, shuffle=True)


@pytest.mark.parametrize("eager", [False, True], ids=["graph", "eager"])
def test_calls_of_several_steps_stop_at_the_end_of_an_epoch(mlp, eager):
    """And the next epoch goes on with the batch that follows."""
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(40, 6)).astype("float32"), np.arange(40) % 3
    dataset = tf.data.Dataset.from_tensor_slices((x, y)).batch(4)
    at_once, one_by_one = Supervised(student=mlp(0)), Supervised(student=mlp(0))
    at_once.compile("sgd", execution=Execution(steps_per_execution=4), run_eagerly=eager)
    one_by_one.compile("sgd", execution=Execution(steps_per_execution=1))
    for trainer in (at_once, one_by_one):
        trainer.fit(dataset.repeat(), steps_per_epoch=6, epochs=3, verbose=0)
        assert trainer.optimizer.iterations == 18
    for ours, theirs in zip(at_once.student.weights, one_by_one.student.weights, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-6)
    at_once.fit(dataset, epochs=2, verbose=0)  # counted no more
    assert at_once.optimizer.iterations == 38


def test_data_that_end_before_the_epoch_end_it_with_a_warning(mlp):
    x, y = np.zeros((12, 6), "float32"), np.arange(12) % 3
    dataset = tf.data.Dataset.from_tensor_slices((x, y)).batch(2)
    trainer = Supervised(student=mlp(0))
    trainer.compile("sgd", execution=Execution(steps_per_execution=4))
    with pytest.warns(UserWarning, match="ran out of data"):
        trainer.fit(dataset, steps_per_epoch=9, verbose=0)
    assert trainer.optimizer.iterations == 6
