"""Image files, looked at before the work begins: what is wrong with them, and what they show."""

import dataclasses
import hashlib
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from kd_keras.data import reading
from kd_keras.data.images import shown

# the brightest of the upper 8 bits where only so many of 16 are used
USED_BITS = {0: 8, 3: 10, 15: 12, 63: 14}


@dataclasses.dataclass(frozen=True)
class Seen:
    """What one look at an image file has shown.

    Attributes:
        path: the file.
        fault: why it cannot be read, or None; nothing more is known of a file with a fault.
        size: `(height, width)`, as it is read.
        digest: SHA-256 of its bytes, in hexadecimal.
        picture: a digest of its pixels: others for other pixels, if not `coarse`.
        coarse: whether only an eighth of the pixels' detail is in `picture`, as of a JPEG file.
        brightest: the largest of the 8 bits that are kept of 16; None for a file of 8.
        as_before: as in `reading.Picture`.
    """

    path: Path
    fault: str | None = None
    size: tuple[int, int] | None = None
    digest: str = ""
    picture: bytes = b""
    coarse: bool = False
    brightest: int | None = None
    as_before: bool = True


def look(files: Iterable[Path]) -> list[Seen]:
    """Decode every file once, by the decoder that training uses."""
    with ThreadPoolExecutor() as pool:
        return list(pool.map(_look, files))


def _look(path: Path) -> Seen:
    try:
        found = reading.read(path, thoroughly=True, coarse=True)
    except reading.Unreadable as error:
        return Seen(path, fault=str(error))
    return Seen(
        path,
        size=found.size,
        digest=digest(path),
        picture=_picture(found),
        coarse=found.kind == "JPEG",
        brightest=int(found.pixels.max()) if found.deep else None,
        as_before=found.as_before,
    )


def _picture(found: reading.Picture) -> bytes:
    shape = f"{found.size}{found.pixels.shape}".encode()
    pixels = np.ascontiguousarray(found.pixels).data
    return hashlib.blake2b(pixels, digest_size=16, key=shape).digest()


def pictures(seen: Sequence[Seen]) -> list[bytes]:
    """What each file shows, equal where all pixels are.

    JPEG files that agree at an eighth of their size, but not in their bytes, are decoded in full.
    A JPEG file and one of another kind are never equal.
    """
    digests: dict[bytes, set[str]] = {}
    for file in seen:
        digests.setdefault(file.picture, set()).add(file.digest)
    return [
        _picture(reading.read(file.path))
        if file.coarse and len(digests[file.picture]) > 1
        else file.picture
        for file in seen
    ]


def faults(
    seen: Sequence[Seen],
    *,
    rows: Sequence[int | None] | None = None,
    shape: tuple[int, int] | None = None,
) -> list[str]:
    """What is wrong with files.

    Args:
        seen: by `look`.
        rows: where the list of files names each one, or None.
        shape: the `(height, width)` that every image must have, or None.

    Returns:
        One sentence per fault, with row and file, in the order of `seen`: the file is missing, of
        no kind that is read, damaged or cut short, or has another size. One more where all files
        of 16 bits use fewer, of which too few grey levels would be left.
    """
    told = []
    for row, file in zip(rows or [None] * len(seen), seen, strict=True):
        fault = file.fault
        if fault is None and shape is not None and file.size is not None and file.size != shape:
            (height, width), (high, wide) = file.size, shape
            fault = f"the image is {height}x{width}, expected {high}x{wide} (height x width)"
        if fault:
            told.append(f"{'' if row is None else f'row {row}: '}{shown(file.path)}: {fault}")
    return told + _unused_bits(seen)


def _unused_bits(seen: Sequence[Seen]) -> list[str]:
    deep = [(file.brightest, file.path) for file in seen if file.brightest is not None]
    brightest = max((level for level, _ in deep), default=255)
    for level, bits in USED_BITS.items():
        if brightest <= level:
            return [
                f"{shown(deep[0][1])}: of its 16 bits a sample only {bits} are used, and of the "
                f"samples of all {len(deep)} files of 16 bits: none is above {2**bits - 1}, and "
                f"{level + 1} of 256 grey levels would be left. Multiply all samples by "
                f"{2 ** (16 - bits)}, or save them with 8 bits"
            ]
    return []


def digest(path: Path) -> str:
    """SHA-256 of a file's bytes, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def as_read(seen: Sequence[Seen]) -> list[Any]:
    """What the files hold, for a fingerprint: the bytes, and which decoder makes pixels of them.

    The decoder has no say where it gives the pixels that the one before it gave.
    """
    digests = [file.digest for file in seen]
    return [digests] if all(file.as_before for file in seen) else [digests, "read by Pillow"]
