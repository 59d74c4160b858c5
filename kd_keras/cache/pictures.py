"""The pixels of image files, decoded once: in memory, or in a memory-mapped file beside the rows.

The file is an entry of the cache like a teacher's predictions: it has a key made of content and
checksums, it appears whole, a killed build resumes, and `kd-keras cache` lists and prunes it.
"""

import dataclasses
import functools
import logging
import os
import shutil
from pathlib import Path

from kd_keras.cache.build import BUILDING
from kd_keras.cache.encoding import Pixels
from kd_keras.cache.policy import Cache
from kd_keras.cache.request import Request, make_request
from kd_keras.cache.transfer import SplitViews
from kd_keras.data import images, reading
from kd_keras.data.task import Split
from kd_keras.teachers import TeacherSource
from kd_keras.utils.files import default_directory
from kd_keras.utils.files import fingerprint as fingerprint_of

log = logging.getLogger(__name__)

TAP = "image"
DISK_SHARE = 0.5  # of the free space, that a file of pixels may take: runs write there too


class DecodedImages(TeacherSource):
    """A source that gives the images themselves, so that a cache can store their pixels.

    Args:
        image_shape: `(height, width, channels)`.
    """

    product = "the decoded pixels"

    def __init__(self, image_shape: tuple[int, int, int]):
        self.shapes = {TAP: (None, *image_shape)}

    @property
    def rounding(self) -> float:
        """Zero: the same file is decoded to the same pixels."""
        return 0.0

    def __call__(self, batch):
        return {TAP: batch["image"]}

    @functools.cached_property
    def on_images(self):
        """The images, as they are."""
        return lambda pixels: {TAP: pixels}

    def rows(self, images, batch_size=0):
        return {TAP: images}

    def fingerprint(self) -> str:
        """Return a key made of the decoder and the shape."""
        return fingerprint_of("decoded images", reading.DECODER, self.shapes[TAP][1:])


def decoded_once(
    split: Split,
    *,
    fingerprint: str,
    name: str,
    directory: str | os.PathLike[str] | None = None,
) -> Split:
    """Return a split whose files are decoded now, so that no epoch decodes them again.

    The pixels are in memory if they take less than a quarter of the free memory, and otherwise in a
    file: see `in_file`. Its arguments are the same, and so are its errors, of which a `ValueError`
    names files that cannot be decoded. A split that already holds its images is returned unchanged.
    """
    split = images.in_memory(split)
    if split.files is None:
        return split
    return in_file(split, fingerprint=fingerprint, name=name, directory=directory)


def in_file(
    split: Split,
    *,
    fingerprint: str,
    name: str,
    directory: str | os.PathLike[str] | None = None,
) -> Split:
    """Return a split whose pixels are in a file, memory-mapped; later processes open it too.

    If the file would take more than `DISK_SHARE` of the free space, or cannot be written, a warning
    says why, and the split is returned unchanged: every epoch decodes its image files.

    Args:
        split: the examples; files must be unchanged since `fingerprint` was taken.
        fingerprint: of the split's content, such as `f"{task.fingerprint}/train"`.
        name: for people.
        directory: for the file; `default_directory()` if None.

    Raises:
        tf.errors.InvalidArgumentError: if a file cannot be decoded; it is named.

    Example:
        >>> import tempfile, numpy as np
        >>> from PIL import Image
        >>> from kd_keras.data.task import unlabelled
        >>> folder = Path(tempfile.mkdtemp())
        >>> Image.new("RGB", (40, 30), "red").save(folder / "red.png")
        >>> split = unlabelled((8, 8, 3), files=(folder / "red.png",))
        >>> mapped = in_file(split, fingerprint="red", name="red", directory=folder / "cache")
        >>> type(mapped.images).__name__, mapped.images.shape
        ('memmap', (1, 8, 8, 3))
    """
    where = default_directory() if directory is None else Path(directory)
    views = SplitViews(split, fingerprint=fingerprint, name=name)
    source = DecodedImages(split.image_shape)
    try:
        if not _fits(make_request(source, views, Pixels()), where):
            return split
        stored = Cache(where, storage=Pixels(), memory_share=0.0).open(source, views)
    except OSError as error:
        log.warning(
            "The pixels of %r cannot be kept in %s (%s): every epoch decodes the image files. "
            "Name another folder by --cache-dir or KD_KERAS_CACHE.",
            name,
            where,
            error.strerror or error,
        )
        return split
    return dataclasses.replace(split, images=stored.as_stored(TAP)["values"], files=None)


def _fits(request: Request, directory: Path) -> bool:
    """Return whether the disk has room for the pixels, or has them already; log it if not."""
    directory.mkdir(parents=True, exist_ok=True)
    if (directory / request.key).exists():
        return True
    begun = directory / (request.key + BUILDING)
    done = sum(path.stat().st_size for path in begun.glob("*")) if begun.exists() else 0
    needed = (request.size or 0) - done
    free = shutil.disk_usage(directory).free
    if needed > DISK_SHARE * free:
        log.warning(
            "The pixels of %r need %d bytes in %s, where %d are free, of which half may be taken: "
            "every epoch decodes the image files. Free some space, or name another folder by "
            "--cache-dir or KD_KERAS_CACHE.",
            request.transfer_set.name,
            needed,
            directory,
            free,
        )
        return False
    return True
