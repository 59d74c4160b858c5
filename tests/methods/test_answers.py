"""Methods on answers: the sheet's numbers through the methods, their knobs, their refusals."""

import json

import keras
import numpy as np
import pytest

import kd_keras as kd

ZT = np.array([[4.0, 1.0, 0.0], [0.0, 2.0, 1.0]])
ZS = np.array([[2.0, 1.0, 0.0], [1.0, 1.0, 0.0]])
ZT3, ZS3 = np.vstack([ZT, [1, 0, 3]]), np.vstack([ZS, [0, 0, 1]])
Y = np.array([0, 1])


def mean_loss(method, student=ZS, teacher=ZT):
    return np.mean(method({"logits": student}, {"logits": teacher}, {"label": Y}))


@keras.saving.register_keras_serializable("kd_keras_tests")
def half_even(p):
    return 0.5 * p + 0.5 / p.shape[-1]


def test_two_temperatures_give_the_number_of_the_sheet():
    got = mean_loss(kd.methods.TwoTemperatures(dtype="float64"))
    np.testing.assert_allclose(got, 1.12629937, atol=5e-9)


def test_a_map_of_the_targets_is_used_and_saved_with_the_method():
    method = kd.methods.TwoTemperatures(1.0, 1.0, half_even)
    p, log_q = (keras.ops.softmax(ZT), keras.ops.log_softmax(ZS))
    want = -np.mean(np.sum(half_even(p) * log_q, axis=-1))
    np.testing.assert_allclose(mean_loss(method), want, rtol=1e-6)
    kept = json.loads(json.dumps(keras.saving.serialize_keras_object(method)))
    twin = keras.saving.deserialize_keras_object(kept)
    assert twin.transform is half_even
    with pytest.raises(ValueError, match=r"`transform` must be a function.*transform='even'"):
        kd.methods.TwoTemperatures(transform="even")


def test_a_method_with_another_map_cannot_take_the_place_of_one():
    method = kd.methods.TwoTemperatures(transform=half_even)
    method.copy_state(kd.methods.TwoTemperatures(2.0, 3.0, half_even))
    assert (method.teacher_temperature, method.student_temperature) == (2.0, 3.0)
    with pytest.raises(ValueError, match="may differ only in its knobs"):
        method.copy_state(kd.methods.TwoTemperatures())


@pytest.mark.parametrize(
    ("word", "by_hand"),
    [
        ("smooth0.2", lambda p: 0.8 * p + 0.2 / 3),
        ("smooth0", lambda p: p),
        ("top2", lambda p: p),  # what is left belongs to the one other class
        (
            "top1",
            lambda p: np.where(
                p == p.max(-1, keepdims=True), p, (1 - p.max(-1, keepdims=True)) / 2
            ),
        ),
        ("top9", lambda p: p),
        (
            "extract0.25",
            lambda p: (
                0.75 * np.maximum(p - 1 / 3, 0) / np.maximum(p - 1 / 3, 0).sum(-1, keepdims=True)
                + 0.25 / 3
            ),
        ),
    ],
)
def test_maps_by_name(word, by_hand):
    method = kd.methods.get("extractive", transform=word)
    p, log_q = np.asarray(keras.ops.softmax(ZT / 4)), np.asarray(keras.ops.log_softmax(ZS))
    want = -np.mean(np.sum(by_hand(p) * log_q, axis=-1))
    np.testing.assert_allclose(mean_loss(method), want, rtol=1e-6)
    kept = json.loads(json.dumps(keras.saving.serialize_keras_object(method)))
    assert keras.saving.deserialize_keras_object(kept).transform == method.transform
    assert ("was not read" in method.note) == word.startswith("extract")


def test_extracted_targets_give_the_numbers_of_the_sheet():
    for word, want in (("extract0", 0.63480038), ("extract0.2", 0.76813372)):
        method = kd.methods.Extractive(transform=word, dtype="float64")
        np.testing.assert_allclose(mean_loss(method), want, atol=5e-9)
    hard = np.mean(kd.losses.cross_entropy(Y, ZS))
    np.testing.assert_allclose(0.1 * hard + 7.2 * mean_loss(method), 5.59404281, atol=5e-9)
    assert kd.methods.get("extractive").transform == kd.methods.targets.Extracted(0.2)
    even = kd.methods.targets.Extracted(0.2)(np.full((1, 4), 0.25))
    np.testing.assert_array_equal(even, np.full((1, 4), 0.25))  # nothing is above chance


@pytest.mark.parametrize("word", ["top", "top0", "smooth2", "extract2", "smooth", "topp3", "-1"])
def test_words_that_are_no_map_are_refused(word):
    with pytest.raises(ValueError, match=r"`(transform|count|share)` must"):
        kd.methods.get("extractive", transform=word)


def test_dkd_gives_the_number_of_the_sheet_when_it_is_warm():
    method = kd.methods.DKD(dtype="float64")
    np.testing.assert_allclose(mean_loss(method), 0.05 * 2.29869003, atol=5e-9)
    seen = []
    for epoch in (0, 1, 18, 19, 20, 100):
        method.on_epoch_begin(epoch)
        seen.append(method.weight)
    np.testing.assert_allclose(seen, [0.05, 0.1, 0.95, 1.0, 1.0, 1.0])  # min((epoch + 1) / 20, 1)
    np.testing.assert_allclose(mean_loss(method), 2.29869003, atol=2e-8)


def test_dkd_weighs_its_parts():
    def loss(target, other):
        return mean_loss(
            kd.methods.DKD(target_weight=target, other_weight=other, weight=1.0, dtype="float64")
        )

    np.testing.assert_allclose(
        [loss(1, 2) - loss(1, 1), loss(2, 1) - loss(1, 1)], [0.24870600, 0.30904200], atol=2e-8
    )


@pytest.mark.parametrize(("temperature", "want"), [(1.0, 2 * 0.30635706), (4.0, 2 * 6.74880914)])
def test_dist_gives_the_numbers_of_the_sheet(temperature, want):
    method = kd.methods.DIST(temperature=temperature, dtype="float64")
    np.testing.assert_allclose(mean_loss(method, ZS3, ZT3), want, atol=5e-7)


def test_dist_weighs_its_parts():
    method = kd.methods.DIST(1.0, inter_weight=3.0, intra_weight=2.0, weight=1.0, dtype="float64")
    want = 3 * 0.25764566 + 2 * 0.04871140
    np.testing.assert_allclose(mean_loss(method, ZS3, ZT3), want, atol=1e-7)


def test_standardised_soft_targets_give_the_number_of_the_sheet():
    method = kd.methods.LogitStandardisation(
        kd.methods.KD(2.0, dtype="float64"), weight=9.0, dtype="float64"
    )
    np.testing.assert_allclose(mean_loss(method), 2.43576790, atol=5e-8)
    np.testing.assert_allclose(mean_loss(kd.methods.get("logit_standardisation")), 2.4357679, 1e-5)


def test_standardisation_wraps_any_method_on_logits_and_hands_on_what_it_needs():
    inner = kd.methods.DKD(temperature=2.0)
    method = kd.methods.LogitStandardisation(inner, weight=1.0)
    assert method.needs_labels
    standard = [kd.losses.standardised(z) for z in (ZS, ZT)]
    np.testing.assert_allclose(mean_loss(method), mean_loss(inner, *standard), rtol=1e-5)
    before = mean_loss(method)
    method.on_epoch_begin(19)
    np.testing.assert_allclose(mean_loss(method), 20 * before, rtol=1e-5)
    twin = type(method).from_config(json.loads(json.dumps(method.get_config())))
    twin.on_epoch_begin(19)
    np.testing.assert_allclose(mean_loss(twin), mean_loss(method), rtol=1e-6)


def test_standardisation_takes_over_knobs_within():
    method = kd.methods.LogitStandardisation(kd.methods.KD(2.0))
    method.copy_state(kd.methods.LogitStandardisation(kd.methods.KD(3.0), weight=4.0))
    assert (method.inner.temperature, method.weight) == (3.0, 4.0)
    with pytest.raises(ValueError, match="may differ only in its knobs"):
        method.copy_state(kd.methods.LogitStandardisation(kd.methods.DKD()))


def test_standardisation_keeps_the_balance_of_the_labels_of_the_method_within():
    around = kd.methods.LogitStandardisation
    for inner, want in (
        (None, 1 / 11),
        (kd.methods.ProbabilityRegression(), 1 / 11),  # which has none of its own
        (kd.methods.DKD(), 0.5),
        (kd.methods.DIST(), 0.5),
        (kd.methods.Compression(), 0.0),
    ):
        assert around(inner).default_alpha == want
    # as the authors weigh DKD: CE + 9 * target + 9 * 8 * others, here halved
    inner = kd.methods.DKD(2.0, weight=1.0, dtype="float64")
    method = around(inner, dtype="float64")
    hard = np.mean(kd.losses.cross_entropy(Y, ZS))
    mixed = kd.losses.mixed(hard, mean_loss(method), alpha=method.default_alpha)
    np.testing.assert_allclose(2 * mixed, 34.89756408, atol=5e-8)


def test_the_method_within_standardisation_may_see_the_logits_as_they_were():
    seen = {}

    class Watching(kd.methods.KD):
        def call(self, student, teacher, batch, training=False):
            seen.update(student=student["raw_logits"], teacher=teacher["raw_logits"])
            return super().call(student, teacher, batch, training)

    mean_loss(kd.methods.LogitStandardisation(Watching()))
    np.testing.assert_allclose(seen["student"], ZS)
    np.testing.assert_allclose(seen["teacher"], ZT)


def test_what_tells_nothing_of_two_classes_is_refused_or_said(mlp, caplog):
    for name, said in (
        ("logit_standardisation", None),
        ("dist", "DIST: the correlation of two probabilities"),
        ("dkd", "DKD: with two classes there is only one other"),
        ("extractive", "Extractive: of two classes only one can be likelier"),
        ("kd", ""),
    ):
        caplog.clear()
        models = {"student": mlp(0, classes=2), "teacher": mlp(1, classes=2)}
        if said is None:
            with pytest.raises(ValueError, match=r"needs three logits or more.*Received: 2 logits"):
                kd.Distiller(**models, method=name)
            continue
        kd.Distiller(**models, method=name)
        assert len(caplog.messages) == bool(said)
        assert all(message.startswith(said) for message in caplog.messages)
    caplog.clear()
    for name in ("dist", "dkd", "extractive"):
        kd.Distiller(student=mlp(0), teacher=mlp(1), method=name)
    assert caplog.messages == []


class Blind(kd.methods.Method):
    student_taps = teacher_taps = ("embedding",)


def test_standardisation_refuses_a_method_without_logits():
    with pytest.raises(ValueError, match=r"must use the logits.*Blind, which uses"):
        kd.methods.LogitStandardisation(Blind())
    with pytest.raises(ValueError, match=r"must be a Method\. Received: str"):
        kd.methods.LogitStandardisation("kd")


@pytest.mark.parametrize(
    ("name", "knob"),
    [
        ("two_temperatures", "teacher_temperature"),
        ("two_temperatures", "student_temperature"),
        ("dkd", "other_weight"),
        ("dist", "intra_weight"),
        ("logit_standardisation", "weight"),
    ],
)
def test_a_knob_that_is_not_positive_is_refused(name, knob):
    with pytest.raises(ValueError, match=f"`{knob}` must be a positive number"):
        kd.methods.get(name, **{knob: 0.0})
    method = kd.methods.get(name, **{knob: 2.5})
    assert getattr(method, knob) == 2.5
    setattr(method, knob, 3.5)
    assert method.get_config()[knob] == 3.5
