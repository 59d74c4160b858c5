"""A model's logits on a whole split."""

import numpy as np
import tensorflow as tf

from kd_keras import cache
from kd_keras.data import pipeline
from kd_keras.data.task import Split
from kd_keras.training import features
from kd_keras.utils import interrupts


class Predictor:
    """Runs a model over splits, in inference mode, traced once.

    Example:
        >>> import kd_keras as kd
        >>> from kd_keras.recipes.predict import Predictor
        >>> task = kd.data.load("digits")
        >>> model = kd.models.build("lenet5", input_shape=task.image_shape, classes=task.classes)
        >>> Predictor(model)(task.test).shape
        (360, 10)
    """

    def __init__(self, model, batch_size: int = 512):
        self._model, self._batch_size = model, batch_size
        self._function = tf.function(
            lambda images: tf.cast(model(images, training=False), tf.float32)
        )

    def __call__(self, split: Split) -> np.ndarray:
        """float32, shape `(len(split), classes)`."""
        size = min(self._batch_size, max(1, (64 << 20) // (4 * int(np.prod(split.image_shape)))))
        graph = self._function.get_concrete_function(
            tf.TensorSpec((None, *split.image_shape), tf.uint8)
        )
        interrupts.check()
        if split.images is not None:
            starts = range(0, len(split), size)
            parts = [graph(tf.constant(split.images[at : at + size])) for at in starts]
        else:
            parts = [graph(batch) for batch in pipeline.in_order(split, batch_size=size)]
        return np.concatenate(parts)

    def repeatedly(self, split: Split, fingerprint: str) -> np.ndarray:
        """As a call, for one that comes after every epoch: a frozen part runs over it once.

        Args:
            split: the images.
            fingerprint: of the split's content.
        """
        frozen = features.cut(self._model)
        if frozen is None:
            return self(split)
        if not cache.fits(frozen.source, len(split)):
            return self(split)
        images = cache.SplitViews(split, fingerprint=fingerprint)
        (rows,) = cache.Cache().open(frozen.source, images).arrays().values()
        return np.asarray(tf.cast(frozen.head(rows, training=False), tf.float32))
