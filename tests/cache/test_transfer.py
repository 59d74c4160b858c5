"""Transfer sets: the same images for the same key, and in the same order."""

import numpy as np
import pytest
import tensorflow as tf

import kd_keras as kd
from kd_keras.cache import Arrays, SplitViews, Stream, pixel_fingerprints
from kd_keras.cache.transfer import ChangedImages, _Seen
from kd_keras.data.pipeline import Epochs
from kd_keras.data.task import Split


def all_of(transfer_set, start=0):
    return np.concatenate([batch.numpy() for batch in transfer_set.batches(start)])


@pytest.fixture
def split(pictures):
    images, labels = pictures
    return Split(labels=labels.astype("int32"), image_shape=(8, 8, 1), images=images)


@pytest.fixture
def filed(split, tmp_path):
    """The same images, in files."""
    paths = []
    for row, image in enumerate(split.images):
        paths.append(tmp_path / f"{row}.png")
        paths[-1].write_bytes(tf.io.encode_png(image).numpy())
    return Split(labels=split.labels, image_shape=(8, 8, 1), files=tuple(paths))


@pytest.mark.parametrize("kind", ["uint8", "int32", "float16", "float32", "float64"])
def test_a_fingerprint_is_that_of_the_bytes_in_a_graph_and_out_of_it(kind):
    images = np.random.default_rng(0).integers(0, 256, (9, 4, 4, 3)).astype(kind)
    eager = pixel_fingerprints(images).numpy()
    assert eager.dtype == np.int64
    assert len(set(eager.tolist())) == 9
    graph = tf.data.Dataset.from_tensor_slices(images).batch(2).map(pixel_fingerprints)
    np.testing.assert_array_equal(np.concatenate(list(graph.as_numpy_iterator())), eager)
    changed = images.copy()
    changed[3, 2, 2, 1] += 1
    assert (pixel_fingerprints(changed).numpy() != eager).tolist() == [r == 3 for r in range(9)]


def test_arrays_are_known_by_their_content(x):
    assert Arrays(x).key == Arrays(x.copy(), batch_size=3).key
    others = [x[::-1], x[:-1], x.astype("float64"), x + np.float32(1e-6), x.reshape(16, 3, 2)]
    assert len({Arrays(x).key, *(Arrays(other).key for other in others)}) == 6


@pytest.mark.parametrize("start", [0, 4, 8, 16])
def test_arrays_can_be_taken_up_anywhere(x, start):
    np.testing.assert_array_equal(np.concatenate([*Arrays(x, 4).batches(start), x[:0]]), x[start:])


@pytest.mark.slow
@pytest.mark.parametrize("augmentation", ["shift", "symmetries"])
@pytest.mark.parametrize("where", ["split", "filed"])
def test_the_views_of_a_split_are_the_pixels_of_its_epochs(where, augmentation, request):
    split = request.getfixturevalue(where)
    views = all_of(
        SplitViews(split, fingerprint="f", augmentation=augmentation, views=3, seed=7, batch_size=8)
    )
    assert views.shape == (90, 8, 8, 1)
    epochs = Epochs(split, batch_size=16, seed=7, augmentation=augmentation)
    for view in range(3):
        epochs.callback.on_epoch_begin(view)
        for batch, _ in epochs.dataset:
            rows = view * 30 + batch["index"].numpy()
            np.testing.assert_array_equal(batch["view"], view)
            np.testing.assert_array_equal(batch["image"], views[rows])
    assert (views[:30] != views[30:60]).any()


@pytest.mark.parametrize("where", ["split", "filed"])
@pytest.mark.parametrize("settings", [{}, {"augmentation": "shift", "views": 2}])
def test_a_split_can_be_taken_up_anywhere(where, settings, request):
    transfer_set = SplitViews(
        request.getfixturevalue(where), fingerprint="f", batch_size=8, **settings
    )
    np.testing.assert_array_equal(all_of(transfer_set, 16), all_of(transfer_set)[16:])
    assert len(all_of(transfer_set)) == transfer_set.count


def test_the_key_of_a_split_holds_all_that_changes_its_pixels(split):
    shifted = {"fingerprint": "f", "augmentation": "shift", "views": 2, "seed": 0}
    same = SplitViews(split, **shifted).key
    assert same == SplitViews(split, **shifted, batch_size=3, name="other").key
    others = [
        {"fingerprint": "g"},
        {"augmentation": "mirror"},
        {"views": 3},
        {"seed": 1},
    ]
    keys = {SplitViews(split, **{**shifted, **other}).key for other in others}
    keys |= {same, SplitViews(split, fingerprint="f").key}
    assert len(keys) == 6
    # without augmentation the seed decides nothing
    assert SplitViews(split, fingerprint="f", seed=4).key in keys


@pytest.mark.parametrize("views", [0, -1, 1.5, True])
def test_views_are_a_positive_whole_number(split, views):
    with pytest.raises(ValueError, match="`views` must be a positive whole number"):
        SplitViews(split, fingerprint="f", augmentation="shift", views=views)


def test_several_views_of_images_that_stay_the_same_are_refused(split):
    with pytest.raises(ValueError, match=r"all views of an image are the same.* views=2"):
        SplitViews(split, fingerprint="f", views=2)


def test_a_stream_is_known_by_its_images_in_any_order(x, slices):
    key = Stream(slices(x).batch(3)).key
    assert key == Stream(slices(x).shuffle(16).batch(16)).key
    others = [x[1:], np.concatenate([x, x[:1]]), x.astype("float64"), x + np.float32(1e-6)]
    assert len({key, *(Stream(slices(other).batch(3)).key for other in others)}) == 5
    assert Stream(slices(x).batch(3)).count == 16


def test_a_stream_with_a_name_is_not_read_for_its_key(x):
    def fail():
        raise AssertionError("it was read")
        yield x

    dataset = tf.data.Dataset.from_generator(
        fail, output_signature=tf.TensorSpec((None, 6), tf.float32)
    )
    stream = Stream(dataset, fingerprint="mine")
    assert stream.key != Stream(dataset, fingerprint="other").key
    assert stream.count is None


def test_a_stream_leaves_out_what_is_stored_and_what_comes_twice(x, slices):
    twice = np.concatenate([x, x[3:5]])
    stream = Stream(slices(twice).shuffle(18, seed=0).batch(4))
    stored = pixel_fingerprints(x[:6]).numpy()
    rest = np.concatenate([batch.pixels[batch.new] for batch in stream.remaining(stored)])
    assert sorted(rest) == sorted(pixel_fingerprints(x[6:]).numpy())
    everything = pixel_fingerprints(x).numpy()
    assert list(stream.remaining(everything)) == []


def test_a_stream_that_changes_is_refused(x, slices):
    noise = tf.random.Generator.from_seed(0)
    noisy = slices(x).map(lambda image: image + noise.normal([6])).batch(4)
    stream = Stream(noisy)
    assert stream.key
    with pytest.raises(ChangedImages, match=r"augments at random.*cache.attach\(augmentation="):
        list(stream.remaining(np.zeros(0, np.int64)))


def test_a_stream_without_end_is_refused(x, slices):
    with pytest.raises(ValueError, match=r"repeats forever.* Attach first"):
        Stream(slices(x).repeat().batch(4))


def test_seen_is_a_set():
    rng, seen, known = np.random.default_rng(0), _Seen(np.arange(5)), {0, 1, 2, 3, 4}
    for size in (3, 50, 1, 7, 200, 20, 20):
        numbers = rng.integers(0, 150, size)
        fresh = [n not in known and n not in numbers[:i] for i, n in enumerate(numbers)]
        np.testing.assert_array_equal(seen.first_time(numbers), fresh)
        known |= set(numbers.tolist())
    assert sum(map(len, seen._runs)) == len(known)


def test_an_empty_transfer_set_has_no_first_image():
    with pytest.raises(ValueError, match="holds no image"):
        kd.cache.Arrays(np.zeros((0, 6), "float32")).first(4)
