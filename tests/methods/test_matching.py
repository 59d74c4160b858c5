"""`MLKD`, `WTTM`, `SRD` and `DeiT`: the sheet's numbers as a Distiller mixes them, and knobs."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

import kd_keras as kd
from kd_keras import losses
from kd_keras.methods import MLKD, SRD, WTTM, DeiT

ZT, ZS, Y = np.array([[4.0, 1, 0], [0, 2, 1]]), np.array([[2.0, 1, 0], [1, 1, 0]]), np.array([0, 1])
ZD = np.array([[2.0, 0, 1], [0, 1, 2]])
FS = np.array([[1.0, 0], [1, 1], [0, 2], [1, 2]])
FT = np.array([[1.0, 2, 2], [0, 3, 4], [2, 0, 0], [1, 1, 0]])
STUDENT, TEACHER = {"logits": ZS}, {"logits": ZT}


def mean(method, student=STUDENT, teacher=TEACHER, **known):
    return float(np.mean(method(student, teacher, known)))


# --- mlkd ---


def test_mlkd_is_the_sum_of_its_levels_over_the_temperatures():
    method = MLKD(dtype="float64")
    np.testing.assert_allclose(mean(method), 2.27892841, atol=5e-9)
    terms = [2.21292707, 0.04117531, 0.02482603]
    weighted = MLKD(instance_weight=2.0, batch_weight=3.0, class_weight=4.0, dtype="float64")
    np.testing.assert_allclose(mean(weighted), np.dot([2, 3, 4], terms), atol=5e-8)
    one = MLKD(1.0, [], dtype="float64")
    np.testing.assert_allclose(mean(one), 0.24426443 + 0.15401878 + 0.08424315, atol=2e-8)
    masked = MLKD(masked=True, dtype="float64")
    np.testing.assert_allclose(mean(masked), np.dot([1 / 2, 1 / 2, 2 / 3], terms), atol=2e-8)


def test_mlkd_takes_its_products_of_the_logits_as_they_were():
    """Where a method around it has changed them, as the authors of that one do."""
    changed = {"logits": 0.5 * ZS, "raw_logits": ZS}, {"logits": 0.5 * ZT, "raw_logits": ZT}
    method = MLKD(2.0, [], dtype="float64")
    want = [
        np.mean(losses.softened_kl(0.5 * ZS, 0.5 * ZT, temperature=2.0)),
        np.mean(losses.batch_gram_difference(ZS, ZT, temperature=2.0)),
        np.mean(losses.class_gram_difference(ZS, ZT, temperature=2.0)),
    ]
    np.testing.assert_allclose(mean(method, *changed), sum(want))


# --- wttm ---


def test_wttm_and_ttm_are_those_of_the_sheet_beside_the_labels():
    for weighted, want in ((True, 1.15927925), (False, 0.63480038 + 3 * 0.08608856)):
        method = WTTM(gamma=0.25, beta=3.0, weighted=weighted, dtype="float64")
        hard = np.mean(losses.cross_entropy(Y, ZS))
        mixed = losses.mixed(hard, mean(method), alpha=method.default_alpha)
        np.testing.assert_allclose(2 * mixed, want, atol=2e-8)


@pytest.mark.parametrize("gamma", [0.0, -0.5, 1.01, float("nan")])
def test_the_exponent_is_above_zero_and_no_more_than_one(gamma):
    with pytest.raises(ValueError, match="`gamma` must"):
        WTTM(gamma=gamma)


def test_ttm_of_the_papers_beta_has_the_gradient_of_soft_targets_with_its_regulariser():
    """KL(p || q) = T KL(p || q_T) - (T - 1) H(q) + (T - 1) H(p), with Renyi's entropy of q."""
    t, q = 4.0, tf.nn.softmax(ZS)
    p, q_t = tf.nn.softmax(ZT / t), tf.nn.softmax(ZS / t)
    renyi = tf.math.log(tf.reduce_sum(q ** (1 / t), axis=-1)) / (1 - 1 / t)
    entropy = -tf.reduce_sum(p * tf.math.log(p), axis=-1)
    want = t * tf.reduce_sum(p * tf.math.log(p / q_t), axis=-1) + (t - 1) * (entropy - renyi)
    got = WTTM(gamma=1 / t, beta=1.0, weighted=False, dtype="float64")(STUDENT, TEACHER, {})
    np.testing.assert_allclose(got, want)


# --- srd ---


def srd(**settings):
    method = SRD(dtype="float64", **settings)
    shapes = {"embedding": (None, 2), "logits": (None, 3)}
    method.build(shapes, {"embedding": (None, 3), "logits": (None, 3)})
    method.built = True
    method.projector.set_weights([np.array([[1.0, 0, 1], [0, 1, 1]]), np.zeros(3)])
    student = np.array([[2.0, 1, 0], [1, 1, 0], [0, 0, 1], [1, 0, 2]])
    teacher = np.array([[4.0, 1, 0], [0, 2, 1], [1, 0, 3], [0, 1, 1]])
    views = {"embedding": FS, "logits": student}, {"embedding": FT, "logits": teacher}
    return method, views


def test_srd_is_that_of_the_sheet_in_training_and_outside():
    method, views = srd()
    for training in (True, False):
        got = np.mean(method(*views, {}, training=training))
        np.testing.assert_allclose(got, 10.93993214, atol=1e-6)  # which has nothing beside the sum
    other, _ = srd(feature_weight=1.0, answer_weight=5.0, exponent=2.0)
    np.testing.assert_allclose(mean(other, *views), 3.67195196 + 5 * 0.26554024, atol=1e-6)
    with pytest.raises(ValueError, match="`exponent` must lie in"):
        SRD(exponent=0.5)


def test_a_single_example_has_nothing_to_be_normalised_with():
    with pytest.raises(ValueError, match=r"`batch_size` must be at least 2\. Received: 1"):
        SRD().check_batch(1)


# --- deit ---


def two_heads(seed=0):
    """From 6 numbers to the mean of two heads, `first` and `second`."""
    keras.utils.set_random_seed(seed)
    inputs = keras.Input((6,))
    hidden = layers.Dense(5, activation="tanh")(inputs)
    heads = [layers.Dense(3, name=name)(hidden) for name in ("first", "second")]
    return keras.Model(inputs, layers.Average()(heads))


def test_deit_is_that_of_the_sheet_for_both_heads():
    method = DeiT("first", "second", dtype="float64")
    student = {"first": ZS, "second": ZD, "logits": (ZS + ZD) / 2}
    for teacher, want in ((ZT, 0.77120317), (np.array([[1.0, 4, 0], [0, 2, 1]]), 1.27120317)):
        hard = np.mean(losses.cross_entropy(Y, method.labelled(student)))
        soft = mean(method, student, {"logits": teacher})
        mixed = losses.mixed(hard, soft, alpha=method.default_alpha)
        np.testing.assert_allclose(mixed, want, atol=5e-9)
    smooth = 0.9 * np.eye(3)[Y] + 0.1 / 3  # of the labels' term alone
    hard = np.mean(losses.cross_entropy(smooth, method.labelled(student)))
    np.testing.assert_allclose((hard + mean(method, student)) / 2, 0.80453651, atol=5e-9)
    np.testing.assert_array_equal(method.deployed_logits(student), [[2, 0.5, 0.5], [0.5, 1, 1]])
    one = DeiT(dtype="float64")
    np.testing.assert_allclose(mean(one), np.mean(losses.decision_cross_entropy(ZS, ZT)))


def test_each_head_learns_its_label_and_their_mean_is_deployed(mlp, examples, tmp_path):
    x, y = examples
    student = two_heads()
    made = kd.Distiller(student=student, teacher=mlp(1), method=DeiT("first", "second"))
    made.compile(keras.optimizers.SGD(1.0), metrics=["accuracy"], run_eagerly=True)
    batch = {"image": x, "label": y, "teacher": made.objective.teacher_features({"image": x})}
    with tf.GradientTape(persistent=True) as tape:
        parts = made.objective.losses_of(batch, made.extractor(x, training=True))
    first, second = (student.get_layer(name).kernel for name in ("first", "second"))
    heads = [first.value, second.value]
    labelled, taught = (
        [g is not None for g in tape.gradient(parts[part], heads)]
        for part in ("student_loss", "distillation_loss")
    )
    assert (labelled, taught) == ([True, False], [False, True])
    made.fit(x, y, epochs=1, batch_size=8, verbose=0)
    want = student(x)
    np.testing.assert_allclose(made.deployed(x), want, atol=1e-6)
    np.testing.assert_allclose(made.predict(x, verbose=0), want, atol=1e-6)
    found = made.evaluate(x, y, verbose=0, return_dict=True)
    hard = np.mean(losses.cross_entropy(y, want))
    np.testing.assert_allclose(found["student_loss"], hard, rtol=1e-5)
    assert made.deployed.count_params() == student.count_params()
    made.deployed.save(tmp_path / "student.keras")
    np.testing.assert_allclose(
        keras.models.load_model(tmp_path / "student.keras")(x), want, atol=1e-6
    )


def test_a_student_of_one_head_learns_both_labels_with_it(mlp):
    student = mlp(0)
    made = kd.Distiller(student=student, teacher=mlp(1), method="deit")
    assert made.deployed is student
    assert made.alpha == 0.5


def test_wrong_heads_are_refused(mlp):
    for heads in (("first", "first"), ("first", None), ("", "second"), ("first", 2)):
        with pytest.raises(ValueError, match="_tap` must"):
            DeiT(*heads)
    with pytest.raises(
        ValueError, match=r"must return logits, \(None, 3\).*'embedding'.*\(None, 5\)"
    ):
        kd.Distiller(student=mlp(0), teacher=mlp(1), method=DeiT("logits", "embedding"))
