"""Turn a split into batches. An example carries its index and its view."""

import functools
from collections.abc import Callable

import keras
import numpy as np
import tensorflow as tf

from kd_keras.data import images
from kd_keras.data.augmentation import check_images, parse_augmentation
from kd_keras.data.gathering import gatherer, prefetched
from kd_keras.data.mixing import SHARES, mixer, viewer
from kd_keras.data.task import Split


class Epochs:
    """Shuffled batches of a split, epoch after epoch.

    The order of an epoch and its augmentations depend on the seed and the epoch's number alone,
    so that an interrupted run resumes as if it had not been interrupted.

    Args:
        split: the examples.
        batch_size: examples per batch; the last one of an epoch may be smaller.
        seed: the seed of order and augmentation.
        augmentation: names in `AUGMENTATIONS`, and `mixup`, joined by plus signs, each with its
            strength or its default: `"crop=0.125+flip+mixup"`. If images are mixed, labels and
            weights are mixed in the same way.
        class_weight: weights by class number, or None.
        views: the number of views of each image, taken in turn; None draws new ones every epoch.
        augmentation_seed: the seed of the augmentation, if `seed` is to decide the order alone: the
            views are then the same for every `seed`.
        classes: the number of classes; needed to mix class numbers.

    Attributes:
        steps: batches per epoch.
        fresh: whether every epoch augments anew, so that no image is seen twice.
        callback: the callback to pass to `fit` along with `dataset`: it passes on the number of
            the epoch that begins.

    Raises:
        ValueError: for an unknown augmentation, a strength out of range, images that an
            augmentation is not made for, or class numbers to be mixed without `classes`.

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
        check_images(augmentation, split.image_shape)
        drawn = seed if augmentation_seed is None else augmentation_seed
        changing = parse_augmentation(augmentation) != ([], False)
        self._split, self._batch_size, self._seed, self._views = split, batch_size, seed, views
        self._known = _Known(split, class_weight, classes, mixer(augmentation, drawn, len(split)))
        self._view_of = viewer(augmentation, drawn, reader_of(split), len(split))
        self._gathers = split.images is not None and not changing
        self.steps = -(-len(split) // batch_size)
        self.fresh = changing and views is None
        number = self._number = tf.Variable(0, trainable=False, dtype=tf.int64)
        self.callback = keras.callbacks.LambdaCallback(
            on_epoch_begin=lambda epoch, logs=None: number.assign(epoch)
        )

    @functools.cached_property
    def dataset(self) -> tf.data.Dataset:
        """The batches of one epoch: of the first, or of the one that `callback` was told of.

        It yields `({"image", "index", "view"}, label)`, or `(..., label, weight)` if the split or
        the classes are weighted. Images are uint8, `(batch, height, width, channels)`; the view is
        the epoch, modulo `views`; labels are class numbers or soft labels, as in the split, soft if
        they are mixed, and left out if the split has none.
        """
        one = tf.data.Dataset.range(1).map(lambda _: self._number.read_value())
        return self._batches(one, images=True).apply(
            tf.data.experimental.assert_cardinality(self.steps)
        )

    def endless(self, first: int = 0, *, images: bool = True) -> tf.data.Dataset:
        """Return the batches of all epochs, without an end.

        Keras makes two iterators per epoch of a `dataset`, which takes longer than a small epoch;
        it makes one of these batches if `fit` is given `steps_per_epoch`.

        Args:
            first: the number of the first epoch.
            images: whether the batches hold the images; without them, no pixel is read.
        """
        numbers = tf.data.Dataset.range(first, tf.int64.max)
        infinite = tf.data.experimental.assert_cardinality(tf.data.INFINITE_CARDINALITY)
        return self._batches(numbers, images=images).apply(infinite)

    def _batches(self, numbers: tf.data.Dataset, *, images: bool) -> tf.data.Dataset:
        """Return the batches of the epochs of these numbers."""

        @tf.autograph.experimental.do_not_convert
        def begin(number):
            view = number if self._views is None else number % self._views
            return shuffled(len(self._split), self._seed, number), tf.cast(view, tf.int32)

        # one epoch ahead: the order is drawn during the epoch before
        epochs = numbers.map(begin).prefetch(1)
        whole = self._gathers if images else not self._known.mixes
        batches = (self._gathered if whole else self._one_by_one)(epochs, images=images)
        return untuned(prefetched(batches, self._batch_size))

    def _gathered(self, epochs: tf.data.Dataset, *, images: bool) -> tf.data.Dataset:
        """Gather whole batches at once, from pixels in memory."""
        size, fetch = self._batch_size, reader_of(self._split)

        @tf.autograph.experimental.do_not_convert
        def places(order, view):
            steps = tf.data.Dataset.range(self.steps)
            return steps.map(lambda step: (order[step * size : (step + 1) * size], view))

        @tf.autograph.experimental.do_not_convert
        def batch(index, view):
            seen = {"image": fetch(index)} if images else {}
            return self._known.complete(seen, index, tf.fill(tf.shape(index), view))

        return epochs.flat_map(places).map(batch)

    def _one_by_one(self, epochs: tf.data.Dataset, *, images: bool) -> tf.data.Dataset:
        """Decode and augment single images, many in parallel, and only then batch them."""

        @tf.autograph.experimental.do_not_convert
        def one(index, view):
            seen = {"image": self._view_of(index, view)} if images else {}
            return seen, index, view, *self._known.partner(index, view)

        @tf.autograph.experimental.do_not_convert
        def batches(order, view):
            places = tf.data.Dataset.range(len(self._split))
            examples = places.map(
                lambda place: one(order[place], view), num_parallel_calls=tf.data.AUTOTUNE
            )
            return examples.batch(self._batch_size)

        return epochs.flat_map(batches).map(self._known.complete)


class _Known:
    """The labels and weights of a split's examples, by index, mixed or not."""

    def __init__(self, split: Split, class_weight, classes: int | None, partner_of):
        self._partner_of = partner_of
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

    def partner(self, index, view) -> tuple:
        """Return the `Partner` of one example, or an empty tuple if nothing is mixed."""
        return self._partner_of(index, view) if self.mixes else ()

    @tf.autograph.experimental.do_not_convert
    def complete(self, seen, index, view, other=None, share=None):
        """Return what `fit` takes, from a dict of images, indices, views and partners."""
        batch = {**seen, "index": index, "view": view}
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


def shuffled(count: int, seed: int, epoch: int | tf.Tensor) -> tf.Tensor:
    """Return the numbers below `count`, int32, in an order decided by `(seed, epoch)`."""
    key = tf.random.experimental.stateless_fold_in(tf.constant([seed, 1]), tf.cast(epoch, tf.int64))
    return tf.random.experimental.stateless_shuffle(tf.range(count), key)


def untuned(dataset: tf.data.Dataset) -> tf.data.Dataset:
    """Return the dataset with as many workers as there are cores, and no thread that tunes them.

    That thread sleeps longer and longer, up to a minute, and is not always woken when the iterator
    is dropped: an epoch, or a training run, then takes up to twice as long (docs/notes.md).
    """
    options = tf.data.Options()
    options.autotune.enabled = False
    return dataset.with_options(options)
