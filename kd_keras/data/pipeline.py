"""Turn a split into batches. An example carries its index and its view."""

from collections.abc import Callable

import keras
import numpy as np
import tensorflow as tf

from kd_keras.data import images
from kd_keras.data.augmentation import parse_augmentation
from kd_keras.data.gathering import gatherer, prefetched
from kd_keras.data.mixing import SHARES, mixer, viewer
from kd_keras.data.task import Split


class Epochs:
    """Shuffled batches of a split, one epoch per iteration.

    The order of an epoch and its augmentations depend on the seed and the epoch's number alone,
    so that an interrupted run resumes as if it had not been interrupted. `callback` passes on the
    number when `fit` begins an epoch.

    Args:
        split: the examples.
        batch_size: examples per batch; the last one may be smaller.
        seed: the seed of order and augmentation.
        augmentation: names in `AUGMENTATIONS`, and `mixup`, joined by plus signs. If images are
            mixed, labels and weights are mixed in the same way.
        class_weight: weights by class number, or None.
        views: the number of views of each image, taken in turn; None draws new ones every epoch.
        augmentation_seed: the seed of the augmentation, if `seed` is to decide the order alone: the
            views are then the same for every `seed`.
        classes: the number of classes; needed to mix class numbers.

    Attributes:
        dataset: yields `({"image", "index", "view"}, label)`, or `(..., label, weight)` if the
            split or the classes are weighted. Images are uint8, `(batch, height, width,
            channels)`; the view is the epoch, modulo `views`; labels are class numbers or soft
            labels, as in the split, soft if they are mixed, and left out if the split has none.
        rows: the same batches without the images, for which no pixel is read.
        fresh: whether every epoch augments anew, so that no image is seen twice.
        callback: the callback to pass to `fit`.

    Raises:
        ValueError: for an unknown augmentation, or class numbers to be mixed without `classes`.

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
        classes: int | None = None,
    ):
        # variables, since a constant would repeat the same epoch for ever; and the whole order,
        # since a dataset that shuffles takes longer to begin than a small epoch lasts
        view = tf.Variable(0, trainable=False)
        order = tf.Variable(shuffled(len(split), seed, 0), trainable=False)

        def begin(epoch, logs=None):
            view.assign(epoch if views is None else epoch % views)
            order.assign(shuffled(len(split), seed, epoch))

        self.callback = keras.callbacks.LambdaCallback(on_epoch_begin=begin)
        drawn = seed if augmentation_seed is None else augmentation_seed
        changing = parse_augmentation(augmentation) != ([], False)
        partner_of = mixer(augmentation, drawn, len(split))
        known = _Known(split, view, class_weight, classes, partner_of)
        if split.images is not None and not changing:
            batches = _gathered(split, order, batch_size, known)
        else:
            view_of = viewer(augmentation, drawn, reader_of(split), len(split))
            batches = _one_by_one(split, order, view, batch_size, view_of, known)
        self.dataset = untuned(prefetched(batches, batch_size))
        numbers = _numbers(split, order, view, batch_size, known)
        self.rows = untuned(prefetched(numbers, batch_size))
        self.fresh = changing and views is None


def _gathered(split, order, batch_size, known) -> tf.data.Dataset:
    """Gather whole batches at once, from pixels in memory."""
    fetch = reader_of(split)

    def batch(step):
        index = order[step * batch_size : (step + 1) * batch_size]
        return known.complete(fetch(index), index)

    return tf.data.Dataset.range(-(-len(split) // batch_size)).map(batch)


def _numbers(split, order, view, batch_size, known) -> tf.data.Dataset:
    """Return batches of all that is known of the examples, except the images."""
    if known.mixes:
        whole = _one_by_one(split, order, view, batch_size, lambda index, view: index, known)
    else:
        steps = tf.data.Dataset.range(-(-len(split) // batch_size))
        indices = steps.map(lambda step: order[step * batch_size : (step + 1) * batch_size])
        whole = indices.map(lambda index: known.complete(index, index))

    def without_images(batch, *rest):
        return ({name: batch[name] for name in ("index", "view")}, *rest)

    return whole.map(without_images)


def _one_by_one(split, order, view, batch_size, view_of, known) -> tf.data.Dataset:
    """Decode and augment single images, many in parallel, and only then batch them."""

    def one(place):
        index = order[place]
        return view_of(index, view), index, *known.partner(index)

    images = tf.data.Dataset.range(len(split)).map(one, num_parallel_calls=tf.data.AUTOTUNE)
    return images.batch(batch_size).map(known.complete)


class _Known:
    """The labels and weights of a split's examples, by index, mixed or not."""

    def __init__(self, split: Split, view, class_weight, classes: int | None, partner_of):
        self._view, self._partner_of = view, partner_of
        self._labels = targets(split) if split.labelled else None
        self._weights = example_weights(split, class_weight)
        if partner_of is not None and self._labels is not None and self._labels.ndim == 1:
            if classes is None:
                raise ValueError("To mix class numbers, `classes` must be given. Received: None")
            self._labels = np.eye(classes, dtype="float32")[self._labels]

    @property
    def mixes(self) -> bool:
        """True if labels are mixed with those of a partner."""
        return self._partner_of is not None and self._labels is not None

    def partner(self, index) -> tuple:
        """Return the `Partner` of one example, or an empty tuple if nothing is mixed."""
        return self._partner_of(index, self._view) if self.mixes else ()

    def complete(self, image, index, other=None, share=None):
        """Return what `fit` takes, from images, indices and partners."""
        batch = {"image": image, "index": index, "view": tf.fill(tf.shape(index), self._view)}
        if self._labels is None:
            return (batch,)

        def look_up(rows):
            if other is None:
                return tf.gather(rows, index)
            part = tf.cast(share, tf.float32) / SHARES
            part = part if rows.ndim == 1 else part[:, None]
            return part * tf.gather(rows, index) + (1 - part) * tf.gather(rows, other)

        label = look_up(self._labels)
        return (batch, label) if self._weights is None else (batch, label, look_up(self._weights))


def in_order(split: Split, *, batch_size: int) -> tf.data.Dataset:
    """Return batches of images alone, uint8, in the split's order."""
    fetch = reader_of(split)
    indices = tf.data.Dataset.range(len(split))
    if split.images is not None:
        batches = indices.batch(batch_size).map(fetch)
    else:
        batches = indices.map(fetch, num_parallel_calls=tf.data.AUTOTUNE).batch(batch_size)
    return untuned(prefetched(batches, batch_size))


def targets(split: Split) -> np.ndarray:
    """Return the soft labels if the split has them, and the class numbers otherwise."""
    return split.labels if split.soft_labels is None else split.soft_labels


def example_weights(split: Split, class_weight: dict[int, float] | None) -> np.ndarray | None:
    """Return the example weights times the class weights, float32; None if there are neither."""
    if split.weights is None and class_weight is None:
        return None
    weights = np.ones(len(split)) if split.weights is None else split.weights.astype("float64")
    if class_weight is not None:
        weights = weights * np.array([class_weight.get(int(k), 1.0) for k in split.labels])
    return weights.astype("float32")


def reader_of(split: Split) -> Callable[[tf.Tensor], tf.Tensor]:
    """Return a graph function from an index (or many, for pixels in memory) to images, uint8."""
    if split.images is not None:
        return gatherer(split.images)
    files = images.paths(split.files or ())
    return lambda index: images.decode(tf.gather(files, index), split.image_shape)


def shuffled(count: int, seed: int, epoch: int) -> tf.Tensor:
    """Return the numbers below `count`, int32, in an order decided by `(seed, epoch)`."""
    key = tf.random.experimental.stateless_fold_in(
        tf.constant([seed, 1]), tf.constant(epoch, tf.int64)
    )
    return tf.random.experimental.stateless_shuffle(tf.range(count), key)


def untuned(dataset: tf.data.Dataset) -> tf.data.Dataset:
    """Return the dataset with as many workers as there are cores, and no thread that tunes them.

    That thread sleeps longer and longer, up to a minute, and is not always woken when the iterator
    is dropped: an epoch, or a training run, then takes up to twice as long (docs/notes.md).
    """
    options = tf.data.Options()
    options.autotune.enabled = False
    return dataset.with_options(options)
