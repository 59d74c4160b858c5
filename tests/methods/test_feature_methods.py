"""Methods on features: the sheet's numbers through the methods, taps, refusals, training."""

import json
import logging

import keras
import numpy as np
import pytest

import kd_keras as kd
from kd_keras import losses
from kd_keras.config import DistillConfig
from kd_keras.recipes import distill
from kd_keras.teachers import TeacherSource

rng = np.random.default_rng(0)
METHODS = {"hint": kd.methods.Hint, "at": kd.methods.AttentionTransfer, "vid": kd.methods.VID}


def build(method, student, teacher):
    method.build(*({tap: (None, *x.shape[1:]) for tap, x in v.items()} for v in (student, teacher)))
    method.built = True
    return method


def test_attention_transfer_gives_the_number_of_the_sheet_and_adds_up_pairs():
    student = {"low": np.arange(8.0).reshape(1, 2, 2, 2) / 4}
    teacher = {"high": np.array([[[[1.0, 0], [0, 2]], [[1, 1], [0, 0]]]])}
    method = build(kd.methods.AttentionTransfer("low", "high", dtype="float64"), student, teacher)
    np.testing.assert_allclose(method(student, teacher, {}), [345.38669], atol=5e-6)
    student, teacher = (
        {**views, "top": views[tap]} for views, tap in ((student, "low"), (teacher, "high"))
    )
    both = kd.methods.AttentionTransfer("low,top", ("high", "top"), 1.0, dtype="float64")
    build(both, student, teacher)
    np.testing.assert_allclose(both(student, teacher, {}), [2 * 0.34538669], atol=1e-8)


def test_attention_transfer_averages_the_larger_map_down():
    student, teacher = {"a": rng.normal(size=(2, 4, 4, 3))}, {"a": rng.normal(size=(2, 2, 2, 5))}
    method = build(kd.methods.AttentionTransfer("a", weight=1.0, dtype="float64"), student, teacher)
    small = student["a"].reshape(2, 2, 2, 2, 2, 3).mean(axis=(2, 4))
    want = losses.attention_difference(small, teacher["a"])
    np.testing.assert_allclose(method(student, teacher, {}), want, rtol=1e-6)


def test_vid_begins_with_a_variance_of_five():
    student, teacher = {"a": rng.normal(size=(3, 4))}, {"a": rng.normal(size=(3, 6))}
    method = build(kd.methods.VID("a", dtype="float64"), student, teacher)
    (spread,) = method.spreads
    np.testing.assert_allclose(spread, np.full(6, 4.99322918), atol=5e-9)
    mean, _ = method.networks[0](student["a"], teacher["a"])
    want = losses.gaussian_nll(mean, teacher["a"], variance=5.0)
    np.testing.assert_allclose(method(student, teacher, {}), want, rtol=1e-9)


def test_a_hint_is_the_mean_squared_error_behind_the_regressor():
    student = {"a": rng.normal(size=(3, 4, 4, 2))}
    teacher = {"b": np.abs(rng.normal(size=(3, 4, 4, 5)))}
    method = kd.methods.Hint("a", "b", weight=2.0, activation="relu", dtype="float64")
    build(method, student, teacher)
    kernel, bias, *_ = (np.array(v) for v in method.trainable_variables)
    # at first the normalisation only divides by sqrt(1 + 1e-5)
    regressed = np.maximum((student["a"] @ kernel[0, 0] + bias) / np.sqrt(1 + 1e-5), 0)
    want = 2 * ((regressed - teacher["b"]) ** 2).mean(axis=(1, 2, 3))
    np.testing.assert_allclose(method(student, teacher, {}, training=False), want, rtol=1e-6)


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize(
    ("taps", "message"),
    [
        (("a", ("b", "c")), "pair by pair|exactly one tap"),
        ((("a", "a"), ("b", "c")), "may be named once"),
        ((3, "b"), "must be given by name. Received: 3"),
        (("", "b"), "must be given by name. Received: ''"),
    ],
)
def test_taps_that_are_no_pairs_are_refused(name, taps, message):
    with pytest.raises(ValueError, match=message):
        METHODS[name](*taps)


@pytest.mark.parametrize("name", METHODS)
def test_taps_come_back_from_the_configuration(name):
    method = METHODS[name]("low", "high")
    twin = type(method).from_config(json.loads(json.dumps(method.get_config())))
    assert (twin.student_taps, twin.teacher_taps) == (("low",), ("high",))
    with pytest.raises(ValueError, match="may differ only in its knobs"):
        twin.copy_state(METHODS[name]("low", "low"))


# --- what follows a regressor ---


def known(found):
    """A teacher of which it is known whether its features have passed a ReLU."""
    teacher = TeacherSource()
    teacher.shapes = {"b": (None, 4)}
    teacher.rectified = {"b": found}.get
    return teacher


@pytest.mark.parametrize("kind", [kd.methods.Hint, kd.methods.HintStage])
def test_a_regressor_ends_as_the_teachers_features_do(kind, caplog):
    for given, found, want, warned in (
        ("auto", True, "relu", False),
        ("auto", False, None, False),
        ("auto", None, None, False),
        ("relu", True, "relu", False),
        ("relu", None, "relu", False),
        ("relu", False, "relu", True),
        (None, True, None, False),
    ):
        caplog.clear()
        method = kind("a", "b", activation=given)
        method.prepare({"a": (None, 3)}, known(found))
        assert method.behind == want
        ends = [x for x in method.adapter.inner if isinstance(x, keras.layers.Activation)]
        assert len(ends) == (want is not None)
        said = [line for line in caplog.messages if "which a ReLU cannot match" in line]
        assert bool(said) == warned
        # and so it is loaded again, without the teacher
        twin = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(method))
        assert (twin.activation, twin.behind) == (given, want)
        assert twin.clone().activation == given
        fresh = keras.saving.serialize_keras_object(twin.clone())
        assert not keras.saving.deserialize_keras_object(fresh).built


def test_stored_answers_tell_by_their_numbers_what_the_teacher_ends_in(mlp, examples, caplog):
    x, y = examples
    features = rng.normal(size=(16, 4)).astype("float32")
    for rows, want in ((features, None), (np.abs(features), "relu")):
        stored = kd.CachedTeacher({"hidden": rows})
        method = kd.methods.Hint("embedding", "hidden")
        distiller = kd.Distiller(student=mlp(), teacher=stored, method=method)
        assert method.behind == want
    assert caplog.messages == []
    distiller.method.adapt([{"hidden": features}])  # auto: it is known, and nothing is looked at
    assert caplog.messages == []
    # a live teacher of whom nothing is known is looked at once its answers are there
    inputs = keras.Input((6,))
    hidden = keras.layers.Dense(4, activation="tanh", name="hidden")(inputs)
    teacher = keras.Model(inputs, keras.layers.Dense(3)(hidden))
    method = kd.methods.Hint("embedding", "hidden", activation="relu")
    distiller = kd.Distiller(student=mlp(), teacher=teacher, method=method)
    assert caplog.messages == []
    distiller.compile(run_eagerly=True)
    distiller.fit(x, y, verbose=0)
    share = np.mean(distiller.teacher({"image": x})["hidden"] < 0)
    assert (
        f"{share:.0%} of the numbers in the teacher's features 'hidden' are negative" in caplog.text
    )


def small(shape=(8, 8, 1), seed=0):
    keras.utils.set_random_seed(seed)
    return kd.models.build("lenet5", input_shape=shape, classes=10)


@pytest.mark.parametrize(
    ("method", "message"),
    [
        (kd.methods.Hint(student_tap="stage9"), "has no tap 'stage9'. Nearest: "),
        (kd.methods.AttentionTransfer("embedding"), r"takes maps.*\(None, 84\).*\(None, 128\)"),
        (
            kd.methods.VID("stage1", "stages"),
            r"student has 1 of them and the teacher 2.*Received: stage1 \(None, 8, 8, 6\) of "
            r"the student; stage1 \(None, 8, 8, 32\), stage2 \(None, 4, 4, 64\) of the teacher",
        ),
    ],
)
def test_a_wrong_tap_is_refused_before_training(method, message):
    teacher = kd.models.build("cnn", input_shape=(8, 8, 1), classes=10)
    with pytest.raises(ValueError, match=message):
        kd.Distiller(student=small(), teacher=teacher, method=method)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("method", "tolerance"),
    [
        (lambda: kd.methods.Hint("stage1", "stage1"), 0.5),
        (lambda: kd.methods.AttentionTransfer(), 0.5),
        (lambda: kd.methods.VID("embedding", "pool1"), 0.99),
    ],
)
def test_training_on_features_lowers_their_loss(method, tolerance):
    keras.utils.set_random_seed(0)
    x = rng.integers(0, 256, (64, 8, 8, 1)).astype("uint8")
    teacher = kd.models.build("cnn", input_shape=(8, 8, 1), classes=10)
    distiller = kd.Distiller(student=small(), teacher=teacher, method=method(), alpha=0.1)
    distiller.compile(keras.optimizers.Adam(3e-3))
    found = distiller.fit(x, np.arange(64) % 10, batch_size=16, epochs=15, verbose=0).history
    losses_by_epoch = found["distillation_loss"]
    assert losses_by_epoch[-1] < tolerance * losses_by_epoch[0]


@pytest.mark.slow
def test_a_tap_may_be_a_path_into_a_nested_model():
    keras.utils.set_random_seed(0)
    inputs = keras.Input((8, 8, 1))
    student = keras.Model(inputs, small()(inputs), name="outer")
    teacher = kd.models.build("cnn", input_shape=(8, 8, 1), classes=10)
    x = rng.integers(0, 256, (16, 8, 8, 1)).astype("uint8")
    for method in (
        kd.methods.Hint("lenet5/stage2", "stage2"),
        kd.methods.AttentionTransfer("lenet5/stage1,lenet5/stage2", "stage1,stage2"),
        kd.methods.RKD("lenet5/embedding"),
    ):
        distiller = kd.Distiller(student=student, teacher=teacher, method=method, alpha=0.5)
        by_hand = method(
            distiller.extractor(x), distiller.teacher({"image": x}), {}, training=False
        )
        assert np.std(by_hand) > 0
        distiller.compile()
        distiller.fit(x, np.arange(16) % 10, verbose=0)
        after = method(distiller.extractor(x), distiller.teacher({"image": x}), {}, training=False)
        assert not np.allclose(by_hand, after, rtol=1e-3)


# --- FitNets ---


def test_the_second_stage_of_fitnets_gives_the_number_of_the_sheet():
    zt, zs = np.array([[4.0, 1, 0], [0, 2, 1]]), np.array([[2.0, 1, 0], [1, 1, 0]])
    method = kd.methods.FitNetsKD(weight=4.0, dtype="float64")
    soft = np.mean(method({"logits": zs}, {"logits": zt}, {}))
    hard = np.mean(losses.cross_entropy(np.array([0, 1]), zs))
    np.testing.assert_allclose([soft / 4, hard + soft], [1.04565879, 4.81743554], atol=5e-9)


def test_the_first_stage_gives_the_number_of_the_sheet_for_a_regressor_that_changes_nothing():
    hint = np.array([[[[1.0, 2], [0, 1]], [[0, 1], [2, 0]]]])
    guided = np.array([[[[1.0, 1], [0, 0]], [[1, 1], [0, 0]]]])
    method = kd.methods.HintStage("a", "a", dtype="float64")
    build(method, {"a": guided}, {"a": hint})
    kernel, bias = method.trainable_variables
    assert np.abs(kernel).max() <= 0.05
    kernel.assign(np.eye(2)[None, None])
    bias.assign([0.0, 0.0])
    np.testing.assert_allclose(method({"a": guided}, {"a": hint}, {}), [3.5])


def test_the_first_stage_trains_what_lies_below_the_guided_layer_alone():
    keras.utils.set_random_seed(0)
    x = rng.integers(0, 256, (32, 8, 8, 1)).astype("uint8")
    student, teacher = small(), kd.models.build("cnn", input_shape=(8, 8, 1), classes=10)
    hint, last = kd.methods.FitNets().stages(kd.methods.Roles(student, teacher))
    assert (hint.alpha, hint.keep, last.keep) == (0.0, "last", "best")
    before = {v.path: np.array(v) for v in student.weights}
    distiller = kd.Distiller(student=student, teacher=teacher, method=hint.method, alpha=hint.alpha)
    distiller.compile()
    distiller.fit(x, np.zeros(32, int), epochs=2, verbose=0)
    moved = {v.path.split("/")[0] for v in student.weights if (before[v.path] != np.array(v)).any()}
    assert moved == {"stage1", "stage2"}


@pytest.mark.parametrize("bad", [0, -1, 2.5, True, "3"])
def test_epochs_of_the_first_stage_are_whole(bad):
    with pytest.raises(ValueError, match="`hint_epochs` must be a positive whole number"):
        kd.methods.FitNets(hint_epochs=bad)


@pytest.fixture
def run_of(tmp_path):
    def run(**settings):
        config = DistillConfig(
            method="fitnets",
            student="lenet5",
            teacher_knobs=("width=0.25",),
            epochs=2,
            seeds=(0,),
            limit=128,
            out=tmp_path / "run",
            export=tmp_path / "student",
            **settings,
        )
        return config, distill.run

    return run


@pytest.mark.slow
def test_a_run_trains_the_hint_to_its_end_and_then_distils(run_of, caplog):
    config, run = run_of(method_knobs=("hint_epochs=3",))
    with caplog.at_level(logging.INFO, "kd_keras"):
        run(config)
    (told,) = [line for line in caplog.messages if "distilled-hint, " in line]
    assert "at epoch 3 of 3" in told  # the last epoch's weights, whatever validation says
    lines = [
        json.loads(line) for line in (config.folder / "metrics.jsonl").read_text().splitlines()
    ]
    roles = [line["model"] for line in lines]
    assert roles == [
        *("teacher", "teacher", "alone", "alone"),
        *("distilled-hint",) * 3,
        *("distilled",) * 2,
    ]


def test_a_run_with_a_wrong_hint_is_refused_before_anything_is_trained(run_of, tmp_path):
    config, run = run_of(method_knobs=("student_tap=stage7",))
    with pytest.raises(ValueError, match="has no tap 'stage7'"):
        run(config)
    assert not any(tmp_path.iterdir())
