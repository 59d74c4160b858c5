"""The teacher's predictions, computed once: those for an image never change.

`attach` adds predictions to a `tf.data` pipeline. `Cache` sets where and how they are stored, in
memory or on disk. `join` looks up rows by index in the library's own pipelines. `pictures` stores
decoded images in the same way.
"""

from kd_keras.cache.build import ChangingTeacher
from kd_keras.cache.disk import DamagedCache
from kd_keras.cache.encoding import Float16, Float32, Storage, TopK, as_storage
from kd_keras.cache.inventory import Entry, entries, prune, verify
from kd_keras.cache.join import attach, join
from kd_keras.cache.policy import (
    MEMORY_SHARE,
    MODES,
    Cache,
    as_cache,
    fits,
    rows,
)
from kd_keras.cache.rows import InMemory, Stored
from kd_keras.cache.transfer import Arrays, SplitViews, Stream, TransferSet, pixel_fingerprints
from kd_keras.teachers import CachedTeacher
from kd_keras.utils.files import default_directory

__all__ = [
    "MEMORY_SHARE",
    "MODES",
    "Arrays",
    "Cache",
    "CachedTeacher",
    "ChangingTeacher",
    "DamagedCache",
    "Entry",
    "Float16",
    "Float32",
    "InMemory",
    "SplitViews",
    "Storage",
    "Stored",
    "Stream",
    "TopK",
    "TransferSet",
    "as_cache",
    "as_storage",
    "attach",
    "default_directory",
    "entries",
    "fits",
    "join",
    "pixel_fingerprints",
    "prune",
    "rows",
    "verify",
]
