"""Methods on relations: the sheet's numbers through the methods, taps, refusals."""

import keras
import numpy as np
import pytest

import kd_keras as kd

FS = np.array([[1.0, 0], [1, 1], [0, 2], [1, 2]])
FT = np.array([[1.0, 2, 2], [0, 3, 4], [2, 0, 0], [1, 1, 0]])
CORNERS = np.array([[0.0, 0], [1, 0], [0, 1]]), np.array([[0.0, 0], [3, 0], [0, 4]])


def mean_loss(method, student, teacher, **known):
    (ours,), (theirs,) = method.student_taps, method.teacher_taps
    return np.mean(method({ours: student}, {theirs: teacher}, known))


@pytest.mark.parametrize(
    ("method", "views", "want"),
    [
        (kd.methods.SimilarityPreserving, (FS, FT), 3000 * 0.11011627),
        (kd.methods.PKT, (FS, FT), 30000 * 0.00521990),
        (kd.methods.RKD, CORNERS, 0.12425532),
    ],
)
def test_they_give_the_numbers_of_the_sheet(method, views, want):
    np.testing.assert_allclose(mean_loss(method(dtype="float64"), *views), want, rtol=2e-6)


def test_rkd_weighs_its_terms():
    method = kd.methods.RKD(distance_weight=1.0, angle_weight=2.0, dtype="float64")
    want = 0.00348125 + 2 * 0.00074448
    np.testing.assert_allclose(mean_loss(method, *CORNERS), want, atol=2e-8)
    method.angle_weight = 1e-9
    np.testing.assert_allclose(mean_loss(method, *CORNERS), 0.00348125, atol=5e-9)


def test_taps_may_differ():
    method = kd.methods.SimilarityPreserving("a", "b", weight=1.0, dtype="float64")
    np.testing.assert_allclose(mean_loss(method, FS, FT), 0.11011627, atol=5e-9)
    with pytest.raises(ValueError, match="Name exactly one tap"):
        kd.methods.RKD("a,b", "c,d")


def test_the_last_maps_are_compared_by_default(mlp):
    method = kd.methods.SimilarityPreserving()
    assert (method.student_taps, method.teacher_taps) == (("last",), ("last",))
    stored = {"stage1": np.ones((4, 8, 8, 2)), "stage2": np.ones((4, 4, 4, 3))}
    kd.Distiller(student=mlp(), teacher=kd.CachedTeacher(stored), method=method)
    assert method.pair == ("last", "stage2")  # of what was stored by name, the last one
    with pytest.raises(ValueError, match=r"needs the teacher's taps \['last'\]"):
        kd.Distiller(student=mlp(), teacher=kd.CachedTeacher({"x": np.ones((4, 2))}), method="sp")


def test_features_of_unknown_size_are_refused_with_both_shapes():
    method = kd.methods.PKT()
    with pytest.raises(ValueError, match=r"PKT on .*\(None, None, 3\) of the student") as raised:
        method.build({"embedding": (None, None, 3)}, {"embedding": (None, 5)})
    assert "(None, 5) of the teacher" in str(raised.value)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["sp", "pkt", "rkd"])
def test_an_example_of_weight_zero_leaves_training_as_it_is(name):
    """In training by hand: the weights after a step are those without the example."""
    x = np.random.default_rng(0).integers(0, 256, (8, 8, 8, 1)).astype("uint8")
    y, weight = np.arange(8) % 10, np.array([1, 1, 0, 1, 1, 0, 1, 1], "float32")
    taps = {"student_tap": "embedding", "teacher_tap": "embedding"}
    found = []
    for keep in (np.arange(8), np.flatnonzero(weight)):
        keras.utils.set_random_seed(0)
        teacher, student = (
            kd.models.build(kind, input_shape=(8, 8, 1), classes=10) for kind in ("cnn", "lenet5")
        )
        method = kd.methods.get(name, **taps)
        distiller = kd.Distiller(student=student, teacher=teacher, method=method, alpha=0.5)
        # a mean divides by the batch: 6 of 8 weigh as 6 of 6 with a rate 8 / 6 as large
        distiller.compile(keras.optimizers.SGD(1e-4 * len(keep) / 6))
        distiller.fit(x[keep], y[keep], sample_weight=weight[keep], batch_size=8, verbose=0)
        found.append(student.get_weights())
    for ours, theirs in zip(*found, strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-6)
