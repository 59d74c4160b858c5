"""The teacher's answers are computed once, and never taken for those of something else."""

import gc
import logging
import weakref

import keras
import numpy as np
import pytest

import kd_keras as kd
from kd_keras import cache, teachers
from kd_keras.cache import policy
from kd_keras.cache.rows import InMemory, Mapped


class Counted(kd.LiveTeacher):
    """A live teacher that counts the batches it answers: one a pass over these few images."""

    passes = 0

    @property
    def on_images(self):
        def ask(images):
            self.passes += 1
            return kd.LiveTeacher.on_images.func(self)(images)

        return ask


@pytest.fixture
def teacher(mlp):
    return Counted(mlp(1))


def test_rows_are_computed_once_and_are_the_answers(teacher, x):
    rows = cache.rows(teacher, x)
    assert teacher.passes == 1
    np.testing.assert_allclose(rows["logits"], teacher.model(x), rtol=1e-5)
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
    np.testing.assert_allclose(rows, teacher.model(changed), rtol=1e-5)
    cache.rows(teacher, x[::-1])
    assert teacher.passes == 3


def test_an_ensemble_and_stored_rows_are_sources_too(mlp, x):
    ensemble = kd.EnsembleTeacher([mlp(0), mlp(1)])
    rows = cache.rows(ensemble, x)
    assert rows is cache.rows(ensemble, x)
    np.testing.assert_allclose(rows["logits"], ensemble({"image": x})["logits"], rtol=1e-5)
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


def test_room_is_a_share_of_the_free_memory(teacher, monkeypatch, caplog):
    monkeypatch.setattr(policy, "available_memory", lambda: 4 * 3 * 400)
    assert cache.fits(teacher, 100)
    assert caplog.text == ""
    assert not cache.fits(teacher, 101)
    assert "the teacher runs at every step" in caplog.text


def test_a_teacher_that_learns_on_keeps_one_set_of_rows():
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])
    source, x = teachers.LiveTeacher(model), np.ones((4, 3), "float32")
    for step in range(3):
        model.set_weights([np.full((3, 2), step, "float32"), np.zeros(2, "float32")])
        np.testing.assert_allclose(cache.rows(source, x)["logits"], 3.0 * step)
    assert len(policy._memory[model]) == 1


def test_a_cache_without_a_directory_is_in_memory_while_there_is_room(
    teacher, x, monkeypatch, tmp_path, caplog
):
    monkeypatch.setenv("KD_KERAS_CACHE", str(tmp_path / "mine"))
    images = cache.Arrays(x)
    first = cache.Cache().open(teacher, images)
    assert isinstance(first, InMemory)
    assert cache.Cache().open(teacher, cache.Arrays(x.copy())) is first
    assert not (tmp_path / "mine").exists()
    with caplog.at_level(logging.INFO, "kd_keras.cache"):
        second = cache.Cache(memory_share=0.0).open(teacher, images)
    assert isinstance(second, Mapped)
    assert f"are stored in {tmp_path / 'mine'}" in caplog.text
    np.testing.assert_array_equal(first.arrays()["logits"], second.arrays()["logits"])


def test_another_storage_is_another_set_of_rows(teacher, x):
    images = cache.Arrays(x)
    exact = cache.Cache().open(teacher, images).arrays()["logits"]
    half = cache.Cache(storage="float16").open(teacher, images).arrays()["logits"]
    np.testing.assert_array_equal(half, exact.astype("float16"))
    top = cache.Cache(storage="top1").open(teacher, images).arrays()["logits"]
    np.testing.assert_array_equal(top.argmax(1), exact.argmax(1))
    assert teacher.passes == 3


@pytest.mark.parametrize(
    ("environment", "want"),
    [
        ({"KD_KERAS_CACHE": "/a", "XDG_CACHE_HOME": "/b", "HOME": "/c"}, "/a"),
        ({"XDG_CACHE_HOME": "/b", "HOME": "/c"}, "/b/kd_keras"),
        ({"HOME": "/c"}, "/c/.cache/kd_keras"),
    ],
)
def test_the_default_directory(environment, want, monkeypatch):
    for name in ("KD_KERAS_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert str(cache.default_directory()) == want


class Plain(keras.Model):
    """Keras cannot put it in writing."""

    def __init__(self, inner):
        super().__init__()
        self.inner = inner
        self.steps = [lambda x: x]

    def call(self, x):
        return self.inner(x)

    def get_config(self):
        raise NotImplementedError


def test_a_teacher_whose_code_is_not_in_its_fingerprint_stays_off_the_disk(mlp, x, on_disk):
    model = Plain(mlp(1))
    model(x)
    source = kd.LiveTeacher(model)
    assert not source.durable
    assert kd.LiveTeacher(mlp(1)).durable
    assert kd.EnsembleTeacher([mlp(0), mlp(1)]).durable
    assert not kd.EnsembleTeacher([mlp(0), model]).durable
    stored = cache.Cache().open(source, cache.Arrays(x))
    np.testing.assert_allclose(stored.arrays()["logits"], model(x), rtol=1e-5)
    with pytest.raises(ValueError, match=r"code is not part of its fingerprint.*get_config"):
        on_disk().open(source, cache.Arrays(x))


def test_a_teacher_in_half_precision_may_round_more(mlp, mixed_float16):
    half = mlp(1)
    keras.config.set_dtype_policy("float32")
    assert kd.LiveTeacher(half).rounding > kd.LiveTeacher(mlp(1)).rounding
    mixed = kd.EnsembleTeacher([mlp(0), half])
    assert mixed.rounding == kd.LiveTeacher(half).rounding


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"storage": "float8"}, "`storage` must be"),
        ({"storage": {"logits": "float8"}}, "`storage` must be"),
        ({"limit": 0}, "`limit` must be a positive number"),
        ({"memory_share": 1.5}, r"`memory_share` must lie in \[0, 1\]"),
    ],
)
def test_bad_settings_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        cache.Cache(**settings)


def test_stored_rows_cannot_answer_on_images(x):
    stored = kd.CachedTeacher({"logits": np.ones((16, 3), "float32")})
    with pytest.raises(ValueError, match=r"CachedTeacher, whose rows are found by index.*join"):
        cache.Cache().open(stored, cache.Arrays(x))
