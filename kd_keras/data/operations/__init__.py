"""Changes of a picture that augment it: functions of its pixels and a random key.

`draws` has the random numbers, `exact` the arithmetic. `geometry` moves pixels, `colours` and
`stains` change their values, `policies` choose among many such changes. Names and strengths are in
`data.augmentation`.

Every function that is made here is `(image, key) -> image`, a part of a `tf.data` graph, and gives
the same pixels on every machine: see `exact`.
"""

from collections.abc import Callable

import tensorflow as tf

Change = Callable[[tf.Tensor, tf.Tensor], tf.Tensor]
"""A function from an image, `(height, width, channels)`, and a random key, int32 `(2,)`, to an
image of the same shape and type."""
