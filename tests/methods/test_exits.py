"""`BYOT`: the number of its paper's loss, who learns from whom, and what is deployed."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import kd_keras as kd
from kd_keras import losses
from kd_keras.methods import BYOT

ZT, ZS, Y = np.array([[4.0, 1, 0], [0, 2, 1]]), np.array([[2.0, 1, 0], [1, 1, 0]]), np.array([0, 1])
FIRST = np.array([[1.0, 0, 0], [0, 1, 0]])
DEEP = np.array([[1.0, 2, 2], [0, 3, 4]])


def with_exits(answers, features=None, **knobs):
    """A method on vectors, whose exits answer what they are told: taps `e0`, `e1`, ..."""
    taps = tuple(f"e{k}" for k in range(len(answers)))
    method = BYOT(taps, "deep", dtype="float64", **knobs)
    shapes = dict.fromkeys((*taps, "deep", "logits"), (None, 3))
    method.build(shapes, {})
    method.built = True
    for (inner,), head in zip(method.inner, method.heads, strict=True):
        for layer in (inner, head):
            layer.kernel.assign(np.eye(3))
            layer.bias.assign(np.zeros(3))
    views = dict(zip(taps, answers, strict=True))
    return method, {**views, "deep": ZT if features is None else features, "logits": ZT}


def whole(method, views):
    """The loss with the labels' term of what is deployed, which is the Distiller's."""
    hard = np.mean(losses.cross_entropy(Y, method.deployed_logits(views)))
    rest = np.mean(method(views, {}, {"label": Y}))
    share = method.default_alpha / (1 - method.default_alpha)
    return share * hard + rest


@pytest.mark.parametrize("deployed", [None, "e0"])
@pytest.mark.parametrize(("form", "want"), [("authors", 1.69449025), ("public", 3.16281228)])
def test_the_whole_loss_is_that_of_the_sheet_whichever_exit_is_deployed(form, want, deployed):
    method, views = with_exits([FIRST, ZS], form=form, feature_weight=1e-30, deployed=deployed)
    np.testing.assert_allclose(whole(method, views), want, atol=2e-8)
    at_end = 1.0 if form == "authors" else 0.9
    ours = at_end if deployed is None else 1.0 - method.answer_weight
    assert method.default_alpha == pytest.approx(ours / (1 + ours))


def test_the_authors_features_are_one_distance_over_the_batch_at_all_exits_but_one():
    method, views = with_exits([FIRST, ZS], DEEP)
    assert (method.form, method.answer_weight, method.feature_weight) == (
        "authors",
        pytest.approx(0.3),
        pytest.approx(0.03),
    )
    assert list(method.bridges) == ["e0"]  # the deepest exit has no features' term
    method.bridges["e0"].kernel.assign([[1.0, 1, 2], [0, 3, 3], [0, 0, 0]])  # of `FIRST`
    np.testing.assert_allclose(whole(method, views), 1.73691666, atol=2e-8)
    weight = np.array([1.0, 0.0])
    known = {"label": Y, "weight": weight}
    alone = with_exits([FIRST], DEEP, matched="all", feature_weight=1.0)[0]
    alone.bridges["e0"].kernel.assign([[1.0, 1, 2], [0, 3, 3], [0, 0, 0]])
    apart = alone._apart("e0", FIRST, DEEP, weight)
    np.testing.assert_allclose(apart, [1.0, 0.0])
    assert np.isfinite(alone(views, {}, known)).all()


def test_which_exits_have_a_features_term_is_a_choice():
    for matched, want in (
        ("all", ["e0", "e1", "e2"]),
        ("shallower", ["e0", "e1"]),
        ("deeper", ["e1", "e2"]),
    ):
        assert list(with_exits([FIRST] * 3, matched=matched)[0].bridges) == want
    with pytest.raises(ValueError, match=r"Unknown choice of exits for `matched`: 'none'"):
        BYOT(matched="none")
    with pytest.raises(ValueError, match=r"Unknown form 'paper'\. Known: authors, public"):
        BYOT(form="paper")


def test_a_configuration_from_before_there_were_forms_is_the_public_one():
    kept = BYOT("a", form="public").get_config()
    old = {k: v for k, v in kept.items() if k not in ("form", "matched")}
    assert BYOT.from_config(old).get_config() == kept


def test_stages_are_those_before_the_deepest_features():
    shapes = {"stage1": (None, 4, 4, 3), "stage2": (None, 2, 2, 5), "logits": (None, 10)}
    for width, want in ((7, ["stage1", "stage2"]), (5, ["stage1"])):
        method = BYOT()
        method.build({**shapes, "embedding": (None, width)}, {})
        assert list(method.places) == want
    with pytest.raises(ValueError, match=r"none before stage1 \(None, 8\)"):
        BYOT().build({"stage1": (None, 8), "embedding": (None, 8), "logits": (None, 3)}, {})


def test_the_parts_are_those_of_the_sheet():
    for share, want in ((0.0, 1.42299003), (1.0, 18.82121249)):
        knobs = {"form": "public", "feature_weight": 1e-30, "answer_weight": share}
        method, views = with_exits([FIRST, ZS], **knobs)
        hard = (1 - share) * np.mean(losses.cross_entropy(Y, ZT))  # the deepest exit's
        got = hard + np.mean(method(views, {}, {"label": Y}))
        np.testing.assert_allclose(got, want, atol=5e-9)


def test_features_count_where_either_is_active():
    deep = np.array([[0.5, -1.0, -3.0], [0.0, 0.0, 2.0]])
    views_of = [FIRST]
    known = {"label": Y}
    (little, views), (much, _) = (
        with_exits(views_of, deep, form="public", feature_weight=weight) for weight in (1e-30, 2.0)
    )
    got = np.asarray(much(views, {}, known)) - np.asarray(little(views, {}, known))
    np.testing.assert_allclose(got, [2 * 0.25, 2 * (1 + 4)])  # a ReLU's zeros beside -1 and -3
    slow = losses.active_difference(np.maximum(FIRST, 0), deep)
    np.testing.assert_allclose(got, 2 * np.asarray(slow))


def test_the_end_teaches_and_is_not_taught():
    method, views = with_exits([FIRST], feature_weight=1.0, matched="all")
    views = {tap: tf.constant(view) for tap, view in views.items()}
    with tf.GradientTape() as tape:
        tape.watch(views)
        loss = method(views, {}, {"label": Y}, training=True)
    gradients = tape.gradient(loss, views)
    assert gradients["deep"] is None
    assert gradients["logits"] is None
    assert np.any(gradients["e0"])


# --- in a Distiller ---


def images(n=64):
    train = kd.data.load("digits").train
    return train.images[:n], train.labels[:n]


def distiller(method=None, **settings):
    keras.utils.set_random_seed(0)
    student = kd.models.build("lenet5", input_shape=(8, 8, 1), classes=10)
    made = kd.Distiller(student=student, method=method or BYOT(), alpha=0.5, **settings)
    made.compile(keras.optimizers.Adam(3e-3), metrics=["accuracy"])
    return made


@pytest.mark.slow
@pytest.mark.parametrize("deployed", [None, "stage1"])
def test_a_student_teaches_itself_and_every_exit_learns(deployed):
    made = distiller(BYOT(deployed=deployed))
    x, y = images()
    before = [np.mean(losses.cross_entropy(y, z)) for z in answers(made, x)]
    made.fit(x, y, epochs=20, batch_size=16, verbose=0)
    after = [np.mean(losses.cross_entropy(y, z)) for z in answers(made, x)]
    assert all(new < 0.9 * old for new, old in zip(after, before, strict=True))
    place = -1 if deployed is None else 0
    np.testing.assert_allclose(made.predict(x, verbose=0), answers(made, x)[place], atol=1e-4)
    found = made.evaluate(x, y, verbose=0, return_dict=True)
    np.testing.assert_allclose(found["student_loss"], after[place], rtol=1e-4)


def answers(made, x):
    """The logits of all exits, the deepest last."""
    views, method = made.extractor(x), made.method
    exits = [method._exit(k, views[tap])[1] for k, tap in enumerate(method.places)]
    return [np.asarray(z) for z in (*exits, views["logits"])]


def test_an_exit_is_a_plain_and_smaller_model(tmp_path):
    made = distiller(BYOT(deployed="stage1"))
    made.deployed.save(tmp_path / "exit.keras")
    again = keras.models.load_model(tmp_path / "exit.keras")
    x, _ = images()
    np.testing.assert_allclose(again(x), made.deployed(x), rtol=1e-6)
    assert all(type(x).__module__.startswith("keras.") for x in again._flatten_layers())
    assert {"stage2", "embedding"}.isdisjoint(layer.name for layer in again.layers)
    assert again.count_params() < made.student.count_params()


@pytest.mark.slow
def test_a_teacher_that_is_given_is_not_run():
    calls = []

    class Watched(keras.Model):
        def call(self, x):
            calls.append(1)
            return tf.zeros((tf.shape(x)[0], 10))

    teacher = Watched()
    teacher(np.zeros((1, 8, 8, 1), "float32"))
    calls.clear()
    x, y = images()
    histories = []
    for given in ({}, {"teacher": teacher}):
        made = distiller(**given)
        histories.append(made.fit(x, y, verbose=0).history)
    assert calls == []
    assert histories[0] == histories[1]


@pytest.mark.slow
def test_it_goes_on_after_loading_without_a_teacher(tmp_path):
    made = distiller()
    x, y = images()
    made.fit(x, y, verbose=0)
    made.save(tmp_path / "d.keras")
    again = keras.models.load_model(tmp_path / "d.keras")
    np.testing.assert_allclose(again.predict(x, verbose=0), made.predict(x, verbose=0), atol=1e-5)
    again.fit(x, y, verbose=0)


def test_a_method_that_asks_of_a_teacher_needs_one():
    with pytest.raises(ValueError, match=r"that gives the taps logits. Received: NoneType"):
        distiller(kd.methods.KD())


def test_exits_are_of_any_rank_but_of_vectors_and_maps():
    shapes = {"a": (None, 4, 4, 3), "b": (None, 7), "deep": (None, 2, 2, 5), "logits": (None, 10)}
    method = BYOT("a,b", "deep")
    method.build(shapes, {})
    assert [head.kernel.shape for head in method.heads] == [(5, 10), (5, 10)]
    for tap, deep, filters in (
        ((None, 30, 17, 3), (None, 5), [5, 5, 5, 5]),  # 30, 15, 8, 4, 2
        ((None, 8, 8, 2), (None, 40), [4, 40]),
    ):
        other = BYOT("a", "deep")
        other.build({**shapes, "a": tap, "deep": deep}, {})
        assert [layer.filters for layer in other.inner[0][:-1]] == filters
    with pytest.raises(ValueError, match=r"BYOT on 'a' and 'deep' takes vectors.*\(None, 4, 3\)"):
        BYOT("a", "deep").build({**shapes, "a": (None, 4, 3)}, {})


def test_wrong_exits_are_refused():
    with pytest.raises(ValueError, match=r"Unknown exit for `deployed`: 'stage3'.*stage1, stage2"):
        distiller(BYOT(deployed="stage3"))
    with pytest.raises(ValueError, match=r"Unknown exit for `deployed`: 'stage3'.*stage1"):
        BYOT("stage1", deployed="stage3")
    with pytest.raises(ValueError, match="may be named once"):
        BYOT("stage1,stage1")
    with pytest.raises(ValueError, match="`answer_weight` must lie in"):
        BYOT(answer_weight=1.5)
