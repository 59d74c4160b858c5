"""The one decoder of image files: the check before training and training itself use it.

Pillow decodes, in threads, since it releases the interpreter's lock. No process-wide setting of
Pillow is changed.
"""

import dataclasses
import os
import struct
from collections.abc import Callable
from typing import IO, Any

import numpy as np
import PIL
from PIL import (
    BmpImagePlugin,
    ExifTags,
    GifImagePlugin,
    Image,
    JpegImagePlugin,
    PngImagePlugin,
    TiffImagePlugin,
    WebPImagePlugin,
)

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".tif", ".tiff", ".webp")
MAX_PIXELS = 1 << 26  # 8,192 x 8,192, as of a camera of 64 megapixels; 200 MB once decoded

# the first bytes of a file of each kind, and its reader
_KINDS: dict[str, tuple[tuple[bytes, ...], Callable[[IO[bytes]], Any]]] = {
    "PNG": ((b"\x89PNG\r\n\x1a\n",), PngImagePlugin.PngImageFile),
    "JPEG": ((b"\xff\xd8\xff",), JpegImagePlugin.JpegImageFile),
    "BMP": ((b"BM",), BmpImagePlugin.BmpImageFile),
    "GIF": ((b"GIF87a", b"GIF89a"), GifImagePlugin.GifImageFile),
    "TIFF": ((b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"), TiffImagePlugin.TiffImageFile),
    "WebP": ((b"RIFF",), WebPImagePlugin.WebPImageFile),
}
KINDS = tuple(_KINDS)

# Changes when the same file could give other pixels. Write another number when this module changes
# any pixel.
DECODER = f"1, Pillow {PIL.__version__}"
GAP = 2  # a picture is first reduced to no less than this many times its final size
# how `read` resizes a picture, for who must do the same without this library
RESIZING = {
    "method": "bilinear",
    "antialias": True,
    "keeps_aspect_ratio": False,
    "by": "Pillow",
    "reducing_gap": GAP,
}

# by orientation (EXIF 2.3, tag 274), the turn of a picture
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
# modes that `convert("RGB")` turns into what a person sees
_MODES = ("1", "L", "P", "RGB", "RGBA", "LA", "PA", "La", "RGBa", "RGBX", "CMYK", "YCbCr")
_SIDEWAYS = tuple(_TURNS.values())[3:]  # these swap height and width
_BITS, _PHOTOMETRIC, _WHITE_IS_ZERO = 258, 262, 0  # tags of a TIFF file
_PNG_DEPTH = 24  # the offset of the bits per sample in a PNG file


class Unreadable(ValueError):
    """The error for a file that cannot be read; its message says why, but not which file."""


@dataclasses.dataclass(frozen=True)
class Picture:
    """The contents of an image file.

    Attributes:
        pixels: uint8, shape `(height, width, 3)`.
        size: `(height, width)` of the whole picture.
        kind: one of `KINDS`.
        deep: whether the file has 16 bits per sample, of which the upper 8 are kept.
        as_before: whether the pixels are the same as from TensorFlow's decoder, which read the
            files up to version 0.1.
    """

    pixels: np.ndarray
    size: tuple[int, int]
    kind: str
    deep: bool
    as_before: bool


def read(
    path: str | os.PathLike[str],
    *,
    shape: tuple[int, int] | None = None,
    thoroughly: bool = False,
    coarse: bool = False,
) -> Picture:
    """Read the picture in a PNG, JPEG, BMP, GIF, TIFF or WebP file, as a person sees it.

    It is turned as its EXIF data say, and put over white if it is transparent; of an animation the
    first frame is read. 16 bits per sample are taken as 0..65535, of which the upper 8 are kept:
    PNG scales samples to the full range whatever its sBIT chunk says. A TIFF file may have 12 bits
    per sample. Colour profiles are not applied.

    A picture of another `shape` is resized once, by Pillow (bilinear, with antialiasing). One that
    is several times too large is reduced by a whole factor first, to no less than `GAP` times
    `shape`: a JPEG file is then decoded at a half, a quarter or an eighth of its size, which takes
    less time, and other files have blocks of pixels averaged.

    Args:
        path: the file.
        shape: the `(height, width)` that the pixels shall have; None means those of the picture.
        thoroughly: test the checksums of a PNG file too, up to its last chunk.
        coarse: decode a JPEG file at an eighth of its size and cost; it is still read to its end.

    Raises:
        Unreadable: if the file is missing, damaged or of another kind, or has more than
            `MAX_PIXELS` pixels, several pages (TIFF), or samples of an unknown range (floats,
            32 bits).
    """
    try:
        with open(path, "rb") as file:
            if thoroughly:
                kind, image = _opened(file)
                if kind == "PNG":
                    image.verify()
                file.seek(0)
            return _picture(*_opened(file), file, shape, coarse)
    except Unreadable:
        raise
    except FileNotFoundError:
        raise Unreadable("the file is missing") from None
    except Exception as error:  # Pillow may raise nearly anything for a damaged file
        reason = error.strerror if isinstance(error, OSError) and error.strerror else error
        raise Unreadable(f"the image cannot be read ({reason})") from error


def _opened(file: IO[bytes]) -> tuple[str, Any]:
    """Return the kind of a file, and Pillow's image of it, of which only the header is read."""
    start = file.read(16)
    file.seek(0)
    for kind, (marks, reader) in _KINDS.items():
        if start.startswith(marks) and (kind != "WebP" or start[8:12] == b"WEBP"):
            image = reader(file)
            _refuse_odd(kind, image)
            return kind, image
    raise Unreadable(f"not an image of a known kind ({', '.join(KINDS)})")


def _refuse_odd(kind: str, image: Any) -> None:
    """Raise `Unreadable` if the header makes decoding too costly or its result doubtful."""
    width, height = image.size
    if width * height > MAX_PIXELS:
        raise Unreadable(
            f"the image is {height}x{width} (height x width), more than {MAX_PIXELS:,} pixels; "
            "save it smaller, or cut it into tiles"
        )
    if kind == "TIFF" and image.n_frames > 1:
        raise Unreadable(f"a TIFF of {image.n_frames} pages; save the one you want on its own")
    if image.mode not in _MODES and not image.mode.startswith("I;16"):
        raise Unreadable(
            f"its samples ({image.mode}) are floats, signed, of 32 bits, or not RGB: it is unknown "
            "which is black and which is white; save it with 8 or 16 bits per sample"
        )


def _picture(
    kind: str, image: Any, file: IO[bytes], shape: tuple[int, int] | None, coarse: bool
) -> Picture:
    depth = _depth(kind, image, file)
    width, height = image.size
    box = None
    if coarse and kind == "JPEG":
        image.draft(None, (1, 1))
    elif shape and kind == "JPEG":
        box = _reduce(image, shape)
    image.load()
    if kind == "TIFF":  # loading has turned it
        width, height = image.size
    turn = _turn(image)
    clear = False
    if image.mode.startswith("I;16"):
        image = _grey(image, depth)
    elif image.has_transparency_data:
        image, clear = _over_white(image)
    if image.mode != "RGB":
        image = image.convert("RGB")
    if shape:
        image = _resized(image, _before(turn, shape), box)
    if turn is not None:
        image = image.transpose(turn)
        if turn in _SIDEWAYS:
            width, height = height, width
    return Picture(
        pixels=np.asarray(image),
        size=(height, width),
        kind=kind,
        deep=depth == 16,
        as_before=kind in ("PNG", "BMP") and turn is None and not clear,
    )


def _reduce(image: Any, shape: tuple[int, int]) -> tuple[float, float, float, float] | None:
    """Let a JPEG file be decoded at a part of its size, if it is large enough for `shape`.

    Returns:
        The box of the decoded image that the picture fills: a last row or column may lie partly
        outside it. None if the file is decoded in full.
    """
    width, height = _before(_turn(image), shape)
    _, box = image.draft(None, (GAP * width, GAP * height)) or (None, None)
    return box


def _before(turn: Image.Transpose | None, shape: tuple[int, int]) -> tuple[int, int]:
    """Return the width and height of a picture that has `shape` once it is turned."""
    height, width = shape
    return (height, width) if turn in _SIDEWAYS else (width, height)


def resized(pixels: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Return the pixels of a picture in another `(height, width)`, as `read` resizes a file's.

    Args:
        pixels: uint8, `(height, width, channels)`, of one channel or three.
        shape: the height and width of the result.
    """
    image = Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels)
    return np.asarray(_resized(image, shape[::-1], None)).reshape(*shape, pixels.shape[2])


def _resized(
    image: Any, size: tuple[int, int], box: tuple[float, float, float, float] | None
) -> Any:
    if image.size == size:
        return image
    return image.resize(size, Image.Resampling.BILINEAR, box=box, reducing_gap=GAP)


def _depth(kind: str, image: Any, file: IO[bytes]) -> int:
    """Return the bits per sample, or 8 for a kind of file that never has more."""
    if kind == "TIFF":
        return max(image.tag_v2.get(_BITS, (8,)))
    if kind != "PNG":
        return 8
    place = file.tell()
    file.seek(_PNG_DEPTH)
    (depth,) = file.read(1)
    file.seek(place)
    return depth


def _turn(image: Any) -> Image.Transpose | None:
    try:
        return _TURNS.get(image.getexif().get(ExifTags.Base.Orientation))
    except (SyntaxError, struct.error, KeyError, TypeError, ValueError, ZeroDivisionError):
        return None  # damaged EXIF data turn nothing; the list of errors is Pillow's own


def _grey(image: Any, depth: int) -> Any:
    """Return the upper 8 bits of grey samples that have more."""
    values = np.asarray(image).astype("uint16")
    if image.format == "TIFF" and image.tag_v2.get(_PHOTOMETRIC) == _WHITE_IS_ZERO:
        values = (1 << depth) - 1 - values  # Pillow does this only for 8 bits and fewer
    return Image.fromarray((values >> (depth - 8)).astype("uint8"))


def _over_white(image: Any) -> tuple[Any, bool]:
    """Put a picture with transparency over white; also return True if any white shows through."""
    layer = image.convert("RGBA")
    if layer.getchannel("A").getextrema()[0] == 255:
        return layer, False
    return Image.alpha_composite(Image.new("RGBA", layer.size, "white"), layer), True
