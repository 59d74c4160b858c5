"""The faults of image files, as a loader reports them."""

from kd_keras.data import looking


def check_files(rows, shape=None):
    """The faults of `(row, path)` pairs."""
    pairs = list(rows)
    seen = looking.look(path for _, path in pairs)
    return looking.faults(seen, rows=[row for row, _ in pairs], shape=shape)
