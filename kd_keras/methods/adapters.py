"""Layers that bring the features of two networks to one shape.

Features are vectors `(batch, size)` or maps `(batch, height, width, channels)`. If one side is a
vector, the other's maps are averaged over all places; otherwise the larger map is averaged down.
Trained weights match the channels.
"""

from collections.abc import Sequence

from keras import layers

from kd_keras.losses.numeric import averaged as averaged

Shape = Sequence[int | None]
Size = tuple[int, ...]  # height and width; empty for a vector

WIDEST_KERNEL = 7  # a larger difference of two maps is averaged away instead


def checked(what: str, student: Shape, teacher: Shape, *, maps: bool = False) -> None:
    """Raise `ValueError` for features that no adapter can bring to one shape.

    Args:
        what: the method and its taps, for the message.
        student, teacher: shapes with None for the batch.
        maps: whether both must be maps.
    """
    ranks = (4,) if maps else (2, 4)
    for shape in (student, teacher):
        if len(shape) not in ranks or None in shape[1:]:
            wanted = "maps, (batch, height, width, channels)"
            wanted = wanted if maps else f"vectors, (batch, size), or {wanted}"
            raise ValueError(
                f"{what} takes {wanted}, of known size. Received: features {tuple(student)} of "
                f"the student and {tuple(teacher)} of the teacher. Name other taps."
            )


def common_size(student: Shape, teacher: Shape) -> Size:
    """Return the smaller height and width of two maps, or `()` if one side is a vector."""
    if len(student) == 2 or len(teacher) == 2:
        return ()
    return tuple(min(sides) for sides in zip(student[1:3], teacher[1:3], strict=True))  # type: ignore


class Adapter(layers.Layer):
    """Trained layers that bring the student's features to the teacher's shape.

    Called on both sides' features, it returns both in one shape.

    Args:
        size: height and width to which both are averaged first; None leaves them unchanged.
        inner: the layers.
        student: the student's shape, for which the layers are built.
    """

    def __init__(self, size: Size | None, inner: Sequence[layers.Layer], student: Shape, **kwargs):
        super().__init__(**kwargs)
        self.size, self.inner = size, list(inner)
        shape = tuple(student)
        if size is not None and len(shape) == 4:
            shape = (None, *size, shape[-1])
        for layer in self.inner:
            layer.build(shape)
            shape = tuple(layer.compute_output_shape(shape))
        self.adapted_shape = shape
        self.built = True

    def call(self, student, teacher, training=False):
        if self.size is not None:
            student, teacher = averaged(student, self.size), averaged(teacher, self.size)
        for layer in self.inner:
            normalises = isinstance(layer, layers.BatchNormalization)
            student = layer(student, training=training) if normalises else layer(student)
        return student, teacher


def regressor(student: Shape, teacher: Shape, *, normalised: bool, activation=None, **options):
    """Make one layer of weights to the teacher's features: a convolution, or dense for vectors.

    The convolution depends on the student's map: 1x1 for a map of the teacher's size, 3x3 with
    stride 2 for one of twice the size, transposed for one of half the size, and unpadded for one
    that is larger by up to 6 places, which it cuts off. Other maps are averaged to a common size
    first.

    Args:
        student, teacher: shapes that `checked` has accepted.
        normalised: add a batch normalisation behind the layer.
        activation: the name of the teacher's own activation behind the hint.
        options: of the layer with weights, such as its initializer.

    Returns:
        An `Adapter`.
    """
    dtype, channels = options.get("dtype", "float32"), teacher[-1]
    size: Size | None = common_size(student, teacher)
    if not size:
        inner: list[layers.Layer] = [layers.Dense(channels, **options)]
    else:
        inner = _convolution(tuple(student[1:3]), tuple(teacher[1:3]), channels, options)
        size = None if inner else size
        inner = inner or [layers.Conv2D(channels, 1, **options)]
    if normalised:
        inner.append(layers.BatchNormalization(momentum=0.9, epsilon=1e-5, dtype=dtype))
    if activation is not None:
        inner.append(layers.Activation(activation, dtype=dtype))
    return Adapter(size, inner, student, dtype=dtype)


def continuation(what: str, before: Shape, after: Shape, *, activation=None, **options) -> Adapter:
    """Make layers from the features of one network to the input shape of another's layers.

    They are empty if the shapes are equal. Otherwise maps are averaged or interpolated to the size,
    and a 3x3 convolution brings them to the channels. If `after` is a vector, maps are averaged
    over all places, and a dense layer follows. Last come a batch normalisation and the activation.

    Args:
        what: what the layers belong to, for the message.
        before, after: shapes with None for the batch.
        activation: the name of an activation.
        options: of the layers.

    Returns:
        An `Adapter`.

    Raises:
        ValueError: for features of unknown size, or a map that would have to come from a vector.
    """
    dtype = options.get("dtype", "float32")
    if tuple(before[1:]) == tuple(after[1:]):
        return Adapter(None, [], before, dtype=dtype)
    checked(what, after, before, maps=len(after) == 4)
    if len(after) == 2:
        size: Size = ()
        inner: list[layers.Layer] = [layers.Dense(after[-1], **options)]
    else:
        size, wanted = common_size(before, after), tuple(after[1:3])
        inner = [] if size == wanted else [layers.Resizing(*wanted, dtype=dtype)]
        inner.append(layers.Conv2D(after[-1], 3, padding="same", **options))
    inner.append(layers.BatchNormalization(momentum=0.9, epsilon=1e-5, dtype=dtype))
    if activation is not None:
        inner.append(layers.Activation(activation, dtype=dtype))
    return Adapter(size, inner, before, dtype=dtype)


def _convolution(before, after, channels, options: dict) -> list[layers.Layer]:
    """Return layers from one height and width to another; none if no convolution fits."""
    steps = [a - b for a, b in zip(before, after, strict=True)]
    if before == tuple(2 * side for side in after):
        dtype = options.get("dtype", "float32")
        # pad symmetrically: `same` would pad at the end only
        pad = layers.ZeroPadding2D(1, dtype=dtype)
        return [pad, layers.Conv2D(channels, 3, strides=2, **options)]
    if after == tuple(2 * side for side in before):
        return [layers.Conv2DTranspose(channels, 4, strides=2, padding="same", **options)]
    if all(0 <= step < WIDEST_KERNEL for step in steps):
        return [layers.Conv2D(channels, [step + 1 for step in steps], **options)]
    return []


def channel_network(student: Shape, teacher: Shape, depth: int, **options) -> Adapter:
    """Make `depth` dense layers over the channels of each place, with ReLU between them.

    Args:
        student, teacher: shapes that `checked` has accepted.
        depth: the number of layers.
        options: of each layer.

    Returns:
        An `Adapter`.
    """
    dense = [
        layers.Dense(teacher[-1], activation="relu" if k < depth - 1 else None, **options)
        for k in range(depth)
    ]
    dtype = options.get("dtype", "float32")
    return Adapter(common_size(student, teacher), dense, student, dtype=dtype)
