"""Builds rows in a process of its own, for the tests of several processes and of kills.

Arguments: directory, journal, number of images, seconds per batch.
"""

import logging
import sys
import time

import keras
import numpy as np

import kd_keras as kd
from kd_keras.cache import disk


class Slow(kd.cache.Arrays):
    """Writes down every batch that the teacher is asked about."""

    def remaining(self, stored):
        for batch in super().remaining(stored):
            with open(JOURNAL, "a") as journal:
                journal.write(f"{batch.pixels[0]}\n")
            time.sleep(SECONDS)
            yield batch


if __name__ == "__main__":
    DIRECTORY, JOURNAL, COUNT, SECONDS = *sys.argv[1:3], int(sys.argv[3]), float(sys.argv[4])
    logging.basicConfig(level=logging.WARNING)
    logging.getLogger("kd_keras").setLevel(logging.INFO)
    disk.FLUSH_SECONDS = 0.0
    keras.utils.set_random_seed(0)
    inputs = keras.Input((6,))
    model = keras.Model(inputs, keras.layers.Dense(3, name="logits")(inputs))
    images = np.random.default_rng(0).normal(size=(COUNT, 6)).astype("float32")
    print("ready", flush=True)
    stored = kd.cache.Cache(DIRECTORY).open(kd.LiveTeacher(model), Slow(images, 4))
    np.testing.assert_allclose(stored.arrays()["logits"], model(images), rtol=1e-4, atol=1e-5)
    print("done", stored.count, flush=True)
