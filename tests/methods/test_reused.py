"""`SimKD`: the sheet, what of the teacher is deployed, and when it cannot be."""

import keras
import numpy as np
import pytest
from keras import layers

import kd_keras as kd
from kd_keras import losses
from kd_keras.losses.numeric import averaged
from kd_keras.methods import SimKD

rng = np.random.default_rng(2)
STUDENT, TEACHER = rng.standard_normal((2, 4, 4, 3)), np.abs(rng.standard_normal((2, 2, 2, 4)))
KERNELS = [rng.standard_normal(shape) for shape in ((1, 1, 3, 2), (3, 3, 2, 2), (1, 1, 2, 4))]
HEAD = rng.standard_normal((4, 3)), rng.standard_normal(3)


def of_the_sheet(student, teacher):
    """The method on maps of these sizes, with the sheet's weights and the sheet's teacher."""
    inputs = keras.Input(teacher.shape[1:], dtype="float64")
    dense = layers.Dense(3, dtype="float64")
    behind = keras.Model(
        inputs, dense(layers.GlobalAveragePooling2D(dtype="float64")(inputs)), name="behind"
    )
    dense.set_weights(HEAD)
    method = SimKD("stage2", "stage2", activation="relu", dtype="float64")
    method.adopt(lambda tap: behind)
    method.build({"stage2": (None, *student.shape[1:])}, {"stage2": (None, *teacher.shape[1:])})
    kernels = [x for x in method.projector.layers if isinstance(x, layers.Conv2D)]
    for layer, kernel in zip(kernels, KERNELS, strict=True):
        layer.set_weights([kernel])
    return method


def slow_projection(x):
    """The projector with the statistics of the batch, place by place."""
    for kernel in KERNELS:
        side, reach = x.shape[1], kernel.shape[0] // 2
        y = np.zeros((*x.shape[:3], kernel.shape[3]))
        for n, i, j in np.ndindex(*x.shape[:3]):
            for a, b in np.ndindex(*kernel.shape[:2]):
                row, column = i + a - reach, j + b - reach
                if 0 <= row < side and 0 <= column < side:
                    y[n, i, j] += x[n, row, column] @ kernel[a, b]
        mean, variance = y.mean(axis=(0, 1, 2)), y.var(axis=(0, 1, 2))
        x = np.maximum((y - mean) / np.sqrt(variance + 1e-5), 0)
    return x


LARGER = np.abs(np.random.default_rng(3).standard_normal((2, 4, 4, 4)))


@pytest.mark.parametrize(
    ("student", "teacher", "loss", "logits"),
    [
        (
            STUDENT,
            TEACHER,
            0.68541834,
            [[-0.80217645, 1.33462675, -0.33979114], [-0.79766315, 2.12517584, -0.31749809]],
        ),
        (
            STUDENT[:, :2, :2],
            LARGER,
            0.44533168,
            [[-0.62717528, 1.66539477, -0.66100481], [-1.14428599, 1.85432138, -0.15654412]],
        ),
    ],
    ids=["the student's map is larger", "the teacher's map is larger"],
)
def test_loss_and_logits_are_those_of_the_sheet_and_of_loops(student, teacher, loss, logits):
    method = of_the_sheet(student, teacher)
    got = method({"stage2": student}, {"stage2": teacher}, {}, training=True)
    np.testing.assert_allclose(np.mean(got), loss, atol=5e-9)
    projected = method.projector(student, training=True)
    np.testing.assert_allclose(method.head(projected), logits, atol=5e-9)
    small, target = (np.asarray(averaged(x, (2, 2))) for x in (student, teacher))
    np.testing.assert_allclose(projected, slow_projection(small), atol=1e-12)
    slow = np.mean((slow_projection(small) - target) ** 2, axis=(1, 2, 3))
    np.testing.assert_allclose(got, slow)


def test_agreement_costs_nothing():
    projected = np.array([[1.0, 1, 2], [0, 3, 3], [1, 0, 0], [1, 0, 0]])
    teacher = np.array([[1.0, 2, 2], [0, 3, 4], [2, 0, 0], [1, 1, 0]])
    loss = losses.mean_squared_difference(projected, teacher)
    np.testing.assert_allclose(np.mean(loss), 0.33333333, atol=5e-9)
    np.testing.assert_array_equal(losses.mean_squared_difference(teacher, teacher), 0.0)


# --- in a Distiller ---


def convolutional(width, seed, *, size=8, pooled=True, strides=2, wide=0, classes=3):
    """Maps of half of the size at `maps`, and behind them three logits."""
    keras.utils.set_random_seed(seed)
    inputs = keras.Input((size, size, 1))
    options = {"padding": "same", "activation": "relu", "strides": strides}
    x = layers.Conv2D(width, 3, name="maps", **options)(inputs)
    x = (layers.GlobalAveragePooling2D() if pooled else layers.Flatten())(x)
    if wide:  # nor need it be the last layer alone
        x = layers.BatchNormalization()(layers.Dense(wide, activation="relu")(x))
        x = layers.Dropout(0.5)(x)
    return keras.Model(inputs, layers.Dense(classes, name="logits")(x), name=f"net{seed}")


def distiller(student, teacher, *taps, fitted=True, **settings):
    method = SimKD(*(taps or ("maps", "maps")), **settings)
    made = kd.Distiller(student=student, teacher=teacher, method=method)
    made.compile(keras.optimizers.Adam(1e-2), run_eagerly=True)
    if fitted:
        made.fit(images(), epochs=1, batch_size=8, verbose=0)
    return made


def images(n=16, size=8):
    return np.random.default_rng(0).normal(size=(n, size, size, 1)).astype("float32")


def test_the_deployed_student_answers_with_the_teachers_layers_and_is_counted_so(tmp_path):
    student, teacher = convolutional(4, 0), convolutional(6, 1, wide=5)
    before, own = teacher.get_weights(), student.get_layer("logits").get_weights()
    made, x = distiller(student, teacher), images()
    projected = made.method.projector(made.extractor(x)["maps"], training=False)
    pooled = np.mean(projected, axis=(1, 2))
    want = pooled
    for layer in teacher.layers[3:]:
        want = layer(want, training=False)
    for got in (
        made.deployed(x),
        made.method.deployed_logits(made.extractor(x)),
        made.predict(x, verbose=0),
    ):
        np.testing.assert_allclose(got, want, atol=1e-5)
    # inner width 3: 4*3 + 9*9 + 3*6 without biases; normalisations of 3, 3 and 6 channels
    parts = {
        "the student's first layer": student.get_layer("maps").count_params(),
        "projector": 4 * 3 + 9 * 9 + 3 * 6 + 4 * (3 + 3 + 6),
        "the teacher's layers": sum(layer.count_params() for layer in teacher.layers[3:]),
    }
    assert made.deployed.count_params() == sum(parts.values())
    # neither the teacher nor the student's own head has moved, and both are others' no longer
    for old, now in zip(before, teacher.get_weights(), strict=True):
        np.testing.assert_array_equal(now, old)
    np.testing.assert_array_equal(student.get_layer("logits").get_weights()[0], own[0])
    theirs = {id(v) for v in teacher.variables}
    assert not any(id(v) in theirs for v in (*made.deployed.variables, *made.variables))
    made.deployed.save(tmp_path / "student.keras")
    again = keras.models.load_model(tmp_path / "student.keras")
    np.testing.assert_allclose(again(x), made.deployed(x), atol=1e-6)
    assert all(type(x).__module__.startswith("keras.") for x in again._flatten_layers())


def test_a_projected_map_that_is_the_teachers_gives_the_teachers_answers():
    teacher = convolutional(4, 1)
    made = distiller(convolutional(4, 0), teacher, fitted=False)
    maps = keras.Model(teacher.input, teacher.get_layer("maps").output)(images())
    np.testing.assert_allclose(made.method.head(maps), teacher(images()), atol=1e-6)


SIZES = {
    "windows that overlap": {"size": 14},  # 7x7 to 4x4
    "a smaller map": {"size": 4},
}


@pytest.mark.parametrize("sizes", SIZES)
def test_maps_of_other_sizes_meet_at_the_smaller_one(sizes):
    size = SIZES[sizes]["size"]
    student, teacher = convolutional(4, 0, size=size), convolutional(6, 1, size=8)
    method = SimKD("maps", "maps")
    method.adopt(lambda tap: kd.models.tails.behind(teacher, tap))
    method.build({"maps": (None, size // 2, size // 2, 4)}, {"maps": (None, 4, 4, 6)})
    maps = np.random.default_rng(0).normal(size=(2, size // 2, size // 2, 4))
    few = min(size // 2, 4)
    inner = method.projector.layers
    brought = maps
    for layer in inner[: [isinstance(x, layers.Conv2D) for x in inner].index(True)]:
        brought = layer(brought)
    np.testing.assert_allclose(brought, averaged(maps, (few, few)), atol=1e-6)
    deployed = method.deploy(student, lambda tap: student.get_layer(tap).output)
    assert deployed(images(size=size)).shape == (16, 3)
    assert all(w.trainable is False for w in deployed.weights if "einsum" in w.path)


def test_vectors_are_projected_too():
    made = distiller(convolutional(4, 0), convolutional(6, 1), "embedding", "embedding")
    assert made.deployed(images()).shape == (16, 3)
    assert [len(w.shape) for w in made.method.projector.trainable_weights[::3]] == [2, 2, 2]
    mixed = distiller(convolutional(4, 0), convolutional(6, 1), "embedding", "maps")
    assert mixed.deployed(images()).shape == (16, 3)


def test_what_is_deployed_is_of_the_teacher_as_it_is_when_the_student_is_trained():
    """The assistants of a plan are trained after the Distillers that learn from them were made."""
    teacher = convolutional(6, 1)
    made = distiller(convolutional(4, 0), teacher, fitted=False)
    teacher.set_weights([w + 1 for w in teacher.get_weights()])
    made.fit(images(), epochs=1, batch_size=8, verbose=0)
    ours, theirs = made.method.head.get_weights(), teacher.get_layer("logits").get_weights()
    for a, b in zip(ours, theirs, strict=True):
        np.testing.assert_array_equal(a, b)


def test_it_is_loaded_with_the_teachers_layers_and_goes_on_with_the_teacher(tmp_path):
    teacher = convolutional(6, 1)
    made = distiller(convolutional(4, 0), teacher)
    made.save(tmp_path / "d.keras")
    again = keras.models.load_model(tmp_path / "d.keras")
    np.testing.assert_allclose(again(images()), made(images()), atol=1e-6)
    again.teacher = teacher
    again.fit(images(), epochs=1, batch_size=8, verbose=0)


def test_within_a_sum_it_still_decides_on_what_is_deployed():
    both = kd.methods.Sum({"features": SimKD("maps", "maps"), "answers": kd.methods.KD()})
    made = kd.Distiller(student=convolutional(4, 0), teacher=convolutional(6, 1), method=both)
    assert "projector" in [layer.name for layer in made.deployed.layers]


def test_a_teacher_whose_layers_cannot_be_had_is_refused_before_training():
    student = convolutional(4, 0)
    stored = kd.CachedTeacher({"maps": np.zeros((16, 4, 4, 6), "float32")})
    with pytest.raises(ValueError, match=r"behind its tap 'maps': give the teacher as a Keras mod"):
        distiller(student, stored, fitted=False)
    flat = convolutional(6, 1, size=8, pooled=False)
    small = convolutional(4, 0, size=8, strides=4)
    with pytest.raises(
        ValueError, match=r"behind 'maps' take \(4, 4, 6\).* is \(2, 2, 6\).*larger"
    ):
        distiller(small, flat, fitted=False)
    made = distiller(student, flat, fitted=False)  # of one size, whatever follows fits
    assert made.deployed(images()).shape == (16, 3)
    more = convolutional(6, 1, classes=4)
    with pytest.raises(ValueError, match="a student with 3 logits and a teacher with 4"):
        distiller(student, more, fitted=False)
    built = SimKD("maps", "maps")
    built.build({"maps": (None, 4, 4, 4)}, {"maps": (None, 4, 4, 6)})
    with pytest.raises(ValueError, match="built without a teacher's layers: pass it to the Disti"):
        built.deploy(student, lambda tap: student.get_layer(tap).output)
    with pytest.raises(ValueError, match="`reduction` must be a positive whole number"):
        SimKD(reduction=0)
