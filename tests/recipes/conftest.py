"""A finished run, and a folder of drawings."""

import numpy as np
import pytest
from PIL import Image
from tiny_runs import Watcher, tiny

from kd_keras.recipes import distill


@pytest.fixture(scope="session")
def finished(tmp_path_factory):
    """A finished run of two seeds: its config, results and watcher."""
    config = tiny(tmp_path_factory.mktemp("finished"), seeds=(0, 1))
    watcher = Watcher()
    return config, distill.run(config, watcher), watcher


@pytest.fixture(scope="session")
def drawings(tmp_path_factory):
    """A folder task: 32x32 images, light ones and dark ones, of unequal number."""
    root = tmp_path_factory.mktemp("drawings")
    rng = np.random.default_rng(0)
    for part, counts in (("train", (24, 12)), ("test", (6, 6))):
        for name, count, base in zip(("dark", "light"), counts, (60, 160), strict=True):
            folder = root / part / name
            folder.mkdir(parents=True)
            for i in range(count):
                pixels = base + rng.integers(-50, 50, (32, 32, 3))
                Image.fromarray(pixels.astype("uint8")).save(folder / f"{i:02}.png")
    return root
