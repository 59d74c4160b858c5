"""From a split to batches. An example carries its index and its view."""

import keras
import numpy as np
import tensorflow as tf

from kd_keras.data import images
from kd_keras.data.augmentation import augmenter
from kd_keras.data.task import Split
from kd_keras.pipes import untuned


class Epochs:
    """Shuffled batches of a split, an epoch an iteration.

    The order of an epoch and its augmentations depend on the seed and the epoch's number alone,
    so that a run that was interrupted goes on as if it had not been. `callback` tells the number
    when `fit` begins an epoch.

    Args:
        split: the examples.
        batch_size: examples a batch; the last one may be smaller.
        seed: of order and augmentation.
        augmentation: a name in `AUGMENTATIONS`.
        class_weight: weight by class number, or None.
        views: augmented versions of each image, taken in turn; None draws new ones every epoch.
        augmentation_seed: of the augmentation, where `seed` is to decide the order alone: the
            versions are then the same for every `seed`.

    Attributes:
        dataset: yields `({"image", "index", "view"}, label)`, or `(..., label, weight)` where the
            split or the classes are weighted. Images are uint8, `(batch, height, width,
            channels)`; the view is the epoch, modulo `views`; labels are class numbers or soft
            labels, as the split has them.
        rows: the same batches without the images, for which no pixel is read.
        fresh: whether every epoch augments anew, so that no image is seen twice.
        callback: to be given to `fit`.

    Example:
        >>> import kd_keras as kd
        >>> from kd_keras.data.pipeline import Epochs
        >>> epochs = Epochs(kd.data.load("digits").train, batch_size=64, seed=0)
        >>> epochs.dataset.element_spec[0]["image"].shape
        TensorShape([None, 8, 8, 1])
    """

    def __init__(
        self,
        split: Split,
        *,
        batch_size: int,
        seed: int,
        augmentation: str = "none",
        class_weight: dict[int, float] | None = None,
        views: int | None = None,
        augmentation_seed: int | None = None,
    ):
        # variables, since a constant would be the same epoch for ever; and the order as a whole,
        # since a dataset that shuffles takes longer to begin than a small epoch lasts
        view = tf.Variable(0, trainable=False)
        order = tf.Variable(shuffled(len(split), seed, 0), trainable=False)

        def begin(epoch, logs=None):
            view.assign(epoch if views is None else epoch % views)
            order.assign(shuffled(len(split), seed, epoch))

        self.callback = keras.callbacks.LambdaCallback(on_epoch_begin=begin)
        augment = augmenter(augmentation, seed if augmentation_seed is None else augmentation_seed)
        complete = _completer(split, view, class_weight)
        if split.images is not None and augment is None:
            batches = _gathered(split, order, batch_size, complete)
        else:
            batches = _one_by_one(split, order, view, batch_size, augment, complete)
        self.dataset = untuned(batches.prefetch(2))
        self.rows = untuned(_numbers(split, order, batch_size, complete).prefetch(2))
        self.fresh = augment is not None and views is None


def _gathered(split, order, batch_size, complete) -> tf.data.Dataset:
    """Whole batches at once, from pixels in memory."""
    fetch = _fetcher(split)

    def batch(step):
        index = order[step * batch_size : (step + 1) * batch_size]
        return complete(fetch(index), index)

    return tf.data.Dataset.range(-(-len(split) // batch_size)).map(batch)


def _numbers(split, order, batch_size, complete) -> tf.data.Dataset:
    """What is known of the examples, but for the images."""

    def batch(step):
        index = order[step * batch_size : (step + 1) * batch_size]
        known, *rest = complete(index, index)
        return ({name: known[name] for name in ("index", "view")}, *rest)

    return tf.data.Dataset.range(-(-len(split) // batch_size)).map(batch)


def _one_by_one(split, order, view, batch_size, augment, complete) -> tf.data.Dataset:
    """Image after image, many at a time: decoded, augmented, and only then put together."""
    fetch = _fetcher(split)

    def one(place):
        index = order[place]
        image = fetch(index)
        return image if augment is None else augment(image, index, view), index

    images = tf.data.Dataset.range(len(split)).map(one, num_parallel_calls=tf.data.AUTOTUNE)
    return images.batch(batch_size).map(complete)


def _completer(split, view, class_weight):
    """A graph function from images and indices to what `fit` takes."""
    labels, weights = targets(split), example_weights(split, class_weight)

    def complete(image, index):
        batch = {"image": image, "index": index, "view": tf.fill(tf.shape(index), view)}
        label = tf.gather(labels, index)
        return (batch, label) if weights is None else (batch, label, tf.gather(weights, index))

    return complete


def in_order(split: Split, *, batch_size: int) -> tf.data.Dataset:
    """Batches of images alone, uint8, in the split's order."""
    if split.images is not None:
        return tf.data.Dataset.from_tensor_slices(split.images).batch(batch_size)
    fetch = _fetcher(split)
    indices = tf.data.Dataset.range(len(split))
    decoded = indices.map(fetch, num_parallel_calls=tf.data.AUTOTUNE)
    return untuned(decoded.batch(batch_size).prefetch(2))


def targets(split: Split) -> np.ndarray:
    """Soft labels where the split has them, else class numbers."""
    return split.labels if split.soft_labels is None else split.soft_labels


def example_weights(split: Split, class_weight: dict[int, float] | None) -> np.ndarray | None:
    """The product of an example's own weight and its class's, float32; None where all are 1."""
    if split.weights is None and class_weight is None:
        return None
    weights = np.ones(len(split)) if split.weights is None else split.weights.astype("float64")
    if class_weight is not None:
        weights = weights * np.array([class_weight.get(int(k), 1.0) for k in split.labels])
    return weights.astype("float32")


def _fetcher(split: Split):
    """A graph function from an index (or many, for pixels in memory) to images."""
    if split.images is not None:
        pixels = tf.constant(split.images)
        return lambda index: tf.gather(pixels, index)
    files = tf.constant([str(file) for file in split.files or ()])
    return lambda index: images.decode(tf.gather(files, index), split.image_shape)


def shuffled(count: int, seed: int, epoch: int) -> tf.Tensor:
    """The numbers below `count`, int32, in an order decided by `(seed, epoch)`."""
    key = tf.random.experimental.stateless_fold_in(
        tf.constant([seed, 1]), tf.constant(epoch, tf.int64)
    )
    return tf.random.experimental.stateless_shuffle(tf.range(count), key)
