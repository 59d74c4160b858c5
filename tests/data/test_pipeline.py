"""From a split to batches: order, views, weights, pixels."""

import dataclasses

import keras
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from kd_keras import data
from kd_keras.data.augmentation import augmenter
from kd_keras.data.pipeline import Epochs, example_weights, in_order
from kd_keras.data.task import Split

COUNT = 50


@pytest.fixture(scope="module")
def split():
    """Images whose every pixel is the example's number."""
    images = np.arange(COUNT, dtype="uint8")[:, None, None, None] * np.ones((4, 4, 1), "uint8")
    return Split(np.arange(COUNT, dtype="int32") % 3, (4, 4, 1), images=images)


@pytest.fixture(scope="module")
def on_disk(tmp_path_factory):
    """The same random pixels twice: in memory, and in PNG files."""
    root = tmp_path_factory.mktemp("images")
    pixels = np.random.default_rng(0).integers(0, 256, (20, 6, 6, 3)).astype("uint8")
    files = tuple(root / f"{i}.png" for i in range(len(pixels)))
    for file, image in zip(files, pixels, strict=True):
        Image.fromarray(image).save(file)
    labels = np.arange(20, dtype="int32") % 2
    return Split(labels, (6, 6, 3), images=pixels), Split(labels, (6, 6, 3), files=files)


class Recorder(keras.Model):
    """Learns nothing, writes down the batches it is given."""

    def __init__(self):
        super().__init__()
        self.seen = []
        self.built = True

    def train_step(self, data):
        batch, *rest = data
        self.seen.append([np.array(x) for x in (*batch.values(), *rest)])
        return {"loss": 0.0}


def batches_of_fit(split, *, first=0, last=3, seed=0, batch_size=16, **options):
    """The batches that `fit` gives from epoch `first` to `last`."""
    epochs = Epochs(split, batch_size=batch_size, seed=seed, **options)
    model = Recorder()
    model.compile(run_eagerly=True)
    model.fit(
        epochs.endless(first),
        initial_epoch=first,
        epochs=last,
        steps_per_epoch=epochs.steps,
        shuffle=False,
        verbose=0,
    )
    return model.seen


def order(batches):
    return np.concatenate([index for _, index, *_ in batches])


def batches(split, epoch=0, **options):
    """The batches of one epoch, without `fit`."""
    epochs = Epochs(split, **{"batch_size": 16, "seed": 0, **options})
    epochs.callback.on_epoch_begin(epoch, None)
    return list(epochs.dataset.as_numpy_iterator())


# --- order ---


def test_every_index_comes_once_an_epoch_in_batches_of_the_asked_size(split):
    seen = batches_of_fit(split)
    assert [len(index) for _, index, *_ in seen] == 3 * [16, 16, 16, 2]
    for epoch in range(3):
        assert sorted(order(seen[4 * epoch : 4 * epoch + 4])) == list(range(COUNT))


def test_the_order_is_decided_by_seed_and_epoch_alone(split):
    first = order(batches_of_fit(split, last=3)).reshape(3, COUNT)
    np.testing.assert_array_equal(order(batches_of_fit(split, last=3)).reshape(3, COUNT), first)
    other = order(batches_of_fit(split, last=3, seed=1)).reshape(3, COUNT)
    rows = [*first.tolist(), *other.tolist(), list(range(COUNT))]
    assert len({tuple(row) for row in rows}) == 7
    # the size of the batches cuts the same order elsewhere
    np.testing.assert_array_equal(order(batches_of_fit(split, last=1, batch_size=7)), first[0])
    # and what Keras' own seed is does not matter
    keras.utils.set_random_seed(99)
    np.testing.assert_array_equal(order(batches_of_fit(split, last=1)), first[0])


@pytest.mark.parametrize("augmentation", ["none", "shift"])
def test_epochs_one_by_one_are_those_of_the_endless_batches(split, augmentation):
    epochs = Epochs(split, batch_size=16, seed=0, augmentation=augmentation)
    endless = list(epochs.endless(1).take(2 * epochs.steps).as_numpy_iterator())
    for number in (1, 2):
        epochs.callback.on_epoch_begin(number, None)
        for want, got in zip(epochs.dataset.as_numpy_iterator(), endless, strict=False):
            tf.nest.map_structure(np.testing.assert_array_equal, want, got)
        endless = endless[epochs.steps :]
    (without,) = epochs.endless(1, images=False).take(1).as_numpy_iterator()
    assert set(without[0]) == {"index", "view"}


@pytest.mark.parametrize("augmentation", ["none", "shift"])
def test_going_on_from_an_epoch_equals_the_uninterrupted_run(split, augmentation):
    whole = batches_of_fit(split, last=4, augmentation=augmentation)
    rest = batches_of_fit(split, first=2, last=4, augmentation=augmentation)
    assert len(rest) == 8
    for want, got in zip(whole[8:], rest, strict=True):
        for x, y in zip(want, got, strict=True):
            np.testing.assert_array_equal(x, y)


def test_several_steps_an_execution_see_the_same_order(split):
    epochs = Epochs(split, batch_size=16, seed=0)
    assert int(epochs.dataset.cardinality()) == 4
    model = keras.Sequential([keras.Input((4, 4, 1)), keras.layers.Flatten()])
    seen = []

    def note(batch, label):
        (index,) = tf.py_function(
            lambda i: [seen.append(i.numpy()) or i], [batch["index"]], ["int32"]
        )
        return batch["image"] + 0 * tf.cast(tf.reduce_sum(index), tf.uint8), tf.zeros((1, 16))

    model.add(keras.layers.Dense(16))
    model.compile(loss=lambda y, z: keras.ops.mean(z, -1), steps_per_execution=3)
    model.fit(
        epochs.dataset.map(note), epochs=2, callbacks=[epochs.callback], shuffle=False, verbose=0
    )
    want = order(batches_of_fit(split, last=2))
    np.testing.assert_array_equal(np.concatenate(seen), want)


# --- what a batch holds ---


def test_pixels_label_and_view_belong_to_the_index(split):
    for epoch in (0, 5):
        for batch, label in batches(split, epoch):
            assert batch["image"].dtype == "uint8"
            np.testing.assert_array_equal(batch["image"][:, 0, 0, 0], batch["index"])
            np.testing.assert_array_equal(label, batch["index"] % 3)
            np.testing.assert_array_equal(batch["view"], np.full(len(label), epoch))


def test_soft_labels_take_the_labels_place(split):
    soft = np.random.default_rng(0).dirichlet(np.ones(3), COUNT).astype("float32")
    for batch, label in batches(dataclasses.replace(split, soft_labels=soft)):
        np.testing.assert_array_equal(label, soft[batch["index"]])


def test_a_weight_is_the_examples_own_times_its_classs(split):
    own = np.linspace(0, 2, COUNT).astype("float32")
    weighted = dataclasses.replace(split, weights=own)
    of_class = {0: 0.5, 2: 3.0}  # class 1 has none, which means 1
    factor = np.array([0.5, 1.0, 3.0])[split.labels]
    for given, class_weight, want in (
        (weighted, None, own),
        (split, of_class, factor),
        (weighted, of_class, own * factor),
    ):
        for batch, _, weight in batches(given, class_weight=class_weight):
            assert weight.dtype == "float32"
            np.testing.assert_allclose(weight, want[batch["index"]], rtol=1e-6)
    assert example_weights(split, None) is None
    assert all(len(batch) == 2 for batch in batches(split))


# --- pixels ---


@pytest.mark.parametrize("augmentation", ["none", "symmetries"])
def test_files_read_lazily_give_the_same_batches_as_pixels_in_memory(on_disk, augmentation):
    memory, lazy = (batches(part, 3, batch_size=8, augmentation=augmentation) for part in on_disk)
    assert len(memory) == len(lazy) == 3
    for (want, label), (got, same) in zip(memory, lazy, strict=True):
        np.testing.assert_array_equal(label, same)
        for key in ("image", "index", "view"):
            np.testing.assert_array_equal(want[key], got[key])


def test_augmented_pixels_are_those_of_seed_index_and_epoch(on_disk):
    memory, _ = on_disk
    augment = augmenter("shift", 4)
    for batch, _ in batches(memory, 2, seed=4, augmentation="shift"):
        for image, index in zip(batch["image"], batch["index"], strict=True):
            want = augment(tf.constant(memory.images[index]), int(index), 2)
            np.testing.assert_array_equal(image, want)


def test_views_of_different_epochs_differ(on_disk):
    memory, _ = on_disk
    views = []
    for epoch in range(2):
        seen = batches(memory, epoch, batch_size=20, augmentation="shift")
        ((batch, _),) = seen
        views.append(batch["image"][np.argsort(batch["index"])])
    assert (views[0] != views[1]).any(axis=(1, 2, 3)).mean() > 0.8


def test_in_order_gives_all_images_as_they_stand(on_disk):
    for part in on_disk:
        got = np.concatenate(list(in_order(part, batch_size=7).as_numpy_iterator()))
        assert got.dtype == "uint8"
        np.testing.assert_array_equal(got, on_disk[0].images)


def test_an_unknown_augmentation_is_refused_before_anything_runs(split):
    with pytest.raises(ValueError, match="Unknown augmentation 'symmetry'"):
        Epochs(split, batch_size=1, seed=0, augmentation="symmetry")


def test_views_come_in_turn_and_are_those_of_every_seed():
    """With `views` the pixels depend on the augmentation's seed, and the order on the learner's."""
    few = data.load("digits").train.limited(20)

    def epoch(number, seed, **options):
        epochs = Epochs(few, batch_size=8, seed=seed, augmentation="shift", **options)
        epochs.callback.on_epoch_begin(number)
        images, views, order = {}, set(), []
        for batch, *_ in epochs.dataset.as_numpy_iterator():
            images |= dict(zip(batch["index"].tolist(), batch["image"], strict=True))
            views |= set(batch["view"].tolist())
            order += batch["index"].tolist()
        return np.stack([images[i] for i in range(20)]), views, order

    first, view, order = epoch(0, seed=1, views=2, augmentation_seed=7)
    again, same_view, other_order = epoch(2, seed=5, views=2, augmentation_seed=7)
    second, next_view, _ = epoch(3, seed=5, views=2, augmentation_seed=7)
    assert (view, same_view, next_view) == ({0}, {0}, {1})
    assert order != other_order
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, second)
    assert not np.array_equal(first, epoch(0, seed=1, views=2, augmentation_seed=8)[0])
    fresh, views, _ = epoch(3, seed=7)
    assert views == {3}
    assert not np.array_equal(fresh, second)
