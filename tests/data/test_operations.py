"""What augmentation does to pixels, held to float64 and to Pillow."""

import by_numpy
import keras
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image, ImageEnhance, ImageOps

from kd_keras.data.augmentation import AUGMENTATIONS, augmenter, change_of, key_of
from kd_keras.data.operations import colours, draws, exact, geometry, policies, stains

COLOUR = np.random.default_rng(1).integers(0, 256, (9, 8, 3)).astype("uint8")
# soft, as pictures are: neighbours alike, not all values there
SOFT = (40 + 12 * np.mgrid[:9, :8].sum(0)[..., None] // 2 + COLOUR // 8).astype("uint8")
GREY = COLOUR[..., :1]
# enough pixels for `equalize` to do something
LARGE = np.random.default_rng(2).integers(0, 256, (20, 18, 3)).astype("uint8")


def views(name, image, count, seed=0):
    """The augmentations of `count` views of one example."""
    augment = augmenter(name, seed)
    seen = tf.data.Dataset.range(count).map(lambda view: augment(tf.constant(image), 3, view))
    return list(seen.as_numpy_iterator())


def raw_bits(view, count, seed=0):
    """The bits of the first augmentation of a view, as Python integers."""
    key = key_of(seed, 0, 3, view)
    return [int(one) for one in tf.random.stateless_uniform([count], key, None, None, tf.uint32)]


def below(one, count):
    return one * count >> 32


def distinct(images):
    return {image.tobytes() for image in images}


def on_values(function, image, factor):
    values = function(colours.planes(tf.constant(image)), tf.constant(factor, tf.float32))
    np.testing.assert_array_equal(values, np.round(values))
    return colours.image_of(values).numpy()


# --- draws and rounding ---


def test_whole_numbers_are_drawn_evenly_and_reach_both_ends():
    numbers = tf.data.Dataset.range(1500)
    rows = numbers.map(lambda n: tf.stack(draws.integers(key_of(0, 0, n, 0), 6, 1, 3)))
    drawn = np.array(list(rows.as_numpy_iterator())).T
    counts = np.bincount(drawn[0], minlength=6)
    # binomial(1500, 1/6): mean 250, standard deviation 14
    assert len(counts) == 6
    assert abs(counts - 250).max() < 70
    assert set(drawn[1]) == {0}
    assert set(drawn[2]) == {0, 1, 2}
    assert abs(np.corrcoef(drawn[0], drawn[2])[0, 1]) < 0.1


def test_halves_are_rounded_up_and_what_lies_outside_is_clipped():
    values = tf.constant([-3.0, 0.49, 0.5, 1.5, 254.5, 255.4, 999.0])
    for function in (exact.pixels, exact.whole):
        np.testing.assert_array_equal(function(values), [0, 0, 1, 2, 255, 255, 255])


# --- geometry ---


@pytest.mark.parametrize("outside", ["reflect", "nearest", "constant"])
@pytest.mark.parametrize("image", [COLOUR, GREY], ids=["colour", "grey"])
def test_resampling_is_bilinear_to_the_last_bit(image, outside):
    rng = np.random.default_rng(2)
    for _ in range(20):
        rows = rng.normal(0, 1, (2, 3)) * [1, 1, 9]
        transform = geometry.exactly([*rows.ravel(), 0, 0])
        got = geometry.moved(tf.constant(image), transform, outside)
        np.testing.assert_array_equal(got, by_numpy.moved(image, transform, outside))


def test_crops_are_all_those_of_the_padded_picture():
    padded = np.pad(COLOUR, [(2, 2), (2, 2), (0, 0)])
    wanted = [padded[y : y + 9, x : x + 8] for y in range(5) for x in range(5)]
    # 0.25 of 9 and of 8 pixels is 2
    assert distinct(views("crop=0.25", COLOUR, 400)) == distinct(wanted)


def test_cutout_fills_a_rectangle_around_any_pixel():
    wanted = []
    for y in range(9):
        for x in range(8):
            image = COLOUR.copy()
            # 0.4 of 9 pixels are 4, of 8 are 3
            image[max(0, y - 2) : y + 2, max(0, x - 1) : x + 2] = 0
            wanted.append(image)
    assert distinct(views("cutout=0.4", COLOUR, 1200)) == distinct(wanted)


def test_flips_are_as_frequent_as_asked():
    for share in (0.0, 0.25, 1.0):
        images = views(f"flip={share}", COLOUR, 200)
        assert distinct(images) <= distinct([COLOUR, COLOUR[:, ::-1]])
        flipped = sum(np.array_equal(image, COLOUR[:, ::-1]) for image in images)
        # binomial(200, 1/4): mean 50, standard deviation 6.1
        assert abs(flipped - 200 * share) < (25 if 0 < share < 1 else 1)
    np.testing.assert_array_equal(views("flip", COLOUR, 30), views("mirror", COLOUR, 30))


def test_turns_are_those_of_numpy_and_reach_both_sides():
    angles = 40 * np.arange(-512, 513) / 512
    wanted = {by_numpy.turned(COLOUR, angle, "reflect").tobytes(): angle for angle in angles}
    found = np.array([wanted[image.tobytes()] for image in views("rotate=40", COLOUR, 300)])
    assert found.min() < -36
    assert found.max() > 36
    assert abs(found.mean()) < 5  # uniform: standard deviation 23, of the mean 1.3


def test_a_turn_is_that_of_keras():
    """Up to the cosine, which is rounded to a 256th here."""
    big = np.asarray(tf.image.resize(SOFT, (32, 32)), "uint8")
    layer = keras.layers.RandomRotation((0.1, 0.1), data_format="channels_last")
    wanted = layer(tf.constant(big[None], tf.float32), training=True)[0].numpy()
    for degrees in (36, -36):
        row = geometry.exactly(geometry.turned(degrees, 32, 32))
        got = geometry.moved(tf.constant(big), row, "reflect").numpy().astype("float64")
        if degrees > 0:
            assert abs(got - wanted).max() < 4
        else:
            assert abs(got - wanted).max() > 20


def test_boxes_are_those_that_are_drawn_and_resampled():
    boxes = geometry.boxes_of(0.7, 1.5)
    for view, got in enumerate(views("resizedcrop=0.7x1.5", COLOUR, 60)):
        which, down, right = raw_bits(view, 3)
        tall, wide = (int(side) for side in boxes[below(which, len(boxes))])
        top = (below(down, (256 - tall) * 9 + 1) + (tall - 256) // 2) / 256
        left = (below(right, (256 - wide) * 8 + 1) + (wide - 256) // 2) / 256
        row = [wide / 256, 0, left, 0, tall / 256, top]
        np.testing.assert_array_equal(got, by_numpy.moved(COLOUR, row, "nearest"))


def test_boxes_have_the_areas_and_ratios_asked_for():
    boxes = geometry.boxes_of(0.92, 4 / 3) / 256
    areas, ratios = boxes.prod(1), boxes[:, 1] / boxes[:, 0]
    assert boxes.max() == 1
    assert abs(areas.min() - 0.08) < 0.005
    assert areas.max() == 1
    assert abs(ratios.min() - 3 / 4) < 0.02
    assert abs(ratios.max() - 4 / 3) < 0.02
    small = areas < 0.7  # where every ratio fits, areas and ratios are uniform
    assert abs(areas[small].mean() - 0.39) < 0.01
    assert abs(np.log(ratios[small]).mean()) < 0.01


# --- colours ---


@pytest.mark.parametrize("image", [COLOUR, SOFT, GREY], ids=["noise", "soft", "grey"])
@pytest.mark.parametrize("name", ["brightness", "contrast", "saturation", "sharpness"])
def test_an_enhancement_is_a_blend(name, image):
    for factor in (0.0, 0.3125, 1.0, 1.3984375, 2.0):
        got = on_values(getattr(colours, name), image, factor)
        np.testing.assert_array_equal(got, getattr(by_numpy, name)(image, factor))
    np.testing.assert_array_equal(on_values(getattr(colours, name), image, 1.0), image)


@pytest.mark.parametrize(
    ("name", "pillow"),
    [
        ("brightness", "Brightness"),
        ("contrast", "Contrast"),
        ("saturation", "Color"),
        ("sharpness", "Sharpness"),
    ],
)
def test_an_enhancement_is_that_of_pillow_which_cuts_off_where_we_round(name, pillow):
    for factor in (0.25, 0.75, 1.5):
        wanted = np.asarray(getattr(ImageEnhance, pillow)(Image.fromarray(SOFT)).enhance(factor))
        got = on_values(getattr(colours, name), SOFT, factor)
        assert abs(got - wanted.astype("float64")).max() <= 1


def test_tiny_pictures_have_nothing_to_sharpen():
    np.testing.assert_array_equal(on_values(colours.sharpness, COLOUR[:2], 2.0), COLOUR[:2])


def test_color_is_the_three_in_turn():
    for view, got in enumerate(views("color=0.4", COLOUR, 40)):
        factors = [(256 - 102 + below(one, 205)) / 256 for one in raw_bits(view, 3)]
        wanted = by_numpy.brightness(COLOUR, factors[0])
        wanted = by_numpy.contrast(wanted, factors[1])
        np.testing.assert_array_equal(got, by_numpy.saturation(wanted, factors[2]))
        assert all(0.6 <= factor <= 1.4 for factor in factors)


@pytest.mark.parametrize("image", [COLOUR, SOFT, GREY, COLOUR * 0 + 7], ids=list("abcd"))
def test_changes_of_values_are_those_of_pillow(image):
    for bits in range(1, 9):
        wanted = by_numpy.by_pillow(image, ImageOps.posterize, bits)
        np.testing.assert_array_equal(colours.posterize(tf.constant(image), bits), wanted)
    for threshold in (0, 1, 100, 255, 256):
        wanted = by_numpy.by_pillow(image, ImageOps.solarize, threshold)
        np.testing.assert_array_equal(colours.solarize(tf.constant(image), threshold), wanted)
    wanted = by_numpy.by_pillow(image, ImageOps.equalize)
    np.testing.assert_array_equal(colours.equalize(tf.constant(image)), wanted)
    got = colours.autocontrast(tf.constant(image)).numpy()
    np.testing.assert_array_equal(got, by_numpy.autocontrast(image))
    cut_off = by_numpy.by_pillow(image, ImageOps.autocontrast).astype("float64")
    assert abs(got - cut_off).max() <= 1


def test_a_large_picture_is_equalized_as_by_pillow():
    """Many pixels of each value, as 72 pixels do not have."""
    image = (np.random.default_rng(4).normal(90, 20, (64, 64, 3))).clip(0, 255).astype("uint8")
    wanted = by_numpy.by_pillow(image, ImageOps.equalize)
    np.testing.assert_array_equal(colours.equalize(tf.constant(image)), wanted)
    assert wanted.std() > 60


# --- stains ---


def test_stains_are_those_of_ruifrok_and_johnston_to_one_grey_level():
    rng = np.random.default_rng(5)
    every = np.stack(np.meshgrid(*[np.linspace(0, 255, 12)] * 3), -1).reshape(36, 48, 3)
    tissue = np.concatenate([every, rng.integers(120, 256, (12, 48, 3))]).astype("uint8")
    moved = []
    for view, got in enumerate(views("stain=0.2", tissue, 20)):
        jitter = np.array([below(one, 2 * 819 + 1) - 819 for one in raw_bits(view, 6)]) / 4096
        wanted = by_numpy.stained(tissue, 1 + jitter[:3], jitter[3:])
        assert abs(got.astype(int) - wanted).max() <= 1
        assert (got == wanted).mean() > 0.9
        moved.append(abs(got.astype(int) - tissue).mean())
    assert np.mean(moved) > 5


def test_the_way_into_densities_and_back_loses_nothing():
    densities, values = stains.tables()
    np.testing.assert_array_equal(values[densities], np.arange(256))
    assert densities[0] == round(np.log10(256) * stains.UNIT)
    assert (np.diff(values.astype(int)) <= 0).all()


# --- policies ---


def told(found, results):
    """How often each of the fourteen was done; every image must be the result of one."""
    names = {}
    for name, images in results.items():
        for image in images:
            names.setdefault(image.tobytes(), name)
    counts = dict.fromkeys(results, 0)
    for image in found:
        counts[names[image.tobytes()]] += 1
    return counts


@pytest.mark.parametrize("image", [LARGE, LARGE[..., :1]], ids=["colour", "grey"])
def test_randaugment_does_each_of_the_fourteen_as_often(image):
    slides = [int(side * 150 / 331 + 0.5) for side in image.shape[:2]]
    space = {"shear": 0.3, "slides": slides, "turn": 30, "factor": 0.9, "bits": 4}
    results = by_numpy.fourteen(image, 0.9, **space)
    counts = told(views("randaugment=1x9", image, 1400), results)
    if image.shape[-1] == 1:  # without saturation, `color` is `identity`
        assert 145 < counts.pop("color") + counts.pop("identity") < 255
    # binomial(1400, 1/14): mean 100, standard deviation 9.6
    assert all(60 < count < 145 for count in counts.values()), counts


def test_several_operations_are_done_one_after_the_other():
    twice, once = change_of("randaugment=2x7"), change_of("randaugment=1x7")
    space = {"shear": 0.3, "slides": [4, 4], "turn": 30, "factor": 0.9, "bits": 4}
    for number in range(30):
        key = tf.constant([number, 1])
        first = once(tf.constant(COLOUR), key).numpy()
        wanted = by_numpy.fourteen(first, 0.7, **space)
        got = twice(tf.constant(COLOUR), key).numpy()
        assert got.tobytes() in distinct(image for both in wanted.values() for image in both)


def test_the_words_of_a_list_do_not_draw_from_one_another():
    """A second operation that shared its key with the next word would decide what it does."""
    second = [f"randaugment=2x9+{word}" for word in ("flip", "cutout=0.4")]
    fold = tf.random.experimental.stateless_fold_in
    for name in second:
        whole, word = change_of(name), change_of(name.partition("+")[2])
        policy = change_of("randaugment=2x9")
        for number in range(4):
            key = tf.constant([number, 2])
            wanted = word(policy(tf.constant(COLOUR), key), fold(key, 1))
            np.testing.assert_array_equal(whole(tf.constant(COLOUR), key), wanted)
    assert len(AUGMENTATIONS) < policies.FIRST_KEY


def test_trivialaugment_does_one_of_the_fourteen_at_one_of_31_strengths():
    space = {"shear": 0.99, "slides": [9, 8], "turn": 135, "factor": 0.99, "bits": 6}
    results: dict = {}
    for level in range(31):
        for name, images in by_numpy.fourteen(COLOUR, level / 30, **space).items():
            results.setdefault(name, []).extend(images)
    found = views("trivialaugment", COLOUR, 1400)
    everything = distinct(image for images in results.values() for image in images)
    assert distinct(found) <= everything
    # what does something does it at many strengths
    for name in ("rotate", "shear-x", "brightness", "contrast", "color", "sharpness"):
        seen = distinct(found) & distinct(results[name])
        assert len(seen) > 20, name
