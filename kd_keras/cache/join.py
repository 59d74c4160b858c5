"""Join stored predictions to an input pipeline: by index, or by the pixels of the image."""

from collections.abc import Callable, Mapping, Sequence

import keras
import numpy as np
import tensorflow as tf

from kd_keras.cache.policy import Cache
from kd_keras.cache.rows import Stored, of_arrays
from kd_keras.cache.transfer import BATCH, Stream, check_views, pixel_fingerprints
from kd_keras.data.augmentation import change_of, joined, parse_augmentation
from kd_keras.data.operations import Change
from kd_keras.models.taps import input_spec
from kd_keras.teachers import TeacherSource, as_source
from kd_keras.utils.files import fingerprint as fingerprint_of


def join(
    dataset: tf.data.Dataset, rows: Stored | Mapping[str, np.ndarray], name: str = "teacher"
) -> tf.data.Dataset:
    """Join stored predictions to a pipeline's batches, by index and view.

    Args:
        dataset: yields `({"image": ..., "index": ...}, ...)` in batches; also `"view"`, if the rows
            hold several views of every example. A view beyond the last starts at the first again.
        rows: the result of `Cache.open`; or a dict from tap to array, row k for index k.
        name: the key of the rows in a batch.

    Returns:
        The dataset with the rows under `name`; a `Distiller` uses rows named `"teacher"` instead of
        its teacher. If the rows have fingerprints of their images, an image with other pixels ends
        the iteration with `tf.errors.InvalidArgumentError`.

    Raises:
        ValueError: if the batches lack index or view.

    Example:
        >>> import numpy as np, tensorflow as tf, kd_keras as kd
        >>> x = {"image": np.zeros((3, 2), "float32"), "index": np.array([2, 0, 1])}
        >>> batches = tf.data.Dataset.from_tensor_slices((x, [0, 1, 0])).batch(3)
        >>> joined = kd.cache.join(batches, {"logits": np.eye(3, dtype="float32")})
        >>> next(iter(joined))[0]["teacher"]["logits"].numpy().argmax(axis=1).tolist()
        [2, 0, 1]
    """
    stored = rows if isinstance(rows, Stored) else of_arrays(rows)

    # it decides nothing by a tensor's value, and converting it takes as long as many small epochs
    @tf.autograph.experimental.do_not_convert
    def with_rows(batch, *rest):
        return ({**batch, name: stored.at(batch)}, *rest)

    return dataset.map(with_rows, num_parallel_calls=tf.data.AUTOTUNE)


def attach(
    dataset: tf.data.Dataset,
    teacher: keras.Model | TeacherSource,
    *,
    taps: Sequence[str] = ("logits",),
    cache: Cache | None = None,
    augmentation: str | Change | None = None,
    views: int = 1,
    seed: int = 0,
    fingerprint: str | None = None,
) -> tf.data.Dataset:
    """Add the teacher's predictions, computed once, to your own pipeline.

    Rows are found by the pixels of the image, so the order does not matter. An image without a row
    is an error; it never gets another image's row.

    Args:
        dataset: finite; yields images, `(images, ...)` or `({"image": images, ...}, ...)`, in
            batches or one by one. Without `augmentation`, it must yield the same images in every
            pass.
        teacher: a Keras model that returns logits, or a teacher source. A source without a model
            is assumed to take images of three dimensions.
        taps: the teacher's taps that a method needs.
        cache: where and how the predictions are stored; by default in memory, if they fit.
        augmentation: names in `data.augmentation.AUGMENTATIONS` joined by plus signs, each with its
            strength or its default; or a function `(image, key) -> image` whose only randomness is
            `tf.random.stateless_*` with that key. `dataset` must then yield images one by one, not
            augmented; for most augmentations, of uint8.
        views: the number of augmented views of every example.
        seed: of the augmentation.
        fingerprint: a name for the content, to be changed whenever the images, or the code of an
            augmentation function, change. None takes it from the pixels, in a pass over the whole
            pipeline.

    Returns:
        A dataset of `({"image": ..., "teacher": {tap: ...}}, ...)`, with labels and weights
        unchanged. With `augmentation` it is `views` passes long, pass v with view v of every
        example: shuffle, batch and repeat it, and give `steps_per_epoch` to `fit`.

    Raises:
        ValueError: for a pipeline that is infinite, empty, not of images, or that gives other
            images in its second pass; and for predictions that cannot be stored.
        tf.errors.InvalidArgumentError: while iterating, for an image without a row.

    Example:
        >>> import numpy as np, tensorflow as tf, kd_keras as kd
        >>> x, y = np.random.default_rng(0).integers(0, 256, (32, 8, 8, 1)), np.arange(32) % 10
        >>> teacher = kd.models.build("cnn", input_shape=(8, 8, 1), classes=10)
        >>> pipeline = tf.data.Dataset.from_tensor_slices((x, y)).shuffle(32).batch(8)
        >>> attached = kd.cache.attach(pipeline, teacher)
        >>> attached.element_spec[0]["teacher"]["logits"].shape
        TensorShape([None, 10])
    """
    source = as_source(teacher, taps)
    check_views(views, augmentation)
    batched = _is_batched(dataset, source)
    if augmentation is not None:
        if batched:
            raise ValueError(
                "With `augmentation`, `dataset` must yield images one by one, since every example "
                "gets its own views: attach first, then batch the result."
            )
        dataset = _in_views(dataset, _augmenter(augmentation, seed), views)
        if fingerprint is not None:
            named = joined(augmentation) if isinstance(augmentation, str) else "function"
            fingerprint = fingerprint_of(fingerprint, named, views, seed)
    images = dataset.map(lambda x, *_: _image(x), num_parallel_calls=tf.data.AUTOTUNE)
    images = images if batched else images.batch(BATCH)
    transfer_set = Stream(images.prefetch(2), fingerprint=fingerprint)
    stored = (cache or Cache()).open(source, transfer_set)
    return dataset.map(_joiner(dataset, stored, batched), num_parallel_calls=tf.data.AUTOTUNE)


def _image(x) -> tf.Tensor:
    if not isinstance(x, Mapping):
        return x
    if "image" not in x:
        raise ValueError(f"`dataset` yields dicts without 'image'. Received: {sorted(x)}")
    return x["image"]


def _is_batched(dataset: tf.data.Dataset, source: TeacherSource) -> bool:
    """Return whether the images come in batches, as told by the rank that the teacher takes."""
    spec = dataset.element_spec
    image = _image(spec[0] if isinstance(spec, tuple) else spec)
    model = getattr(source, "model", None)
    rank = 4 if model is None else input_spec(model).shape.rank
    if not isinstance(image, tf.TensorSpec) or image.shape.rank not in (rank, rank - 1):
        raise ValueError(
            "`dataset` must yield images, (images, ...) or ({'image': images, ...}, ...), and the "
            f"teacher takes images of {rank - 1} dimensions. Received: {spec}"
        )
    return image.shape.rank == rank


def _augmenter(augmentation: str | Change, seed: int) -> Callable:
    """Return a graph function from an image and a view's number to the augmented image.

    The image's own pixels identify the example, which has no index here.
    """
    if isinstance(augmentation, str) and parse_augmentation(augmentation)[1]:
        raise ValueError(
            "`mixup` needs a second image, but a pipeline of your own yields one at a time. Mix "
            "in the pipeline and let the teacher run at every step, or use data.pipeline.Epochs "
            "with cache.SplitViews, whose mixed views can be stored. Received: "
            f"augmentation={augmentation!r}"
        )
    function = change_of(augmentation) if isinstance(augmentation, str) else augmentation
    if function is None:
        raise ValueError("`augmentation`='none' changes nothing: leave it out.")

    def augment(image, view):
        key = tf.constant([seed, 0])
        for number in (pixel_fingerprints(image[None])[0], view):
            key = tf.random.experimental.stateless_fold_in(key, number)
        return tf.ensure_shape(function(image, key), image.shape)

    return augment


def _in_views(dataset: tf.data.Dataset, augment: Callable, views: int) -> tf.data.Dataset:
    """Return all examples in their first view, then all in their second, and so on."""

    def one_pass(view):
        def one(x, *rest):
            image = augment(_image(x), view)
            x = {**x, "image": image} if isinstance(x, Mapping) else image
            return (x, *rest) if isinstance(dataset.element_spec, tuple) else x

        return dataset.map(one, num_parallel_calls=tf.data.AUTOTUNE)

    return tf.data.Dataset.range(views).flat_map(one_pass)


def _joiner(dataset: tf.data.Dataset, stored: Stored, batched: bool) -> Callable:
    def with_rows(x, *rest):
        image = _image(x)
        views = stored.gather(stored.lookup(image if batched else image[None]))
        if not batched:
            views = {tap: view[0] for tap, view in views.items()}
        named = dict(x) if isinstance(x, Mapping) else {"image": image}
        x = {**named, "teacher": views}
        return (x, *rest) if isinstance(dataset.element_spec, tuple) else x

    return with_rows
