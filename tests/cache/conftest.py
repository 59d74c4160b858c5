"""A teacher that counts what it is asked, and a cache on disk."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import kd_keras as kd


class Journal(kd.cache.Arrays):
    """Arrays that write down which batches the teacher was asked about."""

    def __init__(self, images, batch_size=4):
        super().__init__(images, batch_size)
        self.asked = []

    def remaining(self, stored):
        for batch in super().remaining(stored):
            self.asked.append(len(batch.pixels))
            yield batch


@pytest.fixture(scope="session")
def journal():
    return Journal


@pytest.fixture
def x(examples):
    return examples[0]


@pytest.fixture
def teacher(mlp):
    return kd.LiveTeacher(mlp(1))


@pytest.fixture
def on_disk(tmp_path):
    """`on_disk(storage)`: a cache in a new directory, always the same; its rows are mapped."""

    def make(storage="float32", **settings):
        settings = {"memory_share": 0.0, **settings}
        return kd.cache.Cache(tmp_path / "cache", storage=storage, **settings)

    return make


@pytest.fixture
def cnn():
    """A small convolutional teacher of 8x8 images, ten classes."""
    keras.utils.set_random_seed(3)
    return kd.models.build("cnn", input_shape=(8, 8, 1), classes=10)


@pytest.fixture(scope="session")
def pictures():
    """Thirty images, uint8, and their labels."""
    rng = np.random.default_rng(5)
    return rng.integers(0, 256, (30, 8, 8, 1), dtype=np.uint8), np.arange(30) % 10


@pytest.fixture(scope="session")
def same_answers():
    """Compare what a dataset carries with the teacher's live answers on its images."""

    def check(dataset, model, image_rank=4):
        count = 0
        for element in dataset:
            batch = element[0] if isinstance(element, tuple) else element
            image, stored = batch["image"], batch["teacher"]["logits"]
            if image.shape.rank < image_rank:
                image, stored = image[None], stored[None]
            np.testing.assert_allclose(stored, model(image), rtol=1e-5, atol=1e-5)
            count += len(image)
        return count

    return check


@pytest.fixture(scope="session")
def slices():
    return tf.data.Dataset.from_tensor_slices
