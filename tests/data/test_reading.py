"""The decoder: every kind of file, as a person sees it, and what is refused."""

import io
import resource
import struct
import zlib

import numpy as np
import pytest
import tensorflow as tf
from faults import check_files
from photographs import photograph
from PIL import Image, ImageOps

from kd_keras.data import images, reading


@pytest.fixture
def rng():
    return np.random.default_rng(0)


@pytest.fixture
def colours(rng):
    return Image.fromarray(rng.integers(0, 256, (21, 13, 3), np.uint8))


def pixels_of(path):
    assert check_files([(None, path)]) == []
    return reading.read(path).pixels.astype(int)


def refused(path):
    """Why the check refuses a file, and training by the same decoder."""
    with pytest.raises(reading.Unreadable) as error:
        reading.read(path)
    assert check_files([(None, path)]) == [f"{path}: {error.value}"]
    return str(error.value)


def by_tensorflow(path):
    raw = path.read_bytes()
    return tf.io.decode_image(raw, channels=3, expand_animations=False).numpy().astype(int)


def test_every_kind_and_mode_is_what_pillow_shows(tmp_path, colours):
    """PNG pixels, and those of a BMP, are also what TensorFlow's decoder gave."""
    kinds = {"png": "1 L P RGB RGBA LA", "bmp": "1 L P RGB", "gif": "L P RGB", "webp": "L RGB"}
    kinds |= {"tif": "1 L P RGB RGBA LA CMYK YCbCr", "jpg": "L RGB CMYK YCbCr"}
    for end, modes in kinds.items():
        for mode in modes.split():
            path = tmp_path / f"{mode}.{end}"
            colours.convert(mode).save(path)
            got = pixels_of(path)
            with Image.open(path) as image:
                np.testing.assert_array_equal(got, np.asarray(image.convert("RGB")), str(path))
            if end == "png" or path.name in ("RGB.bmp", "L.gif", "RGB.gif"):
                np.testing.assert_array_equal(got, by_tensorflow(path), str(path))
            assert reading.read(path).as_before == (end in ("png", "bmp"))


def test_a_picture_is_turned_as_its_exif_data_say(tmp_path, colours):
    for turn in range(1, 9):
        exif = Image.Exif()
        exif[274] = turn
        for end in ("png", "jpg", "tif", "webp"):
            path = tmp_path / f"{turn}.{end}"
            colours.save(path, exif=exif, quality=100, lossless=True)
            got = reading.read(path)
            with Image.open(path) as image:
                np.testing.assert_array_equal(got.pixels, ImageOps.exif_transpose(image))
            assert got.size == got.pixels.shape[:2]
            assert got.size == reading.read(path, coarse=True, thoroughly=True).size
            assert got.size == ((13, 21) if turn > 4 else (21, 13))
            assert got.as_before == (turn == 1 and end == "png")


def test_exif_data_that_cannot_be_read_turn_nothing(tmp_path, colours):
    path = tmp_path / "a.jpg"
    colours.save(path, exif=b"Exif\0\0no header of TIFF at all")
    np.testing.assert_array_equal(pixels_of(path).shape, (21, 13, 3))


def test_what_is_transparent_is_white(tmp_path):
    for mode, colour in (("RGBA", (9, 8, 7, 0)), ("LA", (9, 0))):
        for end in ("png", "tif"):
            path = tmp_path / f"{mode}.{end}"
            Image.new(mode, (4, 4), colour).save(path)
            assert pixels_of(path).min() == 255
            assert not reading.read(path).as_before
    Image.new("RGBA", (1, 1), (100, 0, 200, 51)).save(tmp_path / "a.png")  # a fifth
    assert pixels_of(tmp_path / "a.png")[0, 0].tolist() == [224, 204, 244]
    keyed = Image.fromarray(np.array([[[1, 2, 3], [4, 5, 6]]], "uint8"))
    keyed.save(tmp_path / "key.png", transparency=(1, 2, 3))
    assert pixels_of(tmp_path / "key.png").tolist() == [[[255] * 3, [4, 5, 6]]]


def test_16_bits_keep_their_upper_8_whatever_sbit_says(tmp_path):
    """A PNG's samples fill the range; its sBIT says how many of their upper bits mean something."""
    ramp = np.arange(0, 65536, 257, "uint16").reshape(16, 16)
    for end in ("png", "tif"):
        path = tmp_path / f"a.{end}"
        Image.fromarray(ramp).save(path)
        np.testing.assert_array_equal(pixels_of(path)[..., 0], np.arange(256).reshape(16, 16))
        assert reading.read(path).deep
    plain = (tmp_path / "a.png").read_bytes()
    (tmp_path / "sbit.png").write_bytes(plain[:33] + chunk(b"sBIT", b"\x0c") + plain[33:])
    np.testing.assert_array_equal(
        pixels_of(tmp_path / "sbit.png"), by_tensorflow(path.with_name("a.png"))
    )
    Image.fromarray(ramp).save(tmp_path / "white-is-zero.tif", tiffinfo={262: 0})
    assert pixels_of(tmp_path / "white-is-zero.tif")[0, 0, 0] == 255


def test_a_tiff_of_12_bits_a_sample_is_read_by_its_tag(tmp_path):
    packed = bytes([0xFF, 0xF0, 0x00, 0x80, 0x00, 0x00])  # 4095, 0; 2048, 0
    entries = [
        (256, 2),
        (257, 2),
        (258, 12),
        (259, 1),
        (262, 1),
        (273, 122),
        (277, 1),
        (278, 2),
        (279, 6),
    ]
    raw = b"II*\0\x08\0\0\0" + struct.pack("<H", len(entries))
    raw += b"".join(struct.pack("<HHLL", tag, 4, 1, value) for tag, value in entries) + b"\0" * 4
    (tmp_path / "a.tif").write_bytes(raw + packed)
    assert pixels_of(tmp_path / "a.tif")[..., 0].tolist() == [[255, 0], [128, 0]]


def test_files_of_16_bits_that_use_fewer_are_refused_together(tmp_path):
    def draw(*tops):
        for number, top in enumerate(tops):
            levels = np.linspace(0, top, 16).astype("uint16").reshape(4, 4)
            Image.fromarray(levels).save(tmp_path / f"{number}.png")
        return check_files([(None, tmp_path / f"{i}.png") for i in range(len(tops))])

    for top, bits in ((255, 8), (1023, 10), (4095, 12), (16383, 14)):
        (fault,) = draw(top // 2, top)
        assert f"only {bits} of its 16 bits per sample are used" in fault
        assert f"all 2 16-bit files, no sample is above {top}," in fault
        assert f"by {2 ** (16 - bits)}," in fault
    assert draw(4095, 40000) == []  # one dark picture among others


def test_a_bmp_of_5_bits_a_colour_is_read(tmp_path):
    """Red of 31, green of 31, blue of 31, and a white."""
    head = struct.pack("<2sIHHI", b"BM", 62, 0, 0, 54)
    head += struct.pack("<IiiHHIIiiII", 40, 2, 2, 1, 16, 0, 8, 0, 0, 0, 0)
    (tmp_path / "a.bmp").write_bytes(head + struct.pack("<4H", 0x7C00, 0x03E0, 0x001F, 0x7FFF))
    got = pixels_of(tmp_path / "a.bmp")  # from the bottom up
    assert got.tolist() == [[[0, 0, 255], [255] * 3], [[255, 0, 0], [0, 255, 0]]]


def test_junk_behind_a_jpeg_is_no_fault_for_check_or_training(tmp_path, colours):
    path = tmp_path / "a.jpg"
    colours.save(path)
    clean = pixels_of(path)
    with path.open("ab") as file:
        file.write(b"\xff\xd8\xff junk \xff\xd9" * 9)
    np.testing.assert_array_equal(pixels_of(path), clean)
    assert images.read_all([path], (21, 13, 3)).shape == (1, 21, 13, 3)


def chunk(kind, body):
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def test_a_picture_of_too_many_pixels_is_refused_from_its_header(tmp_path):
    """Small files that would take 0.5 GB, were they decoded; Pillow's own warning does not come."""
    path = tmp_path / "a.png"
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 13_000, 13_000, 8, 0, 0, 0, 0))
    rows = chunk(b"IDAT", zlib.compress(bytes(13_001 * 100)))
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + header + rows + chunk(b"IEND", b""))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert refused(path).startswith("the image is 13000x13000 (height x width), more than")
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 50_000  # kB
    Image.new("1", (8192, 8193)).save(tmp_path / "b.tif", compression="group4")
    assert "8193x8192" in refused(tmp_path / "b.tif")


def test_what_has_no_one_meaning_is_refused(tmp_path, colours):
    colours.save(tmp_path / "pages.tif", save_all=True, append_images=[colours])
    assert refused(tmp_path / "pages.tif").startswith("a TIFF of 2 pages")
    for mode in ("I", "F", "LAB"):
        path = tmp_path / f"{mode}.tif"
        Image.new(mode, (3, 3)).save(path)
        assert f"({mode}) are floats, signed" in refused(path)
    buffer = io.BytesIO()
    colours.save(buffer, "PPM")
    (tmp_path / "a.png").write_bytes(buffer.getvalue())
    assert refused(tmp_path / "a.png").startswith("not an image of a known kind (PNG, JPEG")


# --- resizing ---


def difference(one, other):
    """The largest and the mean difference of two pictures, of 255."""
    apart = np.abs(np.asarray(one, float) - np.asarray(other, float))
    return apart.max(), apart.mean()


def test_a_picture_of_the_right_size_has_the_same_bytes_whether_a_shape_is_asked_or_not(tmp_path):
    for end in ("png", "jpg", "webp"):
        path = tmp_path / f"a.{end}"
        photograph(61, 47).save(path)
        plain, shaped = reading.read(path), reading.read(path, shape=(47, 61))
        np.testing.assert_array_equal(shaped.pixels, plain.pixels)
        assert shaped.size == plain.size == (47, 61)


def test_a_resized_picture_is_that_of_tensorflow_with_antialiasing(tmp_path):
    """By no more than rounding, which Pillow does after each of two passes; up or down."""
    path = tmp_path / "a.png"
    photograph(150, 100).save(path)
    for shape in ((67, 96), (100, 70), (130, 190), (224, 224), (51, 76)):
        got = reading.read(path, shape=shape)
        want = tf.image.resize(reading.read(path).pixels, shape, antialias=True)
        assert got.size == (100, 150)
        assert got.pixels.shape == (*shape, 3)
        largest, mean = difference(got.pixels, want)
        assert largest <= 1.6
        assert mean < 0.4


@pytest.mark.parametrize("size", [(1000, 750), (1237, 1003), (600, 460), (1801, 1799)])
def test_a_jpeg_decoded_at_a_part_of_its_size_is_close_to_one_decoded_in_full(tmp_path, size):
    path = tmp_path / "a.jpg"
    photograph(*size).save(path, quality=90)
    with Image.open(path) as image:
        full = image.resize((100, 100), Image.Resampling.BILINEAR)
    got = reading.read(path, shape=(100, 100))
    assert got.size == size[::-1]
    largest, mean = difference(got.pixels, full)
    assert largest <= 16  # at a hard edge
    assert 0 < mean < 0.6  # it was decoded at a part


def test_a_jpeg_is_decoded_at_a_part_only_if_twice_the_size_remains(tmp_path):
    path = tmp_path / "a.jpg"
    photograph(500, 375).save(path, quality=90)
    with Image.open(path) as image:
        want = image.resize((224, 224), Image.Resampling.BILINEAR)
    np.testing.assert_array_equal(reading.read(path, shape=(224, 224)).pixels, want)


def test_the_shape_is_that_of_the_turned_picture(tmp_path):
    """A wide file that is turned upright is decoded at a part by its own sides."""
    upright = photograph(300, 900)
    for turn in range(1, 9):
        exif = Image.Exif()
        exif[274] = turn
        for end in ("png", "jpg", "tif"):
            path = tmp_path / f"{turn}.{end}"
            upright.save(path, exif=exif, quality=95)
            with Image.open(path) as image:
                full = ImageOps.exif_transpose(image).convert("RGB")
            shape = (80, 31)
            got = reading.read(path, shape=shape)
            assert got.size == full.size[::-1]
            assert got.pixels.shape == (*shape, 3)
            largest, mean = difference(got.pixels, full.resize(shape[::-1], Image.BILINEAR))
            assert largest <= 16
            assert mean < 0.7


def test_every_mode_is_resized_as_a_person_sees_it(tmp_path, colours):
    for mode in ["1", "L", "P", "RGB", "RGBA", "LA", "CMYK"]:
        path = tmp_path / f"{mode}.tif"
        colours.convert(mode).save(path)
        want = Image.fromarray(reading.read(path).pixels).resize((9, 7), Image.BILINEAR)
        np.testing.assert_array_equal(reading.read(path, shape=(7, 9)).pixels, want)
