"""`BornAgain`: its loss, its plan, and the ensemble of its generations."""

import keras
import numpy as np
import pytest

import kd_keras as kd
from kd_keras import losses
from kd_keras.methods import BornAgain, Roles

ZT, ZS, Y = np.array([[4.0, 1, 0], [0, 2, 1]]), np.array([[2.0, 1, 0], [1, 1, 0]]), [0, 1]


def small(seed=0, **knobs):
    keras.utils.set_random_seed(seed)
    return kd.models.build("lenet5", input_shape=(8, 8, 1), classes=10, **knobs)


def images(n=6):
    return np.random.default_rng(0).integers(0, 256, (n, 8, 8, 1)).astype("uint8")


def test_a_generation_learns_from_the_one_before_alone_or_with_labels_by_name():
    labelled = kd.methods.BornAgainLabels()
    assert kd.methods.METHODS["born_again_labels"] is kd.methods.BornAgainLabels
    assert (BornAgain().default_alpha, labelled.default_alpha) == (0.0, 0.5)
    assert BornAgain(kd.methods.RKD()).default_alpha == 0.5  # beside which labels are needed
    assert type(BornAgain().loss) is type(labelled.loss) is kd.methods.BornAgainKD
    loss = kd.methods.BornAgainKD(dtype="float64")
    soft = np.mean(loss({"logits": ZS}, {"logits": ZT}, {}))
    hard = np.mean(losses.cross_entropy(np.array(Y), ZS))
    np.testing.assert_allclose(soft, 0.79761876, atol=5e-9)
    mixed = losses.mixed(hard, soft, alpha=0.5)
    np.testing.assert_allclose(2 * mixed, 0.63480038 + 0.79761876, atol=1e-8)


def test_each_generation_starts_anew_and_learns_from_the_one_before():
    student, teacher = small(0), small(1)
    method = BornAgain(kd.methods.Hint("stage1", "stage1"), generations=3)
    plan = method.stages(Roles(student, teacher))
    assert [stage.name for stage in plan] == ["generation-1", "generation-2", "distill"]
    assert [stage.teacher for stage in plan] == [teacher, plan[0].student, plan[1].student]
    assert plan[-1].student is student
    assert plan[-1].method is method.loss
    starts = [stage.student.predict(images(), verbose=0) for stage in plan]
    assert all(not np.allclose(starts[a], starts[b]) for a, b in ((0, 1), (0, 2), (1, 2)))
    inner = [stage.method for stage in plan]
    assert [part.student_taps for part in inner] == [("stage1",)] * 3
    assert len(set(map(id, inner))) == 3  # a regressor for each


def test_a_method_that_is_built_plans_others_that_are_not():
    method = BornAgain(kd.methods.Hint("stage1", "stage1"), generations=2)
    kd.Distiller(student=small(0), teacher=small(1), method=method)
    first, last = method.stages(Roles(small(0), small(1)))
    assert (last.method.built, first.method.built) == (True, False)


def test_the_recipe_says_how_the_students_are_made():
    asked = []

    def build(words):
        asked.append(words)
        return small(2)

    plan = BornAgain(generations=2).stages(Roles(small(0), small(1), build))
    assert asked == [None]
    assert np.array_equal(plan[0].student.get_weights()[0], small(2).get_weights()[0])
    with pytest.raises(ValueError, match=r"`Roles` needs `build`.*'mlp'"):
        Roles(small(0), small(1)).another("mlp")


def test_a_method_of_several_trainings_has_them_in_every_generation():
    method = BornAgain(kd.methods.FitNets(hint_epochs=3), generations=2)
    plan = method.stages(Roles(small(0), small(1)))
    assert [(stage.name, stage.epochs) for stage in plan] == [
        ("generation-1-hint", 3),
        ("generation-1", None),
        ("generation-2-hint", 3),
        ("distill", None),
    ]
    assert plan[2].student is plan[3].student
    assert plan[2].teacher is plan[3].teacher is plan[0].student


def test_the_ensemble_is_the_last_of_the_plan_and_is_not_trained():
    roles = Roles(
        small(0), small(1), join=lambda several: kd.models.ensemble(several, "arithmetic")
    )
    plan = BornAgain(generations=2, ensemble=True).stages(roles)
    assert [stage.name for stage in plan] == ["generation-1", "generation-2", "ensemble"]
    assert (plan[-1].epochs, plan[-1].method) == (0, None)
    students = [stage.student for stage in plan[:2]]
    x = images()
    probabilities = [keras.ops.softmax(student(x)) for student in students]
    answer = keras.ops.softmax(plan[-1].student(x))
    np.testing.assert_allclose(answer, np.mean(probabilities, axis=0), rtol=1e-5, atol=1e-7)
    with pytest.raises(ValueError, match="`Roles` needs `join`"):
        BornAgain(ensemble=True).stages(Roles(small(0), small(1)))


@pytest.mark.parametrize("bad", [0, -1, 1.5, True, "2"])
def test_generations_are_whole(bad):
    with pytest.raises(ValueError, match="`generations` must be a positive whole number"):
        BornAgain(generations=bad)


def test_an_ensemble_is_of_students_as_they_are():
    with pytest.raises(ValueError, match=r"deployed as they are. Received: method=CID"):
        BornAgain(kd.methods.CID(), ensemble=True)


def test_what_is_matched_may_be_given_by_name():
    method = kd.methods.get("born_again", method="rkd", generations=1)
    assert isinstance(method.loss, kd.methods.RKD)
    with pytest.raises(ValueError, match=r"Unknown method 'rkdd'. Did you mean 'rkd'"):
        kd.methods.get("born_again", method="rkdd")
