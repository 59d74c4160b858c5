"""`Sum`: values, taps, knobs and configuration are those of its parts together."""

import json

import keras
import numpy as np
import pytest
from keras import ops

import kd_keras as kd

TEACHER = np.array([[4.0, 1.0, 0.0], [0.0, 2.0, 1.0]], "float32")
STUDENT = np.array([[2.0, 1.0, 0.0], [1.0, 1.0, 0.0]], "float32")


@keras.saving.register_keras_serializable("kd_keras_tests")
class Hint(kd.methods.Method):
    """Squared distance of the embeddings, through a trained projection, for each label."""

    student_taps = ("embedding",)
    teacher_taps = ("embedding", "logits")
    needs_index = needs_labels = True

    def build(self, student_shape, teacher_shape, batch_shape=None):
        self.project = keras.layers.Dense(teacher_shape["embedding"][-1], dtype="float32")
        self.project.build(student_shape["embedding"])

    def adapt(self, views):
        self.seen = [view["logits"].sum() for view in views]

    def call(self, student, teacher, batch, training=False):
        distance = self.project(student["embedding"]) - teacher["embedding"]
        return ops.sum(distance**2, axis=-1) * ops.cast(batch["label"] + 1, "float32")


def views(rng, width):
    return {"logits": STUDENT, "embedding": rng.normal(size=(2, width)).astype("float32")}


@pytest.fixture
def batch():
    rng = np.random.default_rng(0)
    known = {"label": np.array([0, 1]), "index": np.array([0, 1])}
    return views(rng, 4), {**views(rng, 5), "logits": TEACHER}, known


def plain(config):
    """As a file keeps it."""
    return json.loads(json.dumps(config))


def build(method, batch):
    student, teacher, _ = batch
    method.build(*({tap: v.shape for tap, v in views.items()} for views in (student, teacher)))
    method.built = True
    return method


def test_it_is_the_weighted_sum_of_its_parts(batch):
    warm, cold, hint = kd.methods.KD(4.0), kd.methods.KD(1.0), Hint()
    both = build(
        kd.methods.Sum({"warm": warm, "cold": cold, "hint": hint}, {"cold": 0.5, "hint": 0.25}),
        batch,
    )
    want = warm(*batch) + 0.5 * cold(*batch) + 0.25 * hint(*batch)
    got = both(*batch)
    assert got.shape == (2,)
    np.testing.assert_allclose(got, want, rtol=1e-6)
    np.testing.assert_allclose(
        np.mean(warm(*batch) + 0.5 * cold(*batch)), 0.45348325 + 0.5 * 0.24426443, rtol=1e-5
    )


def test_a_part_of_weight_zero_is_left_out_of_the_value(batch):
    both = build(kd.methods.Sum({"kd": kd.methods.KD(4.0), "hint": Hint()}, {"hint": 0.0}), batch)
    np.testing.assert_allclose(both(*batch), kd.methods.KD(4.0)(*batch), rtol=1e-6)


def test_it_asks_for_what_any_of_its_parts_asks():
    both = kd.methods.Sum({"kd": kd.methods.KD(), "hint": Hint()})
    assert both.student_taps == ("logits", "embedding")
    assert both.teacher_taps == ("logits", "embedding")
    assert both.needs_index
    assert both.needs_labels
    alone = kd.methods.Sum({"kd": kd.methods.KD()})
    assert not alone.needs_index
    assert not alone.needs_labels


def test_its_parts_weights_are_trained(batch):
    both = build(kd.methods.Sum({"kd": kd.methods.KD(), "hint": Hint()}), batch)
    assert [v.shape for v in both.trainable_variables] == [(4, 5), (5,)]


def test_knobs_of_its_parts_move_with_the_epochs(batch):
    cool, inner = kd.schedules.Linear(8.0, 2.0, epochs=3), kd.schedules.Linear(1.0, 3.0, epochs=3)
    both = kd.methods.Sum(
        {
            "cool": kd.methods.KD(cool),
            "more": kd.methods.Sum({"warm": kd.methods.KD(inner)}),
            "fixed": kd.methods.KD(4.0),
        }
    )
    both.on_epoch_begin(1)
    assert both.methods["cool"].temperature == 5.0
    assert both.methods["more"].methods["warm"].temperature == 2.0
    assert both.methods["fixed"].temperature == 4.0


def test_every_part_looks_at_all_views_even_of_an_iterator():
    both = kd.methods.Sum({"one": Hint(), "two": Hint()})
    both.adapt({"logits": np.full(3, k)} for k in (1, 2))
    assert both.methods["one"].seen == both.methods["two"].seen == [3, 6]


def test_it_tells_its_parts_of_the_labels(batch):
    crd = kd.methods.CRD(examples=9, size=2)
    build(kd.methods.Sum({"crd": crd, "kd": kd.methods.KD()}), batch).adapt_labels(
        np.array([2, 0, 1])
    )
    np.testing.assert_array_equal(crd.classes[:4], [2, 0, 1, -1])


def test_it_comes_back_from_its_configuration(batch):
    cool = kd.schedules.Linear(8.0, 2.0, epochs=3)
    both = kd.methods.Sum({"cool": kd.methods.KD(cool), "hint": Hint()}, {"hint": 0.5})
    build(both, batch)
    kept = plain(keras.saving.serialize_keras_object(both))
    twin = build(keras.saving.deserialize_keras_object(kept), batch)
    assert plain(twin.get_config()) == plain(both.get_config())
    twin.set_weights(both.get_weights())
    for method in (both, twin):
        method.on_epoch_begin(1)
    assert twin.methods["cool"].temperature == 5.0
    np.testing.assert_array_equal(twin(*batch), both(*batch))


@pytest.mark.parametrize(
    ("methods", "weights", "message"),
    [
        ({}, None, "at least one method"),
        ({"kd": "kd"}, None, r"`methods\['kd'\]` must be a Method. Received: str"),
        ({"kd": kd.methods.KD()}, {"dk": 2.0}, r"`weights` names \['dk'\].*holds \['kd'\]"),
    ],
)
def test_what_is_no_sum_of_methods_is_refused(methods, weights, message):
    with pytest.raises(ValueError, match=message):
        kd.methods.Sum(methods, weights)


def test_a_method_must_say_what_it_computes():
    with pytest.raises(TypeError, match="Method must override `call`"):
        kd.methods.Method()({"logits": STUDENT}, {"logits": TEACHER}, {})


def test_a_plan_is_one_training_by_the_method_itself():
    method = kd.methods.KD()
    (stage,) = kd.methods.as_plan(method).stages(
        kd.methods.Roles(student="a student", teacher="a teacher")
    )
    assert (stage.student, stage.teacher, stage.method) == ("a student", "a teacher", method)
    assert stage.alpha is None
    assert stage.epochs is None
