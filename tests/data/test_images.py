"""Checking, decoding and holding image files."""

import os

import numpy as np
import pytest
import tensorflow as tf
from faults import check_files
from PIL import Image

from kd_keras.data import images, looking
from kd_keras.data.pipeline import in_order
from kd_keras.data.task import Split


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def draw(path, pixels, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, **options)
    return path


def split_of(files, shape):
    return Split(labels=np.zeros(len(files), np.int32), image_shape=shape, files=tuple(files))


# --- check_files ---


def test_sound_files_have_no_fault(tmp_path, rng):
    pixels = rng.integers(0, 256, (6, 9, 3), np.uint8)
    files = [draw(tmp_path / f"a.{end}", pixels) for end in ("png", "jpg", "bmp", "gif")]
    assert check_files(enumerate(files), shape=(6, 9)) == []


@pytest.mark.parametrize("end", ["png", "jpg", "bmp", "gif"])
def test_a_file_cut_short_is_found(tmp_path, rng, end):
    path = draw(tmp_path / f"a.{end}", rng.integers(0, 256, (40, 40, 3), np.uint8))
    path.write_bytes(path.read_bytes()[:-200])
    (fault,) = check_files([(7, path)])
    assert fault.startswith(f"row 7: {path}: the image cannot be read")


def test_a_png_without_its_last_chunk_or_with_a_wrong_check_sum_is_found(tmp_path, rng):
    path = draw(tmp_path / "a.png", rng.integers(0, 256, (8, 8, 3), np.uint8))
    whole = path.read_bytes()
    for broken in (whole[:-12], whole[:-20] + b"\0" + whole[-19:]):
        path.write_bytes(broken)
        assert len(check_files([(1, path)])) == 1


def test_each_fault_names_row_and_file_in_order(tmp_path, rng):
    absent, text, empty = (tmp_path / name for name in ("absent.png", "text.png", "empty.png"))
    text.write_text("not an image")
    empty.touch()
    wide = draw(tmp_path / "wide.png", rng.integers(0, 256, (6, 9, 3), np.uint8))
    rows = list(zip((2, 5, 6, 9), (absent, text, empty, wide), strict=True))
    faults = check_files([*rows, (None, tmp_path)], shape=(6, 6))
    kinds = ("missing", "not an image", "not an image", "is 6x9, expected 6x6")
    assert len(faults) == 5
    for (row, path), fault, kind in zip(rows, faults, kinds, strict=False):
        assert fault.startswith(f"row {row}: {path}: ")
        assert kind in fault
    assert faults[-1] == f"{tmp_path}: the image cannot be read (Is a directory)"


# --- refuse ---


def test_refuse_counts_all_and_lists_ten():
    with pytest.raises(ValueError, match=r"^12 faults in here\n") as error:
        images.refuse("here", [f"fault {i}" for i in range(12)])
    lines = str(error.value).splitlines()
    assert [line.strip() for line in lines[1:]] == [
        *(f"fault {i}" for i in range(10)),
        "... and 2 more",
    ]


def test_refuse_is_silent_without_faults_and_counts_one():
    images.refuse("here", [])
    with pytest.raises(ValueError, match=r"^1 fault in here\n  it$"):
        images.refuse("here", ["it"])


# --- arguments ---


@pytest.mark.parametrize("size", [0, -3, 2.5, "96", True])
def test_whole_size_refuses(size):
    with pytest.raises(ValueError, match="image_size"):
        images.whole_size(size)


@pytest.mark.parametrize("share", [0.0, 1.0, 1, -0.1, "0.1", float("nan")])
def test_proper_share_refuses(share):
    with pytest.raises(ValueError, match="validation_share"):
        images.proper_share(share)


# --- decode ---


@pytest.mark.parametrize(
    ("mode", "end", "channels"),
    [("L", "png", 3), ("RGB", "png", 1), ("RGB", "jpg", 3), ("L", "bmp", 1), ("RGB", "gif", 3)],
)
def test_decode_agrees_with_pillow(tmp_path, mode, end, channels):
    column, row = np.meshgrid(np.arange(24), np.arange(16))
    pixels = np.stack([column * 10, row * 15, 128 + 0 * row], -1).astype(np.uint8)
    path = tmp_path / f"a.{end}"
    Image.fromarray(pixels).convert(mode).save(path)
    got = images.decode(str(path), (16, 24, channels)).numpy()
    with Image.open(path) as image:
        want = np.asarray(image.convert("RGB").convert("L" if channels == 1 else "RGB"))
    assert got.dtype == np.uint8
    # of grey levels, TensorFlow rounds otherwise than Pillow
    tolerance = 1 if channels == 1 else 0
    np.testing.assert_allclose(
        got.astype(int), want.reshape(16, 24, channels).astype(int), atol=tolerance
    )


def test_decode_of_a_grey_png_is_exact(tmp_path):
    ramp = np.arange(256, dtype=np.uint8).reshape(16, 16)
    path = draw(tmp_path / "a.png", ramp)
    np.testing.assert_array_equal(images.decode(str(path), (16, 16, 1))[..., 0], ramp)
    np.testing.assert_array_equal(images.decode(str(path), (16, 16, 3))[..., 2], ramp)


def test_decode_takes_the_first_frame(tmp_path):
    black, white = (Image.new("RGB", (4, 4), colour) for colour in ("black", "white"))
    black.save(tmp_path / "a.gif", save_all=True, append_images=[white])
    assert images.decode(str(tmp_path / "a.gif"), (4, 4, 3)).numpy().max() == 0


def test_decode_resizes_with_antialiasing_to_a_static_shape(tmp_path):
    checker = (np.indices((32, 32)).sum(0) % 2 * 255).astype(np.uint8)
    path = draw(tmp_path / "a.png", np.stack([checker] * 3, -1))
    data = tf.data.Dataset.from_tensors(str(path)).map(lambda p: images.decode(p, (8, 8, 3)))
    assert data.element_spec.shape == (8, 8, 3)
    assert data.element_spec.dtype == tf.uint8
    (small,) = data.as_numpy_iterator()
    # without antialiasing single squares would show, 0 or 255
    np.testing.assert_allclose(small[1:-1, 1:-1].astype(int), 127, atol=8)


def test_decode_of_a_flat_image_keeps_its_colour_when_resized(tmp_path):
    path = draw(tmp_path / "a.png", np.full((7, 5, 3), (255, 0, 128), np.uint8))
    got = images.decode(str(path), (12, 3, 3)).numpy()
    np.testing.assert_array_equal(got, np.full((12, 3, 3), (255, 0, 128)))


@pytest.mark.parametrize("shape", [(8, 6, 3), (8, 6, 1), (20, 31, 3)])
def test_a_batch_is_decoded_to_the_pixels_of_its_files_one_by_one(tmp_path, rng, shape):
    files = [tmp_path / f"{number}.{'png' if number % 2 else 'jpg'}" for number in range(7)]
    for file in files:
        draw(file, rng.integers(0, 256, (20, 31, 3), np.uint8))
    paths = images.paths(files)
    data = tf.data.Dataset.from_tensor_slices(paths).batch(4)
    batches = data.map(lambda some: images.decode(some, shape))
    assert batches.element_spec.shape == (None, *shape)
    got = np.concatenate(list(batches.as_numpy_iterator()))
    np.testing.assert_array_equal(got, images.read_all(files, shape))
    np.testing.assert_array_equal(got, [images.decode(path, shape) for path in paths])
    np.testing.assert_array_equal(got[:2], images.decode(paths[:2], shape))
    files[5].write_text("no image")
    with pytest.raises(tf.errors.InvalidArgumentError, match=r"5\.png: not an image"):
        list(batches)


# --- read_all, in_memory ---


def test_read_all_keeps_the_order(tmp_path):
    files = [draw(tmp_path / f"{i}.png", np.full((4, 4, 3), i, np.uint8)) for i in range(40)]
    got = images.read_all(files[::-1], (4, 4, 3))
    assert got.shape == (40, 4, 4, 3)
    assert got.dtype == np.uint8
    np.testing.assert_array_equal(got[:, 0, 0, 0], np.arange(40)[::-1])
    assert images.read_all([], (4, 4, 3)).shape == (0, 4, 4, 3)


def test_read_all_names_the_files_that_fail(tmp_path):
    good = draw(tmp_path / "good.png", np.zeros((4, 4, 3), np.uint8))
    bad = tmp_path / "bad.png"
    bad.write_text("not an image")
    with pytest.raises(ValueError, match="2 faults in the image files") as error:
        images.read_all([good, bad, tmp_path / "absent.png"], (4, 4, 3))
    assert str(bad) in str(error.value)
    assert "absent.png: the file is missing" in str(error.value)


def test_in_memory_reads_what_fits_and_leaves_the_rest(tmp_path):
    files = [draw(tmp_path / f"{i}.png", np.full((4, 4, 3), i, np.uint8)) for i in range(3)]
    lazy = split_of(files, (4, 4, 3))
    held = images.in_memory(lazy)
    assert held.files is None
    np.testing.assert_array_equal(held.images, images.read_all(files, (4, 4, 3)))
    assert images.in_memory(held) is held
    assert images.in_memory(lazy, share=1e-12) is lazy


def test_in_memory_decides_before_it_reads(tmp_path):
    huge = split_of([tmp_path / "absent.png"] * 1000, (10**5, 10**5, 3))
    assert images.in_memory(huge) is huge


# --- look, pictures, names ---


def test_a_look_shows_size_bytes_and_picture(tmp_path, rng):
    pixels = rng.integers(0, 256, (16, 24, 3), np.uint8)
    files = [draw(tmp_path / name, pixels) for name in ("a.png", "b.tif", "c.jpg", "d.jpg")]
    files += [draw(tmp_path / "e.png", pixels[::-1]), tmp_path / "absent.png"]
    with files[3].open("ab") as file:
        file.write(b"other bytes, the same picture")
    seen = looking.look(files)
    assert [file.size for file in seen] == [(16, 24)] * 5 + [None]
    assert len({file.digest for file in seen}) == 6
    shown = looking.pictures(seen[:5])
    assert shown[0] == shown[1]
    assert shown[2] == shown[3]
    assert len(set(shown)) == 3


def test_jpegs_that_agree_at_an_eighth_are_told_apart_in_full(tmp_path):
    stripes = np.zeros((16, 16, 3), np.uint8)
    stripes[:, ::2] = 255
    files = [
        draw(tmp_path / f"{i}.jpg", x, quality=95)
        for i, x in enumerate((stripes, stripes[:, ::-1]))
    ]
    seen = looking.look(files)
    assert seen[0].picture == seen[1].picture
    assert len(set(looking.pictures(seen))) == 2


def test_a_file_whose_name_is_not_utf8_is_read_and_named(tmp_path):
    path = tmp_path / os.fsdecode(b"\xff.png")
    draw(path, np.full((4, 4, 3), 7, np.uint8))
    assert check_files([(None, path)]) == []
    assert images.read_all([path], (4, 4, 3)).max() == 7
    assert images.in_memory(split_of([path], (4, 4, 3))).images.max() == 7
    (pixels,) = in_order(split_of([path], (4, 4, 3)), batch_size=1)
    assert pixels.numpy().max() == 7
    path.write_text("no image")
    (fault,) = check_files([(None, path)])
    assert "/\\xff.png: not an image" in fault
    fault.encode()
    with pytest.raises(tf.errors.InvalidArgumentError, match=r"xff\.png: not an image"):
        list(in_order(split_of([path], (4, 4, 3)), batch_size=1))
