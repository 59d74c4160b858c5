"""Mixed images: pure in (seed, index, view), right in their pixels, labels and weights."""

import dataclasses

import numpy as np
import pytest
import tensorflow as tf

from kd_keras import cache, models
from kd_keras.data.augmentation import augmenter, joined, parse_augmentation
from kd_keras.data.mixing import SHARES, mixer, viewer
from kd_keras.data.pipeline import Epochs
from kd_keras.data.task import Split, unlabelled

COUNT = 12
PIXELS = np.random.default_rng(0).integers(0, 256, (COUNT, 4, 4, 1)).astype("uint8")
SPLIT = Split(np.arange(COUNT, dtype="int32") % 3, (4, 4, 1), images=PIXELS)


def partners(seed=0, view=0, count=COUNT):
    """The partner and the share of every example in one view."""
    partner_of = mixer("mixup", seed, count)
    pairs = [partner_of(tf.constant(index), tf.constant(view)) for index in range(count)]
    return np.array([[int(other), int(share)] for other, share in pairs])


def epoch(split=SPLIT, number=0, **options):
    """The batches of an epoch as one, in the order of the indices."""
    settings = {"batch_size": 5, "seed": 3, "augmentation": "mixup", "classes": 3, **options}
    epochs = Epochs(split, **settings)
    found = []
    for images in (True, False):
        batches = epochs.endless(number, images=images).take(epochs.steps)
        parts = list(batches.as_numpy_iterator())
        place = np.argsort(np.concatenate([part[0]["index"] for part in parts]))
        whole = [tf.nest.map_structure(lambda *x, place=place: np.concatenate(x)[place], *parts)]
        found += whole
    return found


def test_another_example_and_half_or_more_of_ones_own():
    drawn = np.concatenate([partners(view=view) for view in range(40)])
    others, shares = drawn.reshape(40, COUNT, 2).transpose(2, 0, 1)
    assert (others != np.arange(COUNT)).all()
    assert set(others.ravel()) == set(range(COUNT))
    assert shares.min() >= SHARES // 2
    assert shares.max() <= SHARES
    # evenly from 128 to 256: mean 192, standard deviation 37.2, of 480 of them 1.7
    assert abs(shares.mean() - 192) < 7


def test_seed_index_and_view_decide():
    np.testing.assert_array_equal(partners(1, 2), partners(1, 2))
    assert (partners(1, 2) != partners(2, 2)).any()
    assert (partners(1, 2) != partners(1, 3)).any()


@pytest.mark.parametrize("name", ["mixup", "shift+mixup"])
def test_pixels_are_mixed_as_both_are_seen(name):
    look = viewer(name, 5, lambda index: tf.gather(PIXELS, index), COUNT)
    partner_of, augment = mixer(name, 5, COUNT), augmenter(name, 5)
    for index in range(COUNT):
        other, share = (int(x) for x in partner_of(tf.constant(index), tf.constant(2)))
        both = [PIXELS[index], PIXELS[other]]
        if augment is not None:
            both = [
                augment(tf.constant(x), i, 2).numpy()
                for x, i in zip(both, (index, other), strict=True)
            ]
        part = share / SHARES
        exact = part * both[0].astype("float64") + (1 - part) * both[1]
        got = look(tf.constant(index), tf.constant(2)).numpy()
        assert got.dtype == np.uint8
        np.testing.assert_allclose(got, exact, atol=0.5)


def test_one_example_alone_is_itself():
    look = viewer("mixup", 0, lambda index: tf.gather(PIXELS[:1], index), 1)
    np.testing.assert_array_equal(look(tf.constant(0), tf.constant(1)), PIXELS[0])


def test_labels_and_weights_are_mixed_as_the_pixels_are():
    weighted = dataclasses.replace(SPLIT, weights=np.linspace(0, 2, COUNT).astype("float32"))
    batch, label, weight = epoch(weighted, 4)[0]
    drawn = partners(3, 4)
    part = drawn[:, 1] / SHARES
    one_hot = np.eye(3)[SPLIT.labels]
    want = part[:, None] * one_hot + (1 - part[:, None]) * one_hot[drawn[:, 0]]
    np.testing.assert_allclose(label, want, atol=1e-6)
    want = part * weighted.weights + (1 - part) * weighted.weights[drawn[:, 0]]
    np.testing.assert_allclose(weight, want, atol=1e-6)
    np.testing.assert_array_equal(batch["view"], 4)
    # the same without images
    rows = epoch(weighted, 4)[1]
    np.testing.assert_array_equal(rows[0]["index"], batch["index"])
    np.testing.assert_allclose(rows[1], label)
    np.testing.assert_allclose(rows[2], weight)


def test_soft_labels_are_mixed_and_unknown_ones_left_out():
    soft = np.random.default_rng(1).dirichlet([1, 1], COUNT).astype("float32")
    (_, label), _ = epoch(dataclasses.replace(SPLIT, soft_labels=soft), classes=None)
    drawn = partners(3, 0)
    part = drawn[:, 1:] / SHARES
    np.testing.assert_allclose(label, part * soft + (1 - part) * soft[drawn[:, 0]], atol=1e-6)
    nobody = unlabelled((4, 4, 1), images=PIXELS)
    images, rows = epoch(nobody, classes=None)
    assert (len(images), len(rows)) == (1, 1)
    np.testing.assert_array_equal(images[0]["image"], epoch()[0][0]["image"])
    with pytest.raises(ValueError, match="`classes` must be given"):
        Epochs(SPLIT, batch_size=4, seed=0, augmentation="mixup")


def test_stored_views_are_the_pixels_of_the_epochs(tmp_path):
    files = tuple(tmp_path / f"{row}.png" for row in range(COUNT))
    for file, image in zip(files, PIXELS, strict=True):
        file.write_bytes(tf.io.encode_png(image).numpy())
    filed = Split(SPLIT.labels, (4, 4, 1), files=files)
    settings = {"fingerprint": "f", "augmentation": "mixup+mirror", "views": 2, "seed": 3}
    for split in (SPLIT, filed):
        views = cache.SplitViews(split, **settings, batch_size=5)
        seen = np.concatenate([batch.numpy() for batch in views.batches()])
        for view in range(2):
            images = epoch(split, view, augmentation="mirror+mixup", batch_size=7)[0][0]["image"]
            np.testing.assert_array_equal(images, seen[view * COUNT : (view + 1) * COUNT])
    plain = {**settings, "augmentation": "mirror"}
    assert cache.SplitViews(SPLIT, **plain).key != cache.SplitViews(SPLIT, **settings).key
    same = {**settings, "augmentation": "mirror+mixup"}
    assert cache.SplitViews(SPLIT, **same).key == cache.SplitViews(SPLIT, **settings).key


def test_names_joined_by_plus_signs():
    assert parse_augmentation("mixup+shift") == (["shift"], True)
    assert joined("mixup", "shift", "shift+mirror") == "shift+mirror+mixup"
    with pytest.raises(ValueError, match="may be named once"):
        parse_augmentation("shift+shift")
    with pytest.raises(ValueError, match=r"Did you mean 'mixup'\?"):
        parse_augmentation("mirror+mxup")
    # the first of several draws what it draws alone
    image = tf.constant(PIXELS[0])
    both, alone = augmenter("mirror+shift", 0), augmenter("mirror", 0)
    flips = [np.array_equal(alone(image, 0, view), image) for view in range(8)]
    assert len(set(flips)) == 2
    assert len({both(image, 0, view).numpy().tobytes() for view in range(8)}) > 4


def test_a_pipeline_of_ones_own_is_not_mixed_by_attach():
    dataset = tf.data.Dataset.from_tensor_slices(PIXELS)
    teacher = models.build("mlp", input_shape=(4, 4, 1), classes=3, hidden=(2,))
    with pytest.raises(ValueError, match="needs a second image"):
        cache.attach(dataset, teacher, augmentation="mixup", views=2)
