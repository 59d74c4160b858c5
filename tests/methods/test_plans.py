"""`ESKD`, `TAKD` and `SFTN`: their numbers, what their plans train, and what they refuse."""

import json
import math

import keras
import numpy as np
import pytest
import tensorflow as tf

import kd_keras as kd
from kd_keras import losses
from kd_keras.methods import METHODS, Plan, Roles, StudentBranches
from kd_keras.schedules import Drops, Linear
from kd_keras.training.stages import run_stages

rng = np.random.default_rng(0)
ZT = np.array([[4.0, 1.0, 0.0], [0.0, 2.0, 1.0]])
ZS = np.array([[2.0, 1.0, 0.0], [1.0, 1.0, 0.0]])
Y = np.array([0, 1])
KIND = {"input_shape": (8, 8, 1), "classes": 10}


def built(name):
    return kd.models.build(name, **KIND)


def networks(student="lenet5", teacher="cnn"):
    """Roles of small models, as a recipe gives them."""
    keras.utils.set_random_seed(0)
    student, teacher = built(student), built(teacher)
    return Roles(
        student,
        teacher,
        build=lambda words: built(words or student.name),
        build_teacher=lambda logits: built(teacher.name),
        tail=lambda tap: kd.models.tail(student, tap),
        epochs=12,
        teacher_epochs=5,
    )


def images(n=32):
    return rng.integers(0, 256, (n, 8, 8, 1)).astype("uint8"), np.arange(n) % 10


def same(one, other):
    return all(
        np.array_equal(a, b) for a, b in zip(one.get_weights(), other.get_weights(), strict=True)
    )


# --- eskd ---


def test_eskd_stops_at_its_epoch_with_the_weights_of_the_sheet():
    method = kd.methods.ESKD(stop_epoch=60).loss
    for epoch, want in ((0, 0.1), (59, 0.1), (60, 1.0), (199, 1.0)):
        assert method.label_weight(0.1, epoch) == want
    assert kd.methods.ESKD(stop_epoch=None).loss.label_weight(0.1, 10**6) == 0.1
    views = {"logits": ZS}, {"logits": ZT}
    soft = kd.methods.EarlyStoppedKD(4.0, dtype="float64")(*views, {})
    hard = losses.cross_entropy(Y, ZS)
    before, after = (np.mean(losses.mixed(hard, soft, alpha=alpha)) for alpha in (0.1, 1.0))
    assert before == pytest.approx(0.47161496, abs=5e-9)
    assert after == pytest.approx(0.63480038, abs=5e-9)


def test_a_shortened_schedule_is_that_of_the_sheet():
    rates = [Drops(0.1, 0.2, every=15)(epoch) for epoch in range(50)]
    want = [0.1] * 15 + [0.02] * 15 + [0.004] * 15 + [0.0008] * 5
    np.testing.assert_allclose(rates, want, rtol=1e-12)
    with pytest.raises(ValueError, match="`every` must be a positive whole number"):
        Drops(0.1, 0.2, every=1.5)


def test_a_distiller_moves_alpha_to_the_labels_when_eskd_stops():
    roles, (x, y) = networks(), images()
    alpha = Linear(0.5, 0.1, epochs=3)
    distiller = kd.Distiller(
        student=roles.student,
        teacher=roles.teacher,
        method=kd.methods.ESKD(stop_epoch=2),
        alpha=alpha,
    )
    distiller.compile()
    seen = []
    watch = keras.callbacks.LambdaCallback(
        on_epoch_end=lambda epoch, logs: seen.append((distiller.alpha, logs))
    )
    distiller.fit(x, y, epochs=4, batch_size=8, callbacks=[watch], verbose=0)
    np.testing.assert_allclose([value for value, _ in seen], [0.5, 0.3, 1.0, 1.0], rtol=1e-6)
    for _, logs in seen[2:]:
        assert logs["loss"] == pytest.approx(logs["student_loss"], rel=1e-5)
    distiller.alpha = 0.25  # a new number is heard, until the method stops again
    distiller.fit(x, y, epochs=1, callbacks=[watch], verbose=0)
    assert seen[-1][0] == 0.25


def test_eskd_without_teachers_of_its_own_is_one_training():
    roles = networks()
    method = kd.methods.ESKD(stop_epoch=2)
    (stage,) = method.stages(roles)
    assert stage.method is method.loss
    assert method.loss.needs_labels
    assert not kd.methods.ESKD(stop_epoch=None).loss.needs_labels


def test_eskd_trains_a_shorter_teacher_first():
    roles = networks()
    first, last = kd.methods.ESKD(2.0, stop_epoch=3, teacher_epochs=4).stages(roles)
    assert (first.name, first.epochs, first.method, first.teacher) == ("teacher-4", 4, None, None)
    assert first.student is not roles.teacher
    assert (last.name, last.student, last.teacher) == ("distill", roles.student, first.student)
    assert (last.method.temperature, last.method.stop_epoch) == (2.0, 3)
    kd.Distiller(student=last.student, teacher=last.teacher, method=last.method)  # it is held


def test_eskd_takes_the_teacher_whose_student_is_best_on_validation():
    roles = networks()
    plan = kd.methods.ESKD(teacher_epochs=(2, 4)).stages(roles)
    names = [stage.name for stage in plan]
    assert names == ["teacher-2", "student-2", "teacher-4", "student-4", "student-full", "distill"]
    students = {stage.name: stage for stage in plan if stage.name.startswith("student")}
    assert all(same(stage.student, roles.student) for stage in students.values())
    assert students["student-2"].teacher is plan[0].student
    assert students["student-full"].teacher is roles.teacher
    assert plan[-1].epochs == 0  # it is trained already
    for best in students:
        scores = {"teacher": 1.0, "teacher-2": 2.0, **dict.fromkeys(students, 0.5), best: 0.7}
        assert plan[-1].chosen(scores).student is students[best].student


def test_nothing_is_chosen_without_validation():
    plan = kd.methods.ESKD(teacher_epochs=(2, 4)).stages(networks())
    with pytest.raises(ValueError, match=r"models of distill are chosen.*no validation split"):
        run_stages(plan, {}, lambda stage, last: (None, math.nan))


def test_a_stop_that_never_comes_is_said(caplog):
    kd.methods.ESKD(stop_epoch=12).stages(networks())
    assert "stop_epoch=12 is not reached within the 12 epochs" in caplog.text
    caplog.clear()
    kd.methods.ESKD(stop_epoch=11).stages(networks())
    kd.methods.ESKD(stop_epoch=None).stages(networks())
    assert not caplog.records


@pytest.mark.parametrize(
    ("knobs", "message"),
    [
        ({"stop_epoch": 0}, "`stop_epoch` must be a positive whole number"),
        ({"stop_epoch": 2.5}, "`stop_epoch` must be a positive whole number"),
        ({"teacher_epochs": 0}, "`teacher_epochs` must be a positive whole number"),
        ({"teacher_epochs": (3, "4")}, "`teacher_epochs` must be a positive whole number"),
        ({"teacher_epochs": (3, 3)}, "`teacher_epochs` must hold different numbers"),
    ],
)
def test_epochs_that_are_none_are_refused(knobs, message):
    with pytest.raises(ValueError, match=message):
        kd.methods.ESKD(**knobs)


# --- takd ---


def test_a_hop_of_takd_is_that_of_the_sheet_and_not_that_of_its_code():
    views = {"logits": ZS}, {"logits": ZT}
    soft = kd.methods.TAKD(kd.methods.KD(4.0, dtype="float64")).loss(*views, {})
    hard = losses.cross_entropy(Y, ZS)
    assert np.mean(losses.mixed(hard, soft, alpha=0.5)) == pytest.approx(0.54414182, abs=5e-9)
    over_classes = losses.mixed(hard, soft / 3, alpha=0.5)  # as their code averages
    assert np.mean(over_classes) == pytest.approx(0.39298067, abs=1e-7)
    np.testing.assert_allclose(np.mean(soft) / 16, 0.02834270, atol=5e-9)
    np.testing.assert_allclose(np.mean(soft) / 48, 0.00944757, atol=5e-9)


def test_a_chain_hands_the_taught_on_as_teachers():
    roles = networks("mlp")
    method = kd.methods.TAKD(kd.methods.DKD(2.0), assistants=("cnn", "lenet5"))
    first, second, last = method.stages(roles)
    assert [s.name for s in (first, second, last)] == [
        "assistant cnn",
        "assistant lenet5",
        "distill",
    ]
    assert first.teacher is roles.teacher
    assert second.teacher is first.student
    assert last.teacher is second.student
    assert last.student is roles.student
    made = {id(stage.method) for stage in (first, second, last)}
    assert len(made) == 3  # each hop has projections and banks of its own
    assert all(stage.method.temperature == 2.0 for stage in (first, second, last))


def test_a_hop_may_itself_have_several_trainings():
    roles = networks()
    method = kd.methods.TAKD(kd.methods.FitNets(hint_epochs=2), assistants="cnn")
    names = [stage.name for stage in method.stages(roles)]
    assert names == ["assistant cnn hint", "assistant cnn", "hint", "distill"]


def test_the_assistant_midway_in_size_is_chosen():
    sizes = {"teacher": 100_000, "small": 2_000, "middle": 9_000, "large": 60_000, "student": 1_000}

    def sized(name):
        inputs = keras.Input((1,), name=name)
        return keras.Model(inputs, keras.layers.Dense(sizes[name] // 2)(inputs))

    roles = Roles(sized("student"), sized("teacher"), build=sized)
    method = kd.methods.TAKD(assistants="small,middle,large", choose="size")
    first, _ = method.stages(roles)
    assert first.name == "assistant middle"  # sqrt(100,000 * 1,000) = 10,000
    with pytest.raises(ValueError, match=r"counts the weights of the teacher.*Received: str"):
        method.stages(Roles(sized("student"), "a source", build=sized))


def test_the_assistant_midway_in_accuracy_is_chosen():
    roles = networks("mlp")
    plan = kd.methods.TAKD(assistants="cnn,lenet5", choose="accuracy").stages(roles)
    names = ["alone", "assistant cnn", "assistant lenet5", "distill"]
    assert [stage.name for stage in plan] == names
    assert plan[0].method is None
    assert plan[1].teacher is plan[2].teacher is roles.teacher
    scores = {"teacher": 0.99, "alone": 0.9, "assistant cnn": 0.98, "assistant lenet5": 0.93}
    assert plan[3].chosen(scores).teacher is plan[2].student  # midway is 0.945
    assert plan[3].chosen({**scores, "alone": 0.97}).teacher is plan[1].student


@pytest.mark.parametrize(
    ("knobs", "message"),
    [
        ({"choose": "sise"}, "Unknown way to choose assistants 'sise'. Did you mean 'size'"),
        ({"assistants": ""}, "`assistants` must be one Keras model or more"),
        ({"assistants": ()}, "`assistants` must be one Keras model or more"),
        ({"assistants": "cnn,,lenet5"}, "`assistants` must be one Keras model or more"),
        ({"assistants": ("cnn", 3)}, "`assistants` must be one Keras model or more"),
        ({"assistants": "cnn,cnn"}, "`assistants` must be different models"),
        ({"assistants": "cnn(width=0.5"}, "A bracket is not closed"),
        ({"assistants": "cnn)"}, "A bracket is closed but was never opened"),
        ({"method": 3}, r"`method` must be a name, a Method.*Received: 3"),
    ],
)
def test_chains_that_are_none_are_refused(knobs, message):
    with pytest.raises(ValueError, match=message):
        kd.methods.TAKD(**knobs)


# --- sftn ---


def branches(**knobs):
    roles = networks()
    first, _ = kd.methods.SFTN(**knobs).stages(roles)
    return roles, first


def test_sftn_trains_a_new_teacher_with_branches_and_then_distils():
    roles = networks()
    inner = kd.methods.Hint("stage1", "stage1")
    first, last = kd.methods.SFTN(inner, teacher_weight=3.0).stages(roles)
    assert (first.name, first.alpha, first.epochs, first.teacher) == ("teacher", 0.75, 5, None)
    assert first.student is not roles.teacher
    assert [tail.name for tail in first.method.tails] == [
        "lenet5_behind_stage1",
        "lenet5_behind_stage2",
    ]
    assert (last.student, last.teacher, last.method) == (roles.student, first.student, inner)


def test_the_branches_are_copies_of_the_students_layers_with_weights_of_their_own():
    roles, first = branches()
    deepest = first.method.tails[1]
    ours = {layer.name: layer for layer in roles.student.layers}
    for layer in deepest.layers[1:]:
        assert layer is not ours[layer.name]
        assert [v.shape for v in layer.weights] == [v.shape for v in ours[layer.name].weights]
    kernel = deepest.get_layer("hidden").kernel
    assert not np.allclose(kernel, ours["hidden"].kernel)


def test_the_first_training_is_the_loss_of_the_formula_halved():
    _, first = branches(branch_temperature=2.0, summed=True)
    x, y = images(8)
    distiller = kd.Distiller(
        student=first.student, teacher=None, method=first.method, alpha=first.alpha
    )
    distiller.compile(keras.optimizers.SGD(0.0))
    stages = {tap: distiller.extractor(x)[tap] for tap in ("stage1", "stage2", "logits")}
    answers = [
        tail(transform(stages[tap], stages[tap], training=True)[0], training=True)
        for tap, tail, transform in zip(
            ("stage1", "stage2"), first.method.tails, first.method.transforms, strict=True
        )
    ]
    # dropout of the teacher is off in the view; it is on in training
    for layer in first.student._flatten_layers():
        if isinstance(layer, keras.layers.Dropout):
            layer.rate = 0.0
    logs = distiller.fit(x, y, batch_size=8, verbose=0).history
    added = losses.branch_loss(stages["logits"], answers, y, temperature=2.0, summed=True)
    hard = losses.cross_entropy(y, stages["logits"])
    want = 0.5 * np.mean(hard) + 0.5 * np.mean(added)
    assert logs["loss"][0] == pytest.approx(want, rel=1e-4)


@pytest.mark.slow
def test_branches_shape_the_teacher_and_are_left_behind(tmp_path):
    """Without weight on the labels, only a branch can have moved the teacher's first layers."""
    _, first = branches()
    x, y = images()
    before = {v.path: np.array(v) for v in first.student.weights}
    distiller = kd.Distiller(student=first.student, teacher=None, method=first.method, alpha=0.0)
    distiller.compile(keras.optimizers.Adam(1e-3))
    tails = [np.array(v) for v in first.method.trainable_variables]
    distiller.fit(x, y, epochs=2, batch_size=8, verbose=0)
    after = {v.path: np.array(v) for v in first.student.weights}
    moved = {path.split("/")[0] for path in after if (before[path] != after[path]).any()}
    assert moved == {"stage1", "stage2", "embedding", "logits"}
    pairs = zip(tails, first.method.trainable_variables, strict=True)
    assert all((old != np.array(new)).any() for old, new in pairs)
    assert distiller.deployed is first.student
    distiller.save(tmp_path / "d.keras")  # and is trained on without a teacher
    again = keras.models.load_model(tmp_path / "d.keras")
    for ours, theirs in zip(again.method.variables, first.method.variables, strict=True):
        np.testing.assert_array_equal(ours, theirs, err_msg=theirs.path)
    assert np.isfinite(again.fit(x, y, verbose=0).history["loss"][0])


def test_branch_normalisations_run_in_training_mode():
    _, first = branches()
    method = first.method
    view = kd.models.taps.FeatureExtractor(first.student, method.student_taps)
    method.build(view.shapes, {})
    batch = {"label": tf.constant(np.arange(8))}
    means = [v for v in method.non_trainable_variables if v.path.endswith("moving_mean")]
    assert len(means) == 2
    views = view(images(8)[0])
    for training, moves in ((False, False), (True, True)):
        before = [np.array(v) for v in means]
        method(views, {}, batch, training=training)
        assert [(np.array(v) != old).any() for v, old in zip(means, before, strict=True)] == [
            moves
        ] * 2


def test_branches_come_back_from_their_configuration():
    _, first = branches(reverse=True, divergence_weight=2.0)
    kept = json.loads(json.dumps(keras.saving.serialize_keras_object(first.method)))
    twin = keras.saving.deserialize_keras_object(kept)
    shapes = {"stage1": (None, 8, 8, 32), "stage2": (None, 4, 4, 64), "logits": (None, 10)}
    for method in (first.method, twin):
        method.build(shapes, {})
        method.built = True
    twin.set_weights(first.method.get_weights())
    views = {
        tap: rng.normal(size=(4, *shape[1:])).astype("float32") for tap, shape in shapes.items()
    }
    batch = {"label": np.arange(4)}
    np.testing.assert_array_equal(twin(views, {}, batch), first.method(views, {}, batch))


def test_where_shapes_agree_a_branch_goes_on_at_once():
    student = built("lenet5")
    method = StudentBranches("stage2", [kd.models.tail(student, "stage2")])
    method.build({"stage2": (None, 4, 4, 16), "logits": (None, 10)}, {})
    assert method.transforms[0].weights == []
    with pytest.raises(ValueError, match=r"A branch at 'stage2' takes maps.*Received: features"):
        StudentBranches("stage2", method.tails).build(
            {"stage2": (None, 9), "logits": (None, 10)}, {}
        )


@pytest.mark.parametrize(
    ("knobs", "message"),
    [
        ({"teacher_weight": 0}, "`teacher_weight` must be a positive number"),
        ({"divergence_weight": -1}, "`divergence_weight` must lie in"),
        ({"branch_temperature": 0}, "`branch_temperature` must be a positive number"),
        ({"student_tap": "stage1"}, "name as many of the student as of the teacher"),
        ({"method": kd.methods.Subclass(2)}, "must have one logit per class.*Received: Subclass"),
    ],
)
def test_branches_that_are_none_are_refused(knobs, message):
    with pytest.raises(ValueError, match=message):
        kd.methods.SFTN(**knobs)


def test_branches_and_tails_go_together():
    with pytest.raises(ValueError, match="Received: 0 tails and 1 taps"):
        StudentBranches("stage1", [])


# --- all ---


@pytest.mark.parametrize("name", [n for n, kind in METHODS.items() if issubclass(kind, Plan)])
def test_a_plan_is_no_part_of_a_loss(name):
    plan = kd.methods.get(name)
    for outer in (kd.methods.LogitStandardisation, lambda inner: kd.methods.Sum({"a": inner})):
        with pytest.raises(ValueError, match=f"Received: {plan.name}.* That is a plan of several"):
            outer(plan)


@pytest.mark.parametrize("name", [n for n, kind in METHODS.items() if issubclass(kind, Plan)])
def test_a_clone_has_the_settings_of_a_plan_and_a_loss_of_its_own(name):
    plan = kd.methods.get(name)
    again = plan.clone()
    assert again.settings() == plan.settings()
    assert again.loss is not plan.loss
    assert again.default_alpha == plan.default_alpha


def test_settings_leave_out_what_may_change_without_a_new_trace():
    settings = [kd.methods.FitNets(temperature=t, hint_epochs=2).settings() for t in (2.0, 3.0)]
    assert settings[0] == settings[1]
    assert settings[0] != kd.methods.FitNets(hint_epochs=3).settings()
    nested = [kd.methods.TAKD(kd.methods.DKD(t)).settings() for t in (2.0, 3.0)]
    assert nested[0] == nested[1] != kd.methods.TAKD(kd.methods.KD()).settings()


def test_a_method_within_is_named_by_a_word_of_its_own():
    method = kd.methods.get("takd", method="logit_standardisation(method=dkd(temperature=3.0))")
    assert method.loss.inner.temperature == 3.0
    with pytest.raises(ValueError, match="Unknown knob of method 'kd': 'temp'"):
        kd.methods.get("sftn", method="kd(temp=2)")


def test_roles_that_cannot_make_models_say_so():
    bare = Roles(student=built("lenet5"), teacher=built("cnn"))
    with pytest.raises(ValueError, match=r"`Roles` needs `build`.*the spec 'cnn'"):
        kd.methods.TAKD(assistants="cnn").stages(bare)
    with pytest.raises(ValueError, match=r"`Roles` needs `build_teacher`.*not a file"):
        kd.methods.SFTN().stages(bare)
    with pytest.raises(ValueError, match="`Roles` needs `tail`"):
        bare.student_tail("stage1")


def test_a_method_without_a_teacher_is_asked_for_one_that_has_taps():
    with pytest.raises(ValueError, match="must be a Keras model or a teacher source"):
        kd.Distiller(student=built("lenet5"), teacher=None, method="kd")
