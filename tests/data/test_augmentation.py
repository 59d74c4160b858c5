"""Augmentations: pure in (seed, index, view), and right in their geometry."""

import hashlib
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

import kd_keras as kd
from kd_keras import cache
from kd_keras.data import task as tasks
from kd_keras.data.augmentation import (
    AUGMENTATIONS,
    BYTES,
    augmenter,
    change_of,
    check_images,
    joined,
    parse_augmentation,
    steps_of,
)
from kd_keras.data.mixing import viewer
from kd_keras.data.pipeline import Epochs

SQUARE = np.arange(1, 26, dtype="uint8").reshape(5, 5, 1)
REAL = list(AUGMENTATIONS)
STRONG = [name for name, one in AUGMENTATIONS.items() if one.strengths]
# 251 is prime: no two neighbours are alike
MANY = ((np.arange(30 * 7 * 7 * 3) * 7919) % 251).astype("uint8").reshape(30, 7, 7, 3)
# enough pixels for all that a policy does
SOME = ((np.arange(20 * 24 * 18 * 3) ** 2) % 251).astype("uint8").reshape(20, 24, 18, 3)


def many(name, image=SQUARE, count=200, seed=0):
    """The augmentations of `count` views of one example."""
    augment = augmenter(name, seed)
    views = tf.data.Dataset.range(count).map(lambda view: augment(tf.constant(image), 3, view))
    return np.stack(list(views.as_numpy_iterator()))


def distinct(images):
    return {image.tobytes() for image in images}


@pytest.mark.parametrize("name", REAL)
def test_the_same_three_numbers_give_the_same_pixels_and_others_differ(name):
    image = tf.constant(np.random.default_rng(0).integers(0, 256, (6, 6, 3)).astype("uint8"))

    def pixels(seed, index, view):
        return augmenter(name, seed)(image, index, view).numpy()

    np.testing.assert_array_equal(pixels(1, 7, 2), pixels(1, 7, 2))
    in_graph = tf.function(augmenter(name, 1))(image, tf.constant(7), tf.constant(2, tf.int64))
    np.testing.assert_array_equal(in_graph, pixels(1, 7, 2))
    for sweep in (
        [(seed, 0, 0) for seed in range(12)],
        [(0, index, 0) for index in range(12)],
        [(0, 0, view) for view in range(12)],
    ):
        assert len(distinct(pixels(*numbers) for numbers in sweep)) >= 2
    # an index and a view are not interchangeable
    assert any((pixels(0, a, b) != pixels(0, b, a)).any() for a in range(4) for b in range(a))


@pytest.mark.parametrize("name", REAL)
def test_type_and_shape_are_kept(name):
    for dtype in ("uint8", "float32"):
        image = tf.constant(np.ones((4, 4, 3), dtype))
        if dtype == "float32" and BYTES in AUGMENTATIONS[name].needs:
            with pytest.raises(ValueError, match=f"`{name}` needs pixels of 8 bits.*float32"):
                augmenter(name, 0)(image, 0, 0)
            continue
        got = augmenter(name, 0)(image, 0, 0)
        assert got.dtype == dtype
        assert got.shape == (4, 4, 3)


def test_shift_moves_by_up_to_two_and_zeros_come_in():
    wanted = set()
    for down in range(-2, 3):
        for right in range(-2, 3):
            moved = np.zeros_like(SQUARE)
            to_y, to_x = (slice(max(0, d), 5 + min(0, d)) for d in (down, right))
            from_y, from_x = (slice(max(0, -d), 5 + min(0, -d)) for d in (down, right))
            moved[to_y, to_x] = SQUARE[from_y, from_x]
            wanted.add(moved.tobytes())
    assert len(wanted) == 25
    assert distinct(many("shift", count=400)) == wanted


def test_symmetries_are_the_eight_of_the_square_each_as_likely():
    turned = [np.rot90(x, k) for x in (SQUARE, SQUARE[:, ::-1]) for k in range(4)]
    images = many("symmetries", count=800)
    assert distinct(images) == distinct(turned)
    counts = [sum(np.array_equal(image, want) for image in images) for want in turned]
    # binomial(800, 1/8): mean 100, standard deviation 9.4
    assert min(counts) > 60
    assert max(counts) < 140


def test_symmetries_refuse_images_that_are_not_square():
    with pytest.raises(ValueError, match=r"`symmetries` needs square images.*\(5, 4, 1\)"):
        augmenter("symmetries", 0)(tf.zeros((5, 4, 1)), 0, 0)


def test_mirror_exchanges_left_and_right_or_does_nothing():
    tall = SQUARE[:, :3]
    images = many("mirror", tall)
    assert distinct(images) == distinct([tall, tall[:, ::-1]])
    assert 60 < sum(np.array_equal(image, tall) for image in images) < 140


def test_none_is_no_function_and_an_unknown_name_is_refused():
    assert augmenter("none", 0) is None
    with pytest.raises(ValueError, match=r"Unknown augmentation 'shfit'\. Did you mean 'shift'"):
        augmenter("shfit", 0)


# --- digests ---


def digest(name, images):
    """Three views of all pictures, as a digest of their pixels."""
    count = len(images)
    look = viewer(name, 3, lambda index: tf.gather(images, index), count)
    rows = tf.data.Dataset.range(3 * count).map(lambda n: look(n % count, n // count))
    return hashlib.sha256(np.stack(list(rows.as_numpy_iterator())).tobytes()).hexdigest()[:16]


@pytest.mark.parametrize(
    ("name", "pixels"),
    [
        ("shift", "f400d39a2ecf2a1c"),
        ("mirror", "d921f4973f67263c"),
        ("symmetries", "8b600cc7fe70df02"),
        ("shift+mirror", "85fcf888ff01575f"),
        ("mirror+symmetries+shift", "251a8a983bf46d2f"),
        ("mixup", "48dfd165ff459424"),
        ("shift+mirror+mixup", "b27c0b639eefa656"),
    ],
)
def test_words_without_strengths_give_the_pixels_that_they_always_gave(name, pixels):
    """Digests by the code before there were strengths: teachers have been run on these pixels."""
    assert digest(name, MANY) == pixels


@pytest.mark.parametrize(
    ("name", "pixels"),
    [
        ("crop=0.125", "f650c3a8d84defe7"),
        ("crop=0.3", "33b70aa5a917ae69"),
        ("resizedcrop", "621c044cbbe2bca3"),
        ("flip", "63b808fb9c91ffda"),
        ("rotate", "451926cfa2391891"),
        ("rotate=180", "3d071dbb8552702f"),
        ("color", "f7a60888fa28249d"),
        ("stain", "fc702e4a8a0da3ca"),
        ("stain=0.5", "ebd70c9175fb098c"),
        ("cutout", "9ef46c4543b892bd"),
        ("randaugment", "88a436ba7d1958a2"),
        ("randaugment=1x4.5", "5b977bb8f80883ef"),
        ("trivialaugment", "6a8715d44db7d33c"),
        ("crop=0.3+flip+color=0.4+cutout=0.25+mixup", "27b2038d1990bfcf"),
    ],
)
def test_the_pixels_are_the_same_on_every_machine(name, pixels):
    """Predictions are stored on one machine and used on another, and years later."""
    assert digest(name, SOME) == pixels


# --- lists, strengths and ranges ---


def test_a_list_names_strengths_and_a_name_alone_takes_its_default():
    words = "crop+resizedcrop=0.5+flip+rotate=7.5+randaugment=3x4.5+trivialaugment+mixup"
    assert parse_augmentation(words) == (
        ["crop=0.125", "resizedcrop=0.5x1.333", "flip=0.5", "rotate=7.5", "randaugment=3x4.5",
         "trivialaugment"], True,
    )  # fmt: skip
    assert joined(words) == joined(joined(words))
    assert joined("flip+mixup", "crop=0.125", "flip=0.5") == "flip=0.5+crop=0.125+mixup"
    with pytest.raises(ValueError, match="may be named once"):
        joined("flip", "flip=0.25")
    # no digit of a strength is lost
    assert steps_of(joined("crop=0.12345678901234567"))[0][0].strengths == (0.12345678901234567,)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("crop=0.6", r"The share of augmentation 'crop' must be a number from 0 to 0\.5"),
        ("crop=0.6", r"Received: '0\.6'"),
        ("flip=-1", "'flip' must be a number from 0 to 1"),
        ("rotate=nan", "'rotate' must be a number from 0 to 180. Received: 'nan'"),
        ("color=much", "Received: 'much'"),
        ("cutout=", "Received: ''"),
        ("randaugment=2.5x9", "operations of augmentation 'randaugment' must be a whole number"),
        ("randaugment=2x11", "The magnitude of augmentation 'randaugment'"),
        ("randaugment=2x9x1", "'randaugment' takes operations x magnitude"),
        ("mirror=0.5", "'mirror' takes no strength. Received: 'mirror=0.5'"),
        ("mixup=0.2", "'mixup' takes no strength"),
        ("flip+flip=0.25", "may be named once"),
        ("randaugmnt=2x9", r"Did you mean 'randaugment'\?"),
        ("colour=0.4", r"Did you mean 'color'\?"),
    ],
)  # fmt: skip
def test_a_list_with_a_fault_is_one_sentence(name, said):
    with pytest.raises(ValueError, match=said) as caught:
        parse_augmentation(name)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", STRONG)
def test_a_strength_of_zero_changes_nothing_and_the_ends_of_the_range_do_something(name):
    image = tf.constant(MANY[0])
    kinds = AUGMENTATIONS[name].strengths
    nothing, most = (
        change_of(f"{name}={'x'.join(map(str, values))}")
        for values in ([0, *(one.high for one in kinds[1:])], [one.high for one in kinds])
    )
    changed = 0
    for number in range(6):
        key = tf.constant([number, 5])
        np.testing.assert_array_equal(nothing(image, key), image)
        changed += bool((most(image, key) != image).numpy().any())
    assert changed >= 3


@pytest.mark.parametrize(
    ("name", "shape", "said"),
    [
        ("stain", (8, 8, 1), "`stain` needs colour images, of three channels: leave it out"),
        ("flip+color=0.2", (8, 8, 1), r"`color` needs colour images.*\(8, 8, 1\)"),
        ("randaugment", (8, 8, 4), "`randaugment` needs images of one or three channels"),
        ("symmetries", (8, 6, 3), "`symmetries` needs square images"),
    ],
)
def test_images_that_an_augmentation_is_not_made_for_are_refused_at_once(name, shape, said):
    split = tasks.Split(np.zeros(2, "int32"), shape, images=np.zeros((2, *shape), "uint8"))
    for use in (
        lambda: check_images(name, shape),
        lambda: Epochs(split, batch_size=2, seed=0, augmentation=name),
        lambda: cache.SplitViews(split, fingerprint="f", augmentation=name),
    ):
        with pytest.raises(ValueError, match=said):
            use()
    check_images("crop+flip+rotate+cutout+randaugment+trivialaugment+resizedcrop", (8, 6, 1))


# --- the same pixels everywhere ---


@pytest.mark.parametrize(
    "name",
    [
        "crop+resizedcrop=0.5+flip+rotate+color+stain+cutout+mixup",
        "randaugment=1x9+trivialaugment",
    ],
)
def test_a_view_is_the_same_in_any_batch_order_from_memory_and_from_files(name, tmp_path):
    files = tuple(tmp_path / f"{row}.png" for row in range(len(MANY)))
    for file, image in zip(files, MANY, strict=True):
        file.write_bytes(tf.io.encode_png(image).numpy())
    labels = np.arange(len(MANY), dtype="int32") % 3
    memory = tasks.Split(labels, (7, 7, 3), images=MANY)
    filed = tasks.Split(labels, (7, 7, 3), files=files)
    settings = {"augmentation": name, "augmentation_seed": 3, "classes": 3}

    def seen(split, batch_size, seed):
        epochs = Epochs(split, batch_size=batch_size, seed=seed, **settings)
        batches = epochs.endless(1).take(epochs.steps)
        found = [batch[0] for batch in batches.as_numpy_iterator()]
        images, order = (np.concatenate([x[key] for x in found]) for key in ("image", "index"))
        return images[np.argsort(order)]

    wanted = seen(memory, 30, 0)
    np.testing.assert_array_equal(seen(filed, 4, 2), wanted)
    views = cache.SplitViews(
        memory, fingerprint="f", augmentation=name, views=2, seed=3, batch_size=11
    )
    stored = np.concatenate([batch.numpy() for batch in views.batches()])
    np.testing.assert_array_equal(stored[30:], wanted)
    assert (stored[:30] != wanted).any(axis=(1, 2, 3)).mean() > 0.9
    look = viewer(name, 3, lambda index: tf.gather(MANY, index), len(MANY))
    for index in (0, 17):
        alone = look(tf.constant(index), tf.constant(1))
        np.testing.assert_array_equal(alone, wanted[index])


def test_attach_takes_a_list_with_strengths():
    dataset = tf.data.Dataset.from_tensor_slices((MANY, np.arange(30) % 3))
    teacher = kd.models.build("mlp", input_shape=(7, 7, 3), classes=3, hidden=(4,))
    attached = cache.attach(dataset, teacher, augmentation="crop=0.3+flip+color=0.2", views=2)
    batch, _ = next(iter(attached.batch(60)))
    np.testing.assert_allclose(
        batch["teacher"]["logits"], teacher(batch["image"]), rtol=1e-5, atol=1e-5
    )
    assert (batch["image"][:30].numpy() != batch["image"][30:].numpy()).any(axis=(1, 2, 3)).all()


def test_the_page_has_a_row_for_each_with_its_strengths():
    page = (Path(__file__).parents[2] / "docs/data.md").read_text()
    for name, one in AUGMENTATIONS.items():
        (row,) = (line for line in page.splitlines() if line.startswith(f"| `{name}` |"))
        for strength in one.strengths:
            assert strength.name in row
            assert str(strength) in row
        assert one.source in row
