"""A stratified cut: its examples are those that scikit-learn draws."""

import numpy as np
import pytest
from sklearn.model_selection import train_test_split

from kd_keras.data import stratified


def test_it_draws_as_scikit_learn_does_and_refuses_what_it_refuses():
    rng, refused = np.random.default_rng(0), 0
    for seed in range(200):
        labels = rng.integers(rng.integers(1, 8), size=rng.integers(3, 200))
        share = float(rng.choice([0.1, 0.2, 0.33, 0.5, 0.9]))
        every = np.arange(len(labels))
        try:
            want = train_test_split(every, test_size=share, random_state=seed, stratify=labels)
        except ValueError:
            refused += 1
            with pytest.raises(ValueError, match=r"single image|do not fit"):
                stratified.cut(labels, share, seed)
            continue
        got = stratified.cut(labels, share, seed)
        for ours, theirs in zip(got, want, strict=True):
            np.testing.assert_array_equal(ours, np.sort(theirs))
    assert 0 < refused < 100


def test_too_few_images_are_counted():
    with pytest.raises(ValueError, match="class 1 has a single image"):
        stratified.cut(np.array([0, 0, 0, 1]), 0.5, 0)
    with pytest.raises(ValueError, match="2 classes do not fit into a part of 1 images"):
        stratified.cut(np.array([0, 0, 1, 1]), 0.25, 0)
