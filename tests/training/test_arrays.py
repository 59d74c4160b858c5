"""Arrays given to `fit` find the teacher's answers where they are kept: in memory or on disk."""

import os
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

import kd_keras as kd
from kd_keras.cache import Cache
from kd_keras.models.taps import FeatureExtractor
from kd_keras.training.joining import Joiner

SEEN = tf.Variable(0)


class Counted(kd.LiveTeacher):
    """A live teacher that counts the images it answers, in the graph."""

    def __call__(self, batch):
        SEEN.assign_add(tf.shape(batch["image"])[0])
        return super().__call__(batch)


# before images are stored: eight of them, then four again, to see that the teacher repeats itself
ASKED_TWICE = 12


@pytest.fixture
def seen():
    """How many images the teacher has answered since it was last asked."""
    SEEN.assign(0)

    def count():
        value = int(SEEN.numpy())
        SEEN.assign(0)
        return value

    return count


def train(student, teacher, data, mode, **settings):
    distiller = kd.Distiller(student=student, teacher=teacher, alpha=0.3, teacher_cache=mode)
    distiller.compile(keras.optimizers.SGD(0.1, momentum=0.9), metrics=["accuracy"])
    keras.utils.set_random_seed(3)
    settings = {"epochs": 3, "batch_size": 5, "verbose": 0, **settings}
    return distiller, distiller.fit(*data, **settings).history


def same(left, right):
    (ours, history), (theirs, want) = left, right
    assert history == {k: pytest.approx(values, rel=1e-4) for k, values in want.items()}
    for mine, yours in zip(ours.student.weights, theirs.student.weights, strict=True):
        np.testing.assert_allclose(mine, yours, rtol=1e-4, atol=1e-5, err_msg=mine.path)


@pytest.mark.slow
def test_rows_on_disk_are_for_any_teacher_of_the_same_weights(examples, mlp, tmp_path, seen):
    kept, model = Cache(tmp_path), mlp(1)
    first = train(mlp(0), Counted(model), examples, kept)
    assert seen() == 16 + ASKED_TWICE
    assert len([path for path in tmp_path.iterdir() if path.is_dir()]) == 1
    model.save(tmp_path / "teacher.keras")
    twin = keras.models.load_model(tmp_path / "teacher.keras")
    again = train(mlp(0), Counted(twin), examples, kept)
    assert seen() == 4  # asked again, to see that the answers still are what they were
    same(first, again)
    twin.set_weights(mlp(2).get_weights())
    other = train(mlp(0), Counted(twin), examples, kept)
    assert seen() == 16 + ASKED_TWICE
    assert other[1] != first[1]
    same(first, train(mlp(0), Counted(model), examples, "off"))


PROGRAM = """
import sys
import keras, numpy as np, tensorflow as tf
import kd_keras as kd

def mlp(seed):
    keras.utils.set_random_seed(seed)
    x = keras.Input((6,))
    h = keras.layers.Dense(5, "tanh", name="embedding")(x)
    return keras.Model(x, keras.layers.Dense(3, name="logits")(h))

SEEN = tf.Variable(0)

class Counted(kd.LiveTeacher):
    def __call__(self, batch):
        SEEN.assign_add(tf.shape(batch["image"])[0])
        return super().__call__(batch)

x = np.random.default_rng(0).normal(size=(600, 6)).astype("float32")
d = kd.Distiller(student=mlp(0), teacher=Counted(mlp(1)), teacher_cache=kd.cache.Cache(sys.argv[1]))
d.compile("sgd")
keras.utils.set_random_seed(3)
history = d.fit(x, np.arange(600) % 3, epochs=2, batch_size=100, verbose=0).history
print(int(SEEN.numpy()), *history["loss"])
"""


@pytest.mark.slow
def test_rows_on_disk_are_for_any_process(tmp_path):
    """The second process asks about a few images alone, to see that the answers are the same."""
    root, said = Path(__file__).parents[2], []
    for _ in range(2):
        done = subprocess.run(
            [sys.executable, "-c", PROGRAM, str(tmp_path)],
            capture_output=True,
            text=True,
            check=False,
            env={**os.environ, "PYTHONPATH": str(root)},
        )
        assert done.returncode == 0, done.stderr[-3000:]
        said.append(done.stdout.split())
    assert int(said[0][0]) == 600 + ASKED_TWICE  # what was stored is asked about again
    assert int(said[1][0]) == 4
    assert said[0][1:] == said[1][1:]


SETTINGS = {
    "plain": {},
    "in_order": {"shuffle": False},
    "weighted": {"sample_weight": np.linspace(0.0, 2.0, 16)},
    "split": {"validation_split": 0.25, "sample_weight": np.linspace(0.0, 2.0, 16)},
    "by_class": {"class_weight": {0: 1.0, 1: 0.5, 2: 0.0}},
    "one_step": {"batch_size": 16},
}


@pytest.mark.slow
@pytest.mark.parametrize("settings", SETTINGS.values(), ids=SETTINGS)
def test_rows_too_large_for_memory_are_read_by_index(examples, mlp, tmp_path, settings, seen):
    kept = Cache(tmp_path, memory_share=0.0)
    mapped = train(mlp(0), Counted(mlp(1)), examples, kept, **settings)
    assert seen() == 16 + ASKED_TWICE
    assert set(mapped[0].inputs.joined.on_disk) == {"teacher"}
    assert "teacher" not in mapped[0].inputs.joined.batch
    same(mapped, train(mlp(0), Counted(mlp(1)), examples, "off", **settings))
    same(mapped, train(mlp(0), Counted(mlp(1)), examples, "auto", **settings))


def test_without_a_directory_they_go_to_the_default_one(examples, mlp, tmp_path, monkeypatch):
    monkeypatch.setenv("KD_KERAS_CACHE", str(tmp_path / "mine"))
    mapped = train(mlp(0), mlp(1), examples, Cache(memory_share=0.0))
    assert (tmp_path / "mine").is_dir()
    same(mapped, train(mlp(0), mlp(1), examples, "off"))


def test_validation_data_works_with_rows_on_disk(examples, mlp, tmp_path):
    held_out = {"validation_data": (examples[0][:6] + 1.0, examples[1][:6])}
    runs = [
        train(mlp(0), mlp(1), examples, mode, **held_out)
        for mode in (Cache(tmp_path, memory_share=0.0), "off")
    ]
    same(*runs)


def test_what_is_read_by_index_is_of_the_last_fit(examples, mlp, tmp_path):
    """The step holds the rows that it was traced with; other images, other rows."""
    x, y = examples
    kept = Cache(tmp_path, memory_share=0.0)
    runs = []
    for mode in (kept, "off"):
        distiller, _ = train(mlp(0), mlp(1), examples, mode)
        later = distiller.fit(x[::-1] * 2.0, y, batch_size=5, verbose=0, shuffle=False).history
        runs.append((distiller, later))
    same(*runs)
    distiller = runs[0][0]
    distiller.teacher_cache = "auto"  # and from disk to memory
    history = distiller.fit(x, y, batch_size=5, verbose=0, shuffle=False).history
    want = runs[1][0].fit(x, y, batch_size=5, verbose=0, shuffle=False).history
    same((distiller, history), (runs[1][0], want))


@pytest.mark.slow
@pytest.mark.parametrize("storage", ["float16", "top2"])
def test_the_storage_is_what_the_student_learns_from(examples, mlp, tmp_path, storage):
    kept = Cache(tmp_path, storage=storage, memory_share=0.0)
    teacher = kd.LiveTeacher(mlp(1))
    rows = kept.open(teacher, kd.cache.Arrays(examples[0])).arrays()
    stored = train(mlp(0), kd.CachedTeacher(rows), examples, "auto")
    same(train(mlp(0), mlp(1), examples, kept), stored)
    assert stored[1] != train(mlp(0), mlp(1), examples, "off")[1]


def test_a_limit_refuses_before_the_first_step(examples, mlp, tmp_path):
    student = mlp(0)
    before = student.get_weights()
    for kept in (Cache(tmp_path, limit=100), Cache(limit=100)):
        with pytest.raises(ValueError, match=r"more than `limit`=100 allows"):
            train(student, mlp(1), examples, kept)
    for ours, theirs in zip(student.get_weights(), before, strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_off_runs_the_teacher_at_every_step(examples, mlp, seen):
    distiller, _ = train(mlp(0), Counted(mlp(1)), examples, "off")
    assert seen() == 3 * 16
    assert set(distiller.inputs.joined.batch) <= {"image", "index"}


def test_auto_asks_the_teacher_once(examples, mlp, seen):
    distiller, _ = train(mlp(0), Counted(mlp(1)), examples, "auto")
    distiller.fit(*examples, verbose=0)
    assert seen() == 16 + ASKED_TWICE


@pytest.mark.parametrize("bad", ["of", "memory", None, True, "/some/folder"])
def test_a_bad_teacher_cache_names_the_known(mlp, bad):
    with pytest.raises(ValueError, match="teacher_cache") as caught:
        kd.Distiller(student=mlp(0), teacher=mlp(1), teacher_cache=bad)
    assert "auto" in str(caught.value)
    assert "off" in str(caught.value)


def test_a_free_shape_runs_at_every_step(caplog):
    """A tap that depends on the size of the image cannot be stored for all of them."""
    inputs = keras.Input((None, None, 1))
    maps = keras.layers.Conv2D(2, 3, name="maps")(inputs)
    pooled = keras.layers.GlobalAveragePooling2D()(maps)
    model = keras.Model(inputs, keras.layers.Dense(3, name="logits")(pooled))
    source = kd.LiveTeacher(model, ("logits", "maps"))
    joined = Joiner(FeatureExtractor(model, ("logits",)), {"teacher": source}, Cache(), 32)(
        np.zeros((4, 8, 8, 1), "float32")
    )
    assert "teacher" not in joined.batch
    assert joined.on_disk == {}
    assert "'maps' has no fixed shape" in caplog.text


def test_stored_rows_must_be_as_many_as_images(examples, mlp):
    stored = kd.CachedTeacher({"logits": np.zeros((15, 3), "float32")})
    with pytest.raises(ValueError, match="15 rows, but `x` has 16"):
        train(mlp(0), stored, examples, "auto")
