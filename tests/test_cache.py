"""The teacher's answers are computed once, and never taken for those of something else."""

import gc
import logging
import weakref

import keras
import numpy as np
import pytest
import tensorflow as tf

import kd_keras as kd
from kd_keras import cache, teachers


class Counted(kd.LiveTeacher):
    """A live teacher that counts its passes over all images."""

    passes = 0

    def rows(self, images, batch_size=256):
        self.passes += 1
        return super().rows(images, batch_size)


@pytest.fixture
def teacher(mlp):
    return Counted(mlp(1))


@pytest.fixture
def x(examples):
    return examples[0]


def test_rows_are_computed_once_and_are_the_answers(teacher, x):
    rows = cache.rows(teacher, x)
    assert teacher.passes == 1
    np.testing.assert_allclose(rows["logits"], teacher({"image": x})["logits"], rtol=1e-5)
    assert cache.rows(teacher, x.copy()) is rows
    assert cache.rows(teacher, x, batch_size=3) is rows
    assert teacher.passes == 1


def test_another_source_over_the_same_model_shares_the_rows(teacher, x):
    rows = cache.rows(teacher, x)
    twin = Counted(teacher.model)
    assert cache.rows(twin, x) is rows
    assert twin.passes == 0
    more = Counted(teacher.model, ("logits", "embedding"))
    assert set(cache.rows(more, x)) == {"logits", "embedding"}
    assert more.passes == 1


def test_changed_weights_are_noticed(teacher, x):
    before = cache.rows(teacher, x)["logits"]
    teacher.model.get_layer("logits").bias.assign([1.0, 0.0, 0.0])
    after = cache.rows(teacher, x)["logits"]
    assert teacher.passes == 2
    np.testing.assert_allclose(after - before, np.tile([1.0, 0.0, 0.0], (16, 1)), atol=1e-5)


def test_changed_images_are_noticed(teacher, x):
    cache.rows(teacher, x)
    changed = x.copy()
    changed[7, 3] += 1e-3
    rows = cache.rows(teacher, changed)["logits"]
    assert teacher.passes == 2
    np.testing.assert_allclose(rows, teacher({"image": changed})["logits"], rtol=1e-5)
    cache.rows(teacher, x[::-1])
    assert teacher.passes == 3


def test_an_ensemble_and_stored_rows_are_sources_too(mlp, x):
    ensemble = kd.EnsembleTeacher([mlp(0), mlp(1)])
    assert cache.rows(ensemble, x) is cache.rows(ensemble, x)
    stored = kd.CachedTeacher({"logits": np.ones((16, 3), "float32")})
    np.testing.assert_array_equal(cache.rows(stored, x)["logits"], np.ones((16, 3)))


def test_rows_go_with_their_teacher(mlp, x):
    teacher = Counted(mlp(1))
    rows = weakref.ref(cache.rows(teacher, x)["logits"])
    model = weakref.ref(teacher.model)
    assert rows() is not None
    del teacher
    gc.collect()
    assert model() is None
    assert rows() is None


def test_rows_outlive_the_source_while_the_model_lives(mlp, x):
    model = mlp(1)
    cache.rows(Counted(model), x)
    gc.collect()
    later = Counted(model)
    cache.rows(later, x)
    assert later.passes == 0


def test_views_that_are_too_large_are_not_kept(mlp, examples, monkeypatch, caplog):
    """The training is then as with a live teacher, which it was all the time."""
    monkeypatch.setattr(cache, "MEMORY_SHARE", 0.0)
    teacher = Counted(mlp(1))
    distiller = kd.Distiller(student=mlp(0), teacher=teacher)
    distiller.compile("sgd")
    with caplog.at_level(logging.WARNING, "kd_keras.cache"):
        distiller.fit(*examples, verbose=0, shuffle=False)
    assert teacher.passes == 0
    assert "the teacher runs at every step" in caplog.text
    cached = kd.Distiller(student=mlp(0), teacher=Counted(mlp(1)))
    cached.compile("sgd")
    monkeypatch.undo()
    cached.fit(*examples, verbose=0, shuffle=False)
    assert cached.teacher.passes == 1
    for ours, theirs in zip(distiller.get_weights(), cached.get_weights(), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-7)


def test_room_is_a_share_of_the_free_memory(teacher, monkeypatch):
    monkeypatch.setattr(cache, "available_memory", lambda: 4 * 3 * 400)
    assert cache.fits(teacher, 100)
    assert not cache.fits(teacher, 101)


def test_stored_rows_are_joined_to_a_pipeline_by_index(x):
    views = {"logits": np.arange(48, dtype="float32").reshape(16, 3)}
    order = np.random.default_rng(0).permutation(16)
    dataset = tf.data.Dataset.from_tensor_slices(({"image": x[order], "index": order}, order % 3))
    for batch, label in cache.attach(dataset.batch(5), views):
        index = batch["index"].numpy()
        np.testing.assert_array_equal(batch["teacher"]["logits"], views["logits"][index])
        np.testing.assert_array_equal(batch["image"], x[index])
        np.testing.assert_array_equal(label, index % 3)


def test_a_teacher_that_learns_on_keeps_one_set_of_rows():
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])
    source, x = teachers.LiveTeacher(model), np.ones((4, 3), "float32")
    for step in range(3):
        model.set_weights([np.full((3, 2), step, "float32"), np.zeros(2, "float32")])
        np.testing.assert_allclose(cache.rows(source, x)["logits"], 3.0 * step)
    assert len(cache._memory[model]) == 1
