"""Look at image files before the work begins: find their faults, and digests of their pictures."""

import dataclasses
import hashlib
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from kd_keras.data import reading
from kd_keras.data.images import shown
from kd_keras.data.notes import Notes

CHECKS = "image-checks"  # folder of the results, in the user's cache folder
# from the largest value of the upper 8 bits to the number of bits used of 16
USED_BITS = {0: 8, 3: 10, 15: 12, 63: 14}


@dataclasses.dataclass(frozen=True)
class Seen:
    """The result of one look at an image file.

    Attributes:
        path: the file.
        fault: why it cannot be read, or None; a file with a fault has no other attributes set.
        size: `(height, width)`, as it is read.
        digest: SHA-256 of its bytes, in hexadecimal.
        picture: a digest of its pixels: different for different pixels, unless `coarse`.
        coarse: whether `picture` is of the pixels at an eighth of the size, as for a JPEG file.
        brightest: the largest value of the 8 bits kept of 16; None for a file of 8 bits.
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
    """Decode every file once, with the decoder that training uses.

    The results are kept: a file that was not changed since an earlier look is not read again. Files
    with faults are.
    """
    files = list(files)
    notes = Notes(files, CHECKS, reading.DECODER)
    seen: dict[int, Seen] = {}
    unknown = []
    for number, path in enumerate(files):
        stamp, note = notes.find(path)
        if note is None:
            unknown.append((number, path, stamp))
        else:
            seen[number] = _from_note(path, note)
    with ThreadPoolExecutor() as pool:
        found = pool.map(_look, [path for _, path, _ in unknown])
        for (number, path, stamp), file in zip(unknown, found, strict=True):
            seen[number] = file
            if stamp is not None and file.fault is None:
                notes.add(path, stamp, _as_note(file))
    notes.write()
    return [seen[number] for number in range(len(files))]


def _as_note(file: Seen) -> dict[str, Any]:
    note = dataclasses.asdict(file)
    del note["path"], note["fault"]
    return {**note, "size": list(file.size or ()), "picture": file.picture.hex()}


def _from_note(path: Path, note: dict[str, Any]) -> Seen:
    high, wide = note["size"]
    return Seen(path, **{**note, "size": (high, wide), "picture": bytes.fromhex(note["picture"])})


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
    """Return a digest per file that is equal for files with the same pixels.

    JPEG files that agree at an eighth of their size, but not in their bytes, are decoded in full.
    A JPEG file and a file of another kind are never equal.
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
    """Return what is wrong with the files.

    Args:
        seen: the results of `look`.
        rows: the row of each file in the list that names it, or None.
        shape: the `(height, width)` that every image must have, or None.

    Returns:
        One sentence per fault, with row and file, in the order of `seen`: the file is missing, of
        an unknown kind, damaged or truncated, or has another size. One more sentence if all 16-bit
        files use fewer bits, so that too few grey levels would be left.
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
                f"{shown(deep[0][1])}: only {bits} of its 16 bits per sample are used: in all "
                f"{len(deep)} 16-bit files, no sample is above {2**bits - 1}, and only "
                f"{level + 1} of 256 grey levels would be left. Multiply all samples by "
                f"{2 ** (16 - bits)}, or save the images with 8 bits"
            ]
    return []


def digest(path: Path) -> str:
    """Return the SHA-256 of a file's bytes, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def as_read(seen: Sequence[Seen], size: tuple[int, int]) -> list[Any]:
    """Return what the files hold, for a fingerprint: digests of their bytes, and their decoder.

    The decoder is left out if it gives the same pixels as the one before it, and so is the way of
    resizing if no picture is resized.

    Args:
        seen: the results of `look`.
        size: the `(height, width)` of the images as the models get them.
    """
    digests: list[Any] = [[file.digest for file in seen]]
    read = [] if all(file.as_before for file in seen) else ["read by Pillow"]
    resized = [] if all(file.size == size for file in seen) else ["resized by Pillow"]
    return digests + read + resized
