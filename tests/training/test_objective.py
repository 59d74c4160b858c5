"""How a batch is read, weighed, and compared with its labels."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from kd_keras import losses
from kd_keras.training import batches, objective

LABELS = np.array([0, 2])
LOGITS = np.array([[2.0, 1.0, 0.0], [1.0, 1.0, 3.0]], "float32")
IMAGE, LABEL, WEIGHT = np.zeros((2, 6)), LABELS, np.array([1.0, 2.0])


@pytest.mark.parametrize(
    ("data", "known"),
    [
        (IMAGE, {"image"}),
        ((IMAGE,), {"image"}),
        ((IMAGE, LABEL), {"image", "label"}),
        ((IMAGE, LABEL, WEIGHT), {"image", "label", "weight"}),
        (
            ({"image": IMAGE, "index": LABEL, "view": LABEL}, LABEL),
            {"image", "index", "view", "label"},
        ),
    ],
)
def test_a_batch_is_a_dict_of_what_is_known(data, known):
    batch, weight = batches.as_batch(data)
    assert set(batch) == known
    assert batch["image"] is IMAGE
    assert batch.get("label", LABEL) is LABEL
    assert weight is (WEIGHT if "weight" in known else None)


def test_named_inputs_of_a_model_are_its_images():
    """Whatever their names are; what is known of such a batch holds all of them under `image`."""
    for names in (("left", "right"), ("image", "index"), ("image", "frozen_features")):
        inputs = dict.fromkeys(names, IMAGE)
        for given in (inputs, {"image": inputs, "index": LABEL}):
            batch, _ = batches.as_batch((given, LABEL), names)
            assert batch["image"] is inputs
            assert batches.images_of(given, names) is inputs
    assert batches.images_of({"left": IMAGE}) == {"left": IMAGE}  # Keras may know the name
    assert batches.images_of({"image": IMAGE, "index": LABEL}) is IMAGE


def test_labels_that_are_true_or_false_are_numbers():
    for labels, dtype in ((np.eye(3, dtype=bool), "float32"), (np.array([True]), "int32")):
        batch, _ = batches.as_batch((IMAGE, labels))
        assert batch["label"].dtype == dtype


def test_weighted_mean_divides_by_the_batch_size():
    per_example = tf.constant([1.0, 2.0, 6.0])
    assert float(batches.weighted_mean(per_example, None)) == 3.0
    assert float(batches.weighted_mean(per_example, np.array([2.0, 0.0, 0.5]))) == pytest.approx(
        5 / 3
    )
    assert float(batches.weighted_mean(per_example, np.array([[0], [0], [1]]))) == 2.0


def test_an_infinite_loss_of_weight_zero_adds_nothing():
    per_example = tf.Variable([1.0, np.inf, np.nan])
    with tf.GradientTape() as tape:
        mean = batches.weighted_mean(per_example, tf.constant([3.0, 0.0, 0.0]))
    assert float(mean) == 1.0
    np.testing.assert_array_equal(tape.gradient(mean, per_example), [1.0, 0.0, 0.0])


def test_weights_of_any_dtype_act_on_a_float32_loss():
    for weight in (np.array([1, 2]), np.array([1.0, 2.0]), np.array([True, True])):
        mean = batches.weighted_mean(tf.constant([1.0, 1.0]), weight)
        assert mean.dtype == tf.float32
        assert float(mean) == np.mean(weight)


@pytest.mark.parametrize(
    ("loss", "labels"),
    [
        (None, LABELS),
        (keras.losses.SparseCategoricalCrossentropy(from_logits=True), LABELS),
        (keras.losses.CategoricalCrossentropy(from_logits=True), np.eye(3)[LABELS]),
        (lambda y, z: keras.losses.sparse_categorical_crossentropy(y, z, from_logits=True), LABELS),
    ],
)
def test_every_spelling_of_cross_entropy_gives_one_number_an_example(loss, labels):
    got = objective.label_loss(loss)(labels, LOGITS)
    assert got.shape == (2,)
    np.testing.assert_allclose(got, losses.cross_entropy(LABELS, LOGITS), rtol=1e-6)


def test_a_loss_that_gives_more_numbers_is_averaged_for_each_example():
    def squared(labels, logits):
        return (labels - logits) ** 2

    got = objective.label_loss(squared)(np.zeros((2, 3), "float32"), LOGITS)
    np.testing.assert_allclose(got, [5 / 3, 11 / 3], rtol=1e-6)


@pytest.mark.parametrize(
    "loss",
    [
        "sparse_categorical_crossentropy",
        "categorical_crossentropy",
        "binary_crossentropy",
        "SparseCategoricalCrossentropy",
        "kl_divergence",
        keras.losses.SparseCategoricalCrossentropy(),
        keras.losses.CategoricalFocalCrossentropy(),
        keras.losses.KLDivergence(),
        keras.losses.sparse_categorical_crossentropy,
    ],
)
def test_a_loss_that_expects_probabilities_is_refused(loss):
    with pytest.raises(ValueError, match="expects probabilities") as caught:
        objective.label_loss(loss)
    assert f"loss={loss!r}" in str(caught.value)


def test_a_loss_that_reduces_the_batch_is_refused():
    loss = objective.label_loss(lambda y, z: tf.reduce_mean(z))
    with pytest.raises(ValueError, match="one number per example"):
        loss(LABELS, LOGITS)


def test_a_loss_of_keras_takes_what_it_compares():
    """Class numbers are turned into distributions; the reverse would lose what soft labels say."""
    numbers = np.array([0, 1, 2])
    for loss in ("mse", keras.losses.CategoricalCrossentropy(from_logits=True)):
        function = objective.label_loss(loss)
        ours, theirs = function(numbers, np.eye(3)), function(np.eye(3), np.eye(3))
        np.testing.assert_array_equal(ours, theirs)
    sparse = objective.label_loss(keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    with pytest.raises(ValueError, match=r"takes class numbers, but the labels are distr"):
        sparse(np.eye(3), np.eye(3))
