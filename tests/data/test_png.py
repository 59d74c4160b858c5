"""Many small PNG files decoded at once, against Pillow and by hand."""

import io
import itertools
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from kd_keras.data import png

SHAPE = (9, 7)


def file_of(pixels):
    """A file as Pillow writes it, which chooses a filter for each row."""
    written = io.BytesIO()
    Image.fromarray(pixels).save(written, "png")
    return written.getvalue()


def chunk(kind, content):
    body = kind + content
    return struct.pack(">I", len(content)) + body + struct.pack(">I", zlib.crc32(body))


def filtered(pixels, kinds, parts=1):
    """A file whose rows have the given filters: the encoder of the specification, with loops."""
    height, width = pixels.shape
    old = np.pad(pixels.astype(int), ((1, 0), (1, 0)))
    raw = bytearray()
    for y in range(height):
        raw.append(kinds[y])
        for x in range(width):
            left, up, corner = old[y + 1, x], old[y, x + 1], old[y, x]
            estimate = left + up - corner
            nearest = min((left, up, corner), key=lambda near: abs(estimate - near))
            expected = (0, left, up, (left + up) // 2, nearest)[kinds[y]]
            raw.append((old[y + 1, x + 1] - expected) % 256)
    data = zlib.compress(bytes(raw))
    cuts = [len(data) * k // parts for k in range(parts + 1)]
    chunks = [chunk(b"IDAT", data[a:b]) for a, b in itertools.pairwise(cuts)]
    header = chunk(b"IHDR", png.HEADER.pack(width, height, 8, 0, 0, 0, 0))
    return b"".join(
        [png.SIGNATURE, header, *chunks, chunk(b"tEXt", b"a note"), chunk(b"IEND", b"")]
    )


def drawn(seed):
    return np.random.default_rng(seed).integers(0, 256, SHAPE).astype("uint8")


def test_every_filter_is_undone():
    rng = np.random.default_rng(0)
    alike = [np.full(SHAPE[0], kind) for kind in range(5)]
    kinds = [*alike, *rng.integers(0, 5, (35, SHAPE[0]))]
    pixels = [drawn(seed) for seed in range(len(kinds))]
    files = [filtered(pixels[n], kinds[n], parts=1 + n % 3) for n in range(len(kinds))]
    for file, want in zip(files, pixels, strict=True):  # the encoder above is right
        np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(file))), want)
    np.testing.assert_array_equal(png.decode_gray(files, *SHAPE)[..., 0], pixels)


def test_files_of_pillow():
    smooth = np.add.outer(np.arange(28) * 5, np.arange(28) * 3).astype("uint8")
    pixels = [smooth, smooth.T.copy(), np.zeros_like(smooth)]
    got = png.decode_gray([file_of(p) for p in pixels], 28, 28)
    assert (got.dtype, got.shape) == (np.uint8, (3, 28, 28, 1))
    np.testing.assert_array_equal(got[..., 0], pixels)
    assert png.decode_gray([], 28, 28).shape == (0, 28, 28, 1)


@pytest.mark.parametrize(
    "other",
    [
        b"no image",
        file_of(np.zeros((7, 9), "uint8")),
        file_of(np.zeros((*SHAPE, 3), "uint8")),
        file_of(np.zeros(SHAPE, "bool")),
    ],
)
def test_another_kind_of_file_is_named(other):
    with pytest.raises(ValueError, match="File 1 must be a gray PNG file of 9x7 pixels"):
        png.decode_gray([file_of(drawn(0)), other], *SHAPE)
