"""`CRD`: a step against a twin in numpy, its draws, its memory, what it must be told."""

import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf

import kd_keras as kd

rng = np.random.default_rng(0)


def crd(examples=12, negatives=100, size=4, dims=(3, 5), **settings):
    """On vectors of length 1, since its own layers are set to leave them as they are."""
    keras.utils.set_random_seed(0)
    method = kd.methods.CRD(
        negatives=negatives, examples=examples, size=size, dtype="float64", **settings
    )
    method.build({"embedding": (None, dims[0])}, {"embedding": (None, dims[1])})
    method.built = True
    return method


def features(n=3, dims=(3, 5)):
    return [{"embedding": rng.normal(size=(n, d))} for d in dims]


def unit(x):
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


def embedded(method, student, teacher):
    return [
        unit(view["embedding"] @ np.array(layer.kernel) + np.array(layer.bias))
        for layer, view in zip(method.embeddings, (student, teacher), strict=True)
    ]


def twin(method, student, teacher, index, classes, labels, normalisers=None):
    """The loss with all other classes' examples as negatives, each counted as often as needed."""
    n, wanted, tau = len(classes), method.settings["negatives"], method.settings["temperature"]
    memories = [np.array(m) for m in method.memories]
    total, constants = np.zeros(len(index)), []
    for side, h in enumerate(embedded(method, student, teacher)):
        memory, scores = memories[1 - side], []
        for row, i, y in zip(h, index, labels, strict=True):
            others = [k for k in range(n) if classes[k] != y and k != i]
            scores.append(np.exp([row @ memory[k] / tau for k in (i, *others)]))
        z = n * np.concatenate(scores).mean() if normalisers is None else normalisers[side]
        constants.append(z)
        noise = wanted / n
        for k, row in enumerate(scores):
            p = row / z
            own = np.log(p[0] / (p[0] + noise + 1e-7))
            rest = np.log(noise / (p[1:] + noise + 1e-7)).mean() * wanted
            total[k] -= own + rest
    return method.weight * total, constants


def test_a_step_is_that_of_the_twin_and_fixes_the_constants():
    method = crd()
    classes = np.array([0, 1, 2, 0, 1, 2, 0, 1, 2, 0])
    method.adapt_labels(classes)
    student, teacher = features()
    index = np.array([4, 0, 8])
    want, constants = twin(method, student, teacher, index, classes, classes[index])
    before = [np.array(m) for m in method.memories]
    vectors = embedded(method, student, teacher)
    got = method(student, teacher, {"index": index, "label": classes[index]}, training=True)
    np.testing.assert_allclose(got, want, rtol=1e-6)
    np.testing.assert_allclose([float(z) for z in method.normalisers], constants, rtol=1e-6)
    for old, new, h in zip(before, method.memories, vectors, strict=True):
        moved = old.copy()
        moved[index] = unit(0.5 * old[index] + 0.5 * h)
        np.testing.assert_allclose(new, moved, rtol=1e-6)
    # the second batch, of other numbers of examples, keeps the constants
    student, teacher = features(2)
    index = np.array([1, 2])
    want, _ = twin(method, student, teacher, index, classes, classes[index], constants)
    got = method(student, teacher, {"index": index, "label": classes[index]}, training=True)
    np.testing.assert_allclose(got, want, rtol=1e-6)
    np.testing.assert_allclose([float(z) for z in method.normalisers], constants, rtol=1e-6)


def drawn(method, index, labels):
    order, weights = method._draw(tf.constant(index, tf.int32), tf.constant(labels))
    return [set(np.asarray(order)[row > 0].tolist()) for row in np.asarray(weights)], weights


def test_negatives_are_of_other_classes_without_repetition_and_others_each_step():
    method = crd(examples=200, negatives=20)
    classes = np.arange(150) % 3
    method.adapt_labels(classes)
    index, seen = np.array([0, 1, 2, 3]), []
    for step in range(30):
        method.steps.assign(step)
        sets, weights = drawn(method, index, classes[index])
        for own, chosen, row in zip(index, sets, np.asarray(weights), strict=True):
            assert 12 <= len(chosen) <= 20  # of forty, a third is of its own class
            assert max(chosen) < 150
            assert classes[own] not in {classes[k] for k in chosen}
            np.testing.assert_allclose(row[row > 0], 20 / len(chosen))
        assert max(map(len, sets)) == 20
        seen.append(sets[0])
    assert len({frozenset(s) for s in seen}) == 30
    # every example of the other classes comes up about as often: 30 * 20 / 100 times
    counts = np.bincount([k for s in seen for k in s], minlength=150)
    assert counts[classes == 0].sum() == 0
    assert counts[classes != 0].mean() == pytest.approx(6.0, rel=0.05)
    assert counts.max() < 16


def test_where_there_are_fewer_each_counts_for_more():
    method = crd(examples=12, negatives=50)
    classes = np.array([0, 0, 1, 1, 1, 2])
    method.adapt_labels(classes)
    sets, weights = drawn(method, np.array([0, 5]), np.array([0, 2]))
    assert sets == [{2, 3, 4, 5}, {0, 1, 2, 3, 4}]
    np.testing.assert_allclose(np.sum(weights, axis=1), 50.0)


def test_classes_that_are_not_known_are_learned_as_they_come():
    method = crd(examples=6, negatives=50)
    assert drawn(method, np.array([0]), np.array([1]))[0] == [{1, 2, 3, 4, 5}]
    views = features(2)
    method(*views, {"index": np.array([2, 3]), "label": np.array([1, 0])}, training=True)
    assert drawn(method, np.array([0]), np.array([1]))[0] == [{1, 3, 4, 5}]


def test_an_example_of_weight_zero_leaves_no_trace():
    method = crd()
    views, before = features(2), [np.array(m) for m in method.memories]
    known = {"index": np.array([3, 4]), "label": np.array([0, 1]), "weight": np.array([0.0, 1.0])}
    method(*views, known, training=True)
    for old, new in zip(before, method.memories, strict=True):
        np.testing.assert_array_equal(new[3], old[3])
        assert np.any(np.array(new[4]) != old[4])
    alone = crd()  # the same weights, by the seed
    few = [{"embedding": view["embedding"][1:]} for view in views]
    alone(*few, {"index": np.array([4]), "label": np.array([1])}, training=True)
    for ours, theirs in zip(method.normalisers, alone.normalisers, strict=True):
        np.testing.assert_allclose(float(ours), float(theirs), rtol=1e-9)


def test_the_memory_begins_as_in_the_paper():
    memory = np.array(crd(examples=500, size=128).memories[0])
    assert np.abs(memory).max() <= np.sqrt(3 / 128)
    np.testing.assert_allclose(memory.std(), 1 / np.sqrt(128), rtol=0.02)


def test_soft_labels_stand_for_their_likeliest_class():
    method = crd()
    method.adapt_labels(np.array([[0.1, 0.9], [0.8, 0.2]]))
    np.testing.assert_array_equal(method.classes[:3], [1, 0, -1])
    assert int(method.count) == 2


@pytest.mark.parametrize("name", ["negatives", "examples", "size"])
@pytest.mark.parametrize("bad", [0, -3, 2.0, True, "8"])
def test_numbers_of_things_are_whole(name, bad):
    with pytest.raises(ValueError, match=f"`{name}` must be a positive whole number"):
        kd.methods.CRD(**{name: bad})


# --- in a Distiller ---


def distiller(**settings):
    keras.utils.set_random_seed(0)
    teacher, student = (
        kd.models.build(kind, input_shape=(8, 8, 1), classes=10) for kind in ("cnn", "lenet5")
    )
    settings = {"negatives": 16, "examples": 64, "size": 8, **settings}
    made = kd.Distiller(
        student=student, teacher=teacher, method=kd.methods.CRD(**settings), alpha=0.2
    )
    made.compile(keras.optimizers.Adam(3e-3))
    return made


def images(n=48):
    return rng.integers(0, 256, (n, 8, 8, 1)).astype("uint8"), np.arange(n) % 10


@pytest.mark.slow
def test_arrays_tell_it_how_many_examples_there_are_and_of_which_class():
    trained, (x, y) = distiller(), images()
    found = trained.fit(x, y, batch_size=16, epochs=8, validation_split=0.25, verbose=0).history
    assert int(trained.method.count) == 36
    np.testing.assert_array_equal(trained.method.classes[:36], y[:36])
    assert int(trained.method.classes[36]) == -1
    assert int(trained.method.steps) == 8 * 3
    assert found["distillation_loss"][-1] < 0.9 * found["distillation_loss"][0]


def test_more_examples_than_there_is_room_for_are_refused_before_training():
    trained, (x, y) = distiller(examples=40), images()
    with pytest.raises(ValueError, match=r"`examples` is 40, but there are 48.*examples=48"):
        trained.fit(x, y, verbose=0)


@pytest.mark.slow
def test_an_index_beyond_the_room_stops_the_training():
    trained, (x, y) = distiller(examples=40), images()
    data = tf.data.Dataset.from_tensor_slices(({"image": x, "index": np.arange(48)}, y)).batch(16)
    with pytest.raises(tf.errors.InvalidArgumentError, match="must be below the `examples` of CRD"):
        trained.fit(data, verbose=0)


def test_a_pipeline_without_an_index_is_refused():
    trained, (x, y) = distiller(), images()
    data = tf.data.Dataset.from_tensor_slices((x, y)).batch(16)
    with pytest.raises(ValueError, match="CRD needs to know which example is which"):
        trained.fit(data, verbose=0)


def test_labels_are_needed():
    trained, (x, _) = distiller(), images()
    with pytest.raises(ValueError, match="CRD needs labels"):
        trained.fit(x, verbose=0)


@pytest.mark.slow
def test_several_replicas_are_refused():
    program = (
        "import tensorflow as tf, kd_keras as kd\n"
        "config = tf.config.LogicalDeviceConfiguration\n"
        "cpu = tf.config.list_physical_devices('CPU')[0]\n"
        "tf.config.set_logical_device_configuration(cpu, [config(), config()])\n"
        "with tf.distribute.MirroredStrategy(['CPU:0', 'CPU:1']).scope():\n"
        "    shapes = {'embedding': (None, 3)}\n"
        "    kd.methods.CRD(examples=8).build(shapes, shapes)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 1
    assert "trains on one device. Received: a strategy with 2 replicas" in done.stderr
