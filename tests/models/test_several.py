"""Several models that answer as one Keras model."""

import keras
import numpy as np
import pytest

import kd_keras as kd
from kd_keras.models import ensemble
from kd_keras.recipes.saving import plain_copy


@pytest.mark.parametrize("mean", ["geometric", "arithmetic"])
def test_the_model_answers_as_the_ensemble_teacher_and_as_itself_from_a_file(
    mlp, examples, tmp_path, mean
):
    x, _ = examples
    members = [mlp(seed) for seed in range(3)]
    model = ensemble(members, mean)
    want = kd.EnsembleTeacher(members, mean)({"image": x})["logits"]
    np.testing.assert_allclose(model(x), want, atol=1e-6)
    p = np.stack([keras.ops.softmax(member(x)) for member in members])
    by_hand = p.mean(axis=0) if mean == "arithmetic" else np.prod(p, axis=0) ** (1 / 3)
    by_hand /= by_hand.sum(axis=-1, keepdims=True)
    np.testing.assert_allclose(keras.ops.softmax(model(x)), by_hand, rtol=1e-5)
    plain_copy(model).save(tmp_path / "teacher.keras")
    again = keras.models.load_model(tmp_path / "teacher.keras", compile=False, safe_mode=True)
    np.testing.assert_allclose(again(x), want, atol=1e-6)
    assert kd.LiveTeacher(again).fingerprint() == kd.LiveTeacher(plain_copy(model)).fingerprint()


def test_sure_members_that_disagree_stay_finite(mlp):
    members = [mlp(seed) for seed in range(2)]
    for member, sure in zip(members, ([900.0, 0, 0], [0, 900.0, 0]), strict=True):
        member.get_layer("logits").set_weights([np.zeros((5, 3)), np.array(sure)])
    answer = ensemble(members, "arithmetic")(np.zeros((1, 6)))
    np.testing.assert_allclose(np.exp(answer), [[0.5, 0.5, 0.0]], atol=1e-6)
    assert np.isfinite(answer).all()


def test_it_teaches_and_its_members_stay_as_they_are(mlp, examples):
    x, _ = examples
    members = [mlp(1), mlp(2)]
    before = [member.get_weights() for member in members]
    losses = []
    for teacher in (ensemble(members), kd.EnsembleTeacher(members)):
        distiller = kd.Distiller(student=mlp(0), teacher=teacher, method="compression")
        distiller.compile(keras.optimizers.SGD(0.1))
        losses.append(distiller.fit(x, epochs=2, shuffle=False, verbose=0).history["loss"])
    np.testing.assert_allclose(*losses, rtol=1e-5)
    for member, weights in zip(members, before, strict=True):
        for ours, theirs in zip(member.get_weights(), weights, strict=True):
            np.testing.assert_array_equal(ours, theirs)
    # a layer of a member, by its path
    source = kd.LiveTeacher(ensemble(members), [f"member_1/{members[1].name}/embedding"])
    (view,) = source({"image": x}).values()
    seen = keras.Model(members[1].input, members[1].get_layer("embedding").output)(x)
    np.testing.assert_allclose(view, seen, rtol=1e-6)


def test_what_makes_no_ensemble_is_refused(mlp):
    with pytest.raises(ValueError, match="at least one model"):
        ensemble([])
    with pytest.raises(ValueError, match=r"the same classes. Received: \(6,\) to \(3,\), .*\(4,\)"):
        ensemble([mlp(), mlp(classes=4)])
    with pytest.raises(ValueError, match=r"`members\[1\]` must return logits"):
        ensemble([mlp(), mlp(activation="softmax")])
    with pytest.raises(ValueError, match="Did you mean 'geometric'"):
        ensemble([mlp()], "geometrical")
