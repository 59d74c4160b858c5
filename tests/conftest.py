"""Small models and data that several test files share."""

import contextlib
import resource
import signal

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

from kd_keras import methods, teachers
from kd_keras.methods import KD
from kd_keras.utils import files


@pytest.fixture(scope="session", autouse=True)
def own_cache_folder(tmp_path_factory):
    """Nothing that the tests keep for later runs lands in the user's own cache folder."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("KD_KERAS_CACHE", str(tmp_path_factory.mktemp("kept")))
        yield


@pytest.fixture
def small_files():
    """`with small_files():` files of more than 1000 bytes are refused, as by a full disk."""

    @contextlib.contextmanager
    def limited():
        before = resource.getrlimit(resource.RLIMIT_FSIZE)
        heard = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, before[1]))
        try:
            yield
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)
            signal.signal(signal.SIGXFSZ, heard)

    return limited


@pytest.fixture
def mlp():
    """`mlp(seed)`: a new perceptron from 6 numbers to 3 logits, with `embedding` and `logits`."""

    def make(seed=0, classes=3, width=5, **head):
        keras.utils.set_random_seed(seed)
        inputs = keras.Input((6,))
        hidden = layers.Dense(width, activation="tanh", name="embedding")(inputs)
        return keras.Model(inputs, layers.Dense(classes, name="logits", **head)(hidden))

    return make


@pytest.fixture
def forgetful():
    """`forgetful(seed)`: a perceptron with everything that has state: normalisation and dropout."""

    def make(seed=0, dropout=0.3):
        keras.utils.set_random_seed(seed)
        return keras.Sequential(
            [
                keras.Input((6,)),
                layers.Dense(5, name="embedding"),
                layers.BatchNormalization(momentum=0.5),
                layers.ReLU(),
                layers.Dropout(dropout, seed=seed),
                layers.Dense(3, name="logits"),
            ]
        )

    return make


@pytest.fixture(scope="session")
def examples():
    """Sixteen examples of three classes: `(x, y)`, not to be changed."""
    rng = np.random.default_rng(0)
    return rng.normal(size=(16, 6)).astype("float32"), np.arange(16) % 3


@pytest.fixture
def mixed_float16():
    """The policy `mixed_float16`, for one test."""
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_float16")
    yield
    keras.config.set_dtype_policy(before)


class LinearTeacher(teachers.TeacherSource):
    """A teacher that is no Keras model, and counts how often Python runs it."""

    def __init__(self, seed=1):
        self.kernel = np.random.default_rng(seed).normal(size=(6, 3)).astype("float32")
        self.shapes = {"logits": (None, 3)}
        self.calls = 0

    def __call__(self, batch):
        self.calls += 1
        return {"logits": tf.matmul(batch["image"], self.kernel)}

    def rows(self, images, batch_size):
        self.calls += 1
        return {"logits": images @ self.kernel}

    def fingerprint(self):
        return files.fingerprint(self.kernel)


@pytest.fixture(scope="session")
def linear_teacher():
    return LinearTeacher


class CountedKD(KD):
    """KD that counts how often Python runs it: once a trace."""

    calls = 0

    def call(self, student, teacher, batch, training=False):
        type(self).calls += 1
        return super().call(student, teacher, batch, training)


@pytest.fixture
def counted(monkeypatch):
    monkeypatch.setitem(methods.METHODS, "counted", CountedKD)
    monkeypatch.setattr(CountedKD, "calls", 0)
    return CountedKD
