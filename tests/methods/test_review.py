"""`ReviewKD`: the fusion of the sheet and of loops, the order of the levels, the warm-up."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from kd_keras import losses
from kd_keras.methods import ReviewKD
from kd_keras.methods.review import Fusion, nearest

rng = np.random.default_rng(1)
X, DEEPER = rng.standard_normal((2, 4, 4, 3)), rng.standard_normal((2, 2, 2, 2))
ENTER, ATTEND, BIAS, LEAVE = (
    rng.standard_normal(shape) for shape in ((3, 2), (4, 2), (2,), (3, 3, 2, 5))
)


def of_the_sheet(teacher=(4, 4, 5)):
    fusion = Fusion((4, 4, 3), teacher, 2, deepest=False, dtype="float64")
    fusion.enter.set_weights([ENTER[None, None]])
    fusion.attend.set_weights([ATTEND[None, None], BIAS])
    fusion.leave.set_weights([LEAVE])
    return fusion


def normalised(x):
    return (x - x.mean(axis=(0, 1, 2))) / np.sqrt(x.var(axis=(0, 1, 2)) + 1e-5)


def slow_fusion(size):
    """What goes on, place by place, at the teacher's size."""
    x = normalised(X @ ENTER)
    fused = np.zeros((2, *size, 2))
    for n, i, j in np.ndindex(2, *size):
        row, column = i * 4 // size[0], j * 4 // size[1]  # of the student's map
        ours, theirs = x[n, row, column], DEEPER[n, row // 2, column // 2]
        shares = 1 / (1 + np.exp(-(np.concatenate([ours, theirs]) @ ATTEND + BIAS)))
        fused[n, i, j] = shares[0] * ours + shares[1] * theirs
    return fused


def test_the_fusion_is_that_of_the_sheet_and_of_loops():
    on, seen = (np.asarray(x) for x in of_the_sheet()(X, DEEPER, training=True))
    np.testing.assert_allclose(on[0, 0, 0], [-0.56514506, 0.47385159], atol=5e-9)
    np.testing.assert_allclose(np.abs(on).mean(), 0.66230534, atol=5e-9)
    want = [-0.04138369, -0.53341722, 0.16843508, 0.00874825, -0.46653188]
    np.testing.assert_allclose(seen[0, 0, 0], want, atol=5e-9)
    np.testing.assert_allclose(np.abs(seen).mean(), 0.77021830, atol=5e-9)
    np.testing.assert_allclose(on, slow_fusion((4, 4)), atol=1e-12)
    other, seen = of_the_sheet((3, 6, 5))(X, DEEPER, training=True)
    np.testing.assert_allclose(other, slow_fusion((3, 6)), atol=1e-12)
    assert seen.shape == (2, 3, 6, 5)


def test_maps_are_resized_to_what_is_nearest_from_the_corner():
    map = np.arange(12.0).reshape(1, 3, 4, 1)
    for size in ((6, 8), (5, 4), (2, 3), (1, 1), (7, 2)):
        rows = [i * 3 // size[0] for i in range(size[0])]
        columns = [j * 4 // size[1] for j in range(size[1])]
        np.testing.assert_array_equal(nearest(map, size), map[:, rows][:, :, columns])


def method(**settings):
    keras.utils.set_random_seed(0)
    made = ReviewKD("a,b,c", "x,y,z", dtype="float64", **{"warm_up": 1.0, **settings})
    shapes = {"a": (None, 8, 8, 3), "b": (None, 4, 4, 5), "c": (None, 6)}
    made.build(shapes, {"x": (None, 8, 8, 2), "y": (None, 2, 2, 4), "z": (None, 7)})
    made.built = True
    views = [
        {tap: tf.constant(rng.normal(size=(3, *shape[1:]))) for tap, shape in known.items()}
        for known in (shapes, {"x": (0, 8, 8, 2), "y": (0, 2, 2, 4), "z": (0, 7)})
    ]
    return made, *views


def test_levels_are_fused_from_the_deepest_and_added():
    made, student, teacher = method(weight=3.0)
    on, want = None, 0.0
    for ours, theirs, fusion in zip("cba", "zyx", made.fusions[::-1], strict=True):
        features, target = (
            x[:, None, None] if len(x.shape) == 2 else x for x in (student[ours], teacher[theirs])
        )
        on, seen = fusion(features, on)
        want += losses.hierarchical_difference(seen, target)
    np.testing.assert_allclose(made(student, teacher, {}), 3.0 * want)
    assert [fusion.attend is None for fusion in made.fusions] == [False, False, True]
    assert {fusion.enter.filters for fusion in made.fusions} == {6}  # of the deepest level


def test_a_level_of_the_teacher_teaches_the_deeper_ones_of_the_student_and_none_above():
    made, student, teacher = method()
    taught = {}
    for theirs in "xyz":
        with tf.GradientTape() as tape:
            tape.watch(student)
            # of the other levels, the teacher gives what the student has: no gradient but theirs
            loss = made(student, teacher, {})
            moved = made(student, {**teacher, theirs: teacher[theirs] + 1.0}, {})
            total = tf.reduce_sum(moved - loss)
        gradient = tape.gradient(total, student)
        taught[theirs] = "".join(t for t in "abc" if np.abs(gradient[t]).max() > 1e-12)
    assert taught == {"x": "abc", "y": "bc", "z": "c"}


def test_the_weight_grows_from_nothing_over_twenty_epochs():
    made = ReviewKD()
    found = []
    for epoch in (0, 1, 10, 20, 21, 99):
        made.on_epoch_begin(epoch)
        found.append(made.warm_up)
    np.testing.assert_allclose(found, [0.0, 0.05, 0.5, 1.0, 1.0, 1.0], rtol=1e-6)


def test_wrong_levels_are_refused():
    with pytest.raises(ValueError, match=r"two levels or more.*Received: a"):
        ReviewKD("a").build({"a": (None, 3)}, {"a": (None, 3)})
    with pytest.raises(ValueError, match="as many of the student as of the teacher"):
        ReviewKD("a,b", "a,b,c")
    with pytest.raises(ValueError, match="`width` must be a positive whole number"):
        ReviewKD(width=0)
    with pytest.raises(ValueError, match=r"`warm_up` must lie in \[0, 1\]"):
        ReviewKD(warm_up=2.0)
    shapes = {"a": (None, 4, 3), "b": (None, 3)}
    with pytest.raises(ValueError, match="ReviewKD on 'a' and 'a' takes vectors"):
        ReviewKD("a,b").build(shapes, shapes)
