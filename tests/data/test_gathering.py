"""Rows come from arrays as they are, and large arrays are not copied."""

import numpy as np
import pytest
import tensorflow as tf

from kd_keras.data import gathering


@pytest.fixture(params=["copied", "read in place"])
def size(request, monkeypatch):
    """Both ways, on the same small arrays."""
    if request.param == "read in place":
        monkeypatch.setattr(gathering, "COPIED_BYTES", 0)


@pytest.mark.usefixtures("size")
@pytest.mark.parametrize(
    ("array", "kind"),
    [
        (np.arange(24, dtype="uint8").reshape(4, 2, 3), tf.uint8),
        (np.arange(8.0).reshape(4, 2), tf.float32),  # as Keras reads it
        (np.arange(4), tf.int64),
        (np.array([True, False, True, True]), tf.bool),
        (np.arange(8.0).reshape(4, 2).astype("float16"), tf.float16),
    ],
)
def test_rows_have_the_type_and_the_shape_of_the_array(array, kind):
    dataset = tf.data.Dataset.from_tensor_slices([2, 0, 3]).batch(2).map(gathering.gatherer(array))
    assert dataset.element_spec.dtype == kind
    assert dataset.element_spec.shape[1:] == array.shape[1:]
    got = np.concatenate([rows.numpy() for rows in dataset])
    np.testing.assert_array_equal(got, array[[2, 0, 3]])


@pytest.mark.usefixtures("size")
def test_what_is_nested_stays_nested_and_none_stays_none():
    arrays = ({"a": np.arange(3), "b": {"c": np.arange(6).reshape(3, 2)}}, None)
    got, nothing = gathering.gatherer(arrays)(tf.constant([1]))
    assert nothing is None
    assert got["a"].numpy().tolist() == [1]
    assert got["b"]["c"].numpy().tolist() == [[2, 3]]


def test_a_large_array_is_read_in_place(monkeypatch, tmp_path):
    """A change of the file shows in the rows: nothing was copied, in memory or elsewhere."""
    monkeypatch.setattr(gathering, "COPIED_BYTES", 0)
    mapped = np.memmap(tmp_path / "rows.bin", "uint8", "w+", shape=(4, 3))
    rows_at = tf.function(gathering.gatherer(np.asarray(mapped)))
    assert rows_at(tf.constant([3])).numpy().tolist() == [[0, 0, 0]]
    mapped[3] = 7
    assert rows_at(tf.constant([3])).numpy().tolist() == [[7, 7, 7]]


@pytest.mark.parametrize(("side", "ahead"), [(4, 8), (2000, 2), (5000, 1)])
def test_at_most_32_mb_of_batches_are_made_ahead(side, ahead):
    """But always one, whatever its size."""
    spec = tf.TensorSpec((None, side, side, 1), tf.uint8)
    batches = tf.data.Dataset.from_generator(list, output_signature=spec)
    made = gathering.prefetched(batches, batch_size=3)
    assert made._buffer_size.numpy() == ahead
