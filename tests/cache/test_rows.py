"""Opened rows: in memory or mapped, they are gathered alike and found by their pixels."""

import numpy as np
import pytest
import tensorflow as tf

from kd_keras import cache
from kd_keras.cache.rows import InMemory, Mapped

STORAGES = ("float32", "float16", "top2", {"logits": "top1", "embedding": "float16"})


@pytest.fixture(params=[0.0, 0.5], ids=["mapped", "memory"])
def opened(request, mlp, x, on_disk):
    """`opened(storage, **set)`: the rows of a teacher with two taps."""
    import kd_keras as kd

    source = kd.LiveTeacher(mlp(1), ("logits", "embedding"))

    def make(storage="float32"):
        place = on_disk(storage, memory_share=request.param)
        stored = place.open(source, cache.Arrays(x, 4))
        assert type(stored) is (InMemory if request.param else Mapped)
        return stored

    make.answers = {tap: view.numpy() for tap, view in source({"image": x}).items()}
    return make


@pytest.mark.slow
@pytest.mark.parametrize("storage", STORAGES, ids=str)
def test_rows_are_gathered_in_any_order_inside_a_pipeline(opened, storage):
    stored, order = opened(storage), [3, 3, 15, 0, 7]
    want = stored.arrays()
    data = tf.data.Dataset.from_tensor_slices(order).batch(2).map(stored.gather)
    assert {tap: tuple(spec.shape) for tap, spec in data.element_spec.items()} == stored.shapes
    got = list(data.as_numpy_iterator())
    for tap in stored.shapes:
        together = np.concatenate([part[tap] for part in got])
        assert together.dtype == np.float32
        np.testing.assert_array_equal(together, want[tap][order])


def test_rows_are_the_answers(opened):
    exact, half, top = (opened(storage).arrays() for storage in ("float32", "float16", "top2"))
    for tap, answer in opened.answers.items():
        np.testing.assert_allclose(exact[tap], answer, rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(half[tap], answer, rtol=1e-3, atol=1e-6)
    np.testing.assert_array_equal(top["embedding"], exact["embedding"])
    # of three classes, the third is what the two largest leave
    softmax = np.exp(exact["logits"]) / np.exp(exact["logits"]).sum(1, keepdims=True)
    np.testing.assert_allclose(np.exp(top["logits"]), softmax, rtol=2e-3)


def test_a_static_batch_size_stays(opened, x):
    stored = opened()
    data = tf.data.Dataset.from_tensor_slices(x).batch(4, drop_remainder=True)
    spec = data.map(lambda image: stored.gather(stored.lookup(image))).element_spec
    assert spec["logits"].shape == (4, 3)


@pytest.mark.parametrize("row", [16, -1, 2**40])
def test_a_number_that_is_no_row_is_an_error(opened, row):
    stored = opened()
    data = tf.data.Dataset.from_tensors(tf.constant([0, row], tf.int64)).map(stored.gather)
    with pytest.raises(tf.errors.InvalidArgumentError):
        next(iter(data))


def test_rows_are_found_by_the_pixels(opened, x):
    stored, order = opened(), np.random.default_rng(0).permutation(16)
    np.testing.assert_array_equal(stored.lookup(x[order]), order)
    data = tf.data.Dataset.from_tensor_slices(x[order]).batch(5).map(stored.lookup)
    np.testing.assert_array_equal(np.concatenate(list(data.as_numpy_iterator())), order)


@pytest.mark.parametrize("change", [lambda x: x + np.float32(1e-6), lambda x: x.astype("float64")])
def test_an_image_that_is_not_there_is_an_error(opened, x, change):
    stored = opened()
    mixed = tf.data.Dataset.from_tensors(change(x)).map(stored.lookup)
    with pytest.raises(
        tf.errors.InvalidArgumentError, match=r"augments at random.*attach\(augmentation="
    ):
        next(iter(mixed))


def batches(x, index, **more):
    return tf.data.Dataset.from_tensor_slices(
        ({"image": x[index], "index": index, **more}, index % 3)
    ).batch(5)


def test_stored_rows_are_joined_by_index(opened, x):
    stored, order = opened(), np.random.default_rng(0).permutation(16)
    for batch, label in cache.join(batches(x, order), stored):
        index = batch["index"].numpy()
        np.testing.assert_array_equal(batch["image"], x[index])
        np.testing.assert_array_equal(label, index % 3)
        for tap, want in stored.arrays().items():
            np.testing.assert_array_equal(batch["teacher"][tap], want[index])


def test_arrays_are_joined_by_index(x):
    rows = {"logits": np.arange(48, dtype="float32").reshape(16, 3)}
    order = np.random.default_rng(0).permutation(16).astype("int32")
    for batch, _ in cache.join(batches(x, order), rows):
        index = batch["index"].numpy()
        np.testing.assert_array_equal(batch["teacher"]["logits"], rows["logits"][index])


def test_an_index_of_other_pixels_is_an_error(opened, x):
    wrong = batches(x[::-1], np.arange(16))
    with pytest.raises(tf.errors.InvalidArgumentError, match="pixels of an example are not those"):
        list(cache.join(wrong, opened()))


@pytest.mark.parametrize("index", [16, -1])
def test_an_index_outside_is_an_error(x, index):
    data = tf.data.Dataset.from_tensors(({"image": x[:1], "index": np.array([index])}, [0]))
    with pytest.raises(tf.errors.InvalidArgumentError, match="outside the stored rows"):
        list(cache.join(data, {"logits": np.ones((16, 3), "float32")}))


def test_batches_without_an_index_are_refused(x):
    data = tf.data.Dataset.from_tensors(({"image": x}, np.zeros(16)))
    with pytest.raises(ValueError, match=r"must yield \({'image': ..., 'index': ...}, ...\)"):
        cache.join(data, {"logits": np.ones((16, 3), "float32")})


@pytest.mark.parametrize("rows", [{}, {"logits": np.ones((3, 2)), "embedding": np.ones((4, 2))}])
def test_arrays_of_several_lengths_are_refused(x, rows):
    with pytest.raises(ValueError, match="one row per example"):
        cache.join(batches(x, np.arange(16)), rows)


def test_views_are_joined_by_index_and_view(pictures, cnn, same_answers, on_disk):
    """A view beyond the last starts again at the first."""
    import kd_keras as kd
    from kd_keras.data.augmentation import augmenter
    from kd_keras.data.task import Split

    images, labels = pictures
    split = Split(labels=labels.astype("int32"), image_shape=(8, 8, 1), images=images)
    views = cache.SplitViews(split, fingerprint="f", augmentation="shift", views=2, seed=1)
    stored = on_disk().open(kd.LiveTeacher(cnn), views)
    assert (stored.count, stored.views) == (60, 2)
    augment = augmenter("shift", 1)

    def example(view):
        def one(index):
            seen = augment(tf.gather(images, index), index, view % 2)
            return {"image": seen, "index": index, "view": view}, 0

        return one

    for view in range(4):
        pipeline = tf.data.Dataset.range(30).map(example(view)).batch(8)
        assert same_answers(cache.join(pipeline, stored), cnn) == 30
    with pytest.raises(ValueError, match=r"'index': \.\.\., 'view'"):
        cache.join(pipeline.map(lambda b, y: ({k: b[k] for k in ("image", "index")}, y)), stored)
