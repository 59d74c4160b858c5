"""What every loss of the registry must keep, whatever it matches; those of plans too."""

import json
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

from kd_keras import methods, models
from kd_keras.methods import METHODS
from kd_keras.models.taps import FeatureExtractor
from kd_keras.teachers import LiveTeacher
from kd_keras.training.distiller import Distiller

# under which nothing is left to chance, which XLA draws otherwise
NO_DRAWS = {"crd": {"examples": 16}}
# where the default is for other models than those of these tests
SETTINGS = {"subclass": {"subclasses": 1}, "reviewkd": {"warm_up": 1.0}}
DOCS = Path(__file__).parents[2] / "docs" / "methods"
CLASSES = 5
# student and teacher differ in every width, as they do in life
WIDTHS = {"student": {"embedding": 6, "stage": 3}, "teacher": {"embedding": 9, "stage": 4}}

LOSSES = {
    **{name: kind for name, kind in METHODS.items() if issubclass(kind, methods.Method)},
    "born_again": methods.BornAgainKD,
    "eskd": methods.EarlyStoppedKD,
    "fitnets": methods.FitNetsKD,
    "subclass": methods.SubclassKD,
}

pytestmark = pytest.mark.parametrize("name", LOSSES)


def tap_shape(role, tap):
    if tap == "logits":
        return (CLASSES,)
    return (WIDTHS[role]["embedding"],) if tap == "embedding" else (4, 4, WIDTHS[role]["stage"])


def views_of(method, role, value):
    """Views `{tap: tensor}`; `value(shape)` makes each, the batch comes first in the shape."""
    taps = getattr(method, f"{role}_taps")
    return {tap: tf.constant(value(tap_shape(role, tap)), tf.float32) for tap in taps}


def built(name, **settings):
    keras.utils.set_random_seed(0)
    return build(made(name, **settings))


def made(name, **settings):
    return LOSSES[name](**SETTINGS.get(name, {}), **settings)


def build(method):
    shapes = [
        {tap: (None, *tap_shape(role, tap)) for tap in getattr(method, f"{role}_taps")}
        for role in ("student", "teacher")
    ]
    if not method.built:  # one that comes from a configuration is
        method.build(*shapes)
        method.built = True
    return method


def random_batch(method, n=8, seed=0):
    """Random views of both, and everything that may be known of `n` examples."""
    rng = np.random.default_rng(seed)
    student, teacher = (
        views_of(method, role, lambda shape: rng.normal(size=(n, *shape)))
        for role in ("student", "teacher")
    )
    known = {"label": tf.range(n) % CLASSES, "index": tf.range(n), "image": tf.zeros((n, 4, 4, 1))}
    return student, teacher, known


def loss_and_gradients(method, student, teacher, known):
    with tf.GradientTape() as tape:
        tape.watch(student)
        loss = method(student, teacher, known, training=True)
        total = tf.reduce_sum(loss)
    gradients = tape.gradient(total, student, unconnected_gradients="zero")
    return np.asarray(loss), {tap: np.asarray(gradient) for tap, gradient in gradients.items()}


def test_one_float32_number_an_example_that_the_student_can_lower(name):
    method = built(name)
    loss, gradients = loss_and_gradients(method, *random_batch(method))
    assert loss.shape == (8,)
    assert loss.dtype == np.float32
    assert np.isfinite(loss).all()
    assert all(np.isfinite(gradient).all() for gradient in gradients.values())
    assert any(gradient.any() for gradient in gradients.values())


@pytest.mark.slow
def test_the_loss_of_a_batch_is_the_same_in_a_graph(name):
    method = built(name)
    student, teacher, known = random_batch(method)
    eager = method(student, teacher, known, training=False)
    graph = tf.function(lambda *views: method(*views, training=False))(student, teacher, known)
    np.testing.assert_allclose(graph, eager, rtol=1e-5, atol=1e-6)


@pytest.mark.slow
def test_a_step_is_the_same_compiled_by_xla(name):
    """As it is on a GPU: the loss, its gradients and what training leaves behind."""
    found = []
    for compiled in (False, True):
        method = built(name, **NO_DRAWS.get(name, {}))
        student, teacher, known = random_batch(method)
        known.pop("image")

        @tf.function(jit_compile=compiled)
        def step(student, teacher, known, method=method):
            with tf.GradientTape() as tape:
                tape.watch(student)
                loss = method(student, teacher, known, training=True)
            return loss, tape.gradient(loss, student, unconnected_gradients="zero")

        results = step(student, teacher, known)
        found.append([np.asarray(x) for x in (*tf.nest.flatten(results), *method.variables)])
    for plain, fused in zip(*found, strict=True):
        np.testing.assert_allclose(fused, plain, rtol=1e-4, atol=1e-5 * max(1, np.abs(plain).max()))


def test_a_method_comes_back_from_its_configuration(name):
    method = built(name)
    kept = json.loads(json.dumps(keras.saving.serialize_keras_object(method)))
    twin = keras.saving.deserialize_keras_object(kept)
    assert type(twin) is LOSSES[name]
    student, teacher, known = random_batch(method)
    build(twin)
    assert json.dumps(twin.get_config()) == json.dumps(method.get_config())
    twin.set_weights(method.get_weights())
    np.testing.assert_array_equal(
        twin(student, teacher, known, training=False),
        method(student, teacher, known, training=False),
    )


@pytest.mark.slow
def test_the_teacher_gets_no_gradient(name):
    method = made(name)
    keras.utils.set_random_seed(0)
    teacher, student = (
        models.build("cnn", input_shape=(8, 8, 1), classes=CLASSES, width=width)
        for width in (0.25, 0.125)
    )
    source = LiveTeacher(teacher, method.teacher_taps)
    view = FeatureExtractor(student, method.student_taps)
    method.build(view.shapes, source.shapes)
    method.built = True
    images = np.random.default_rng(0).integers(0, 256, (6, 8, 8, 1)).astype("float32")
    known = {"image": images, "label": tf.range(6) % CLASSES, "index": tf.range(6)}
    with tf.GradientTape(persistent=True) as tape:
        tape.watch([v.value for v in teacher.trainable_variables])
        loss = method(view(images), source(known), known, training=True)
    ours = tape.gradient(loss, [v.value for v in student.trainable_variables])
    theirs = tape.gradient(loss, [v.value for v in teacher.trainable_variables])
    assert any(gradient is not None for gradient in ours)
    assert theirs == [None] * len(theirs)


def test_outside_training_nothing_changes_and_answers_repeat(name):
    method = built(name)
    batch = random_batch(method)
    before = [np.array(v) for v in method.variables]
    first, second = (np.asarray(method(*batch, training=False)) for _ in range(2))
    np.testing.assert_array_equal(first, second)
    for variable, old in zip(method.variables, before, strict=True):
        np.testing.assert_array_equal(variable, old, err_msg=variable.path)


def test_the_same_seed_gives_the_same_loss(name):
    losses = [
        np.asarray(method(*random_batch(method), training=True))
        for method in (built(name), built(name))
    ]
    np.testing.assert_array_equal(*losses)


@pytest.mark.slow
@pytest.mark.parametrize("n", [1, 8])
@pytest.mark.parametrize(
    "value",
    [
        lambda shape: np.zeros(shape),
        lambda shape: np.ones(shape),
        lambda shape: np.full(shape, -3e3),
        lambda shape: 1e4 * np.eye(shape[-1])[np.zeros(shape[:-1], int)],
    ],
    ids=["zeros", "ones", "large", "confident"],
)
def test_collapsed_views_are_finite_in_value_and_gradient(name, value, n):
    method = built(name)
    _, _, known = random_batch(method, n)
    student, teacher = (
        views_of(method, role, lambda shape: value((n, *shape))) for role in ("student", "teacher")
    )
    loss, gradients = loss_and_gradients(method, student, teacher, known)
    assert loss.shape == (n,)
    assert np.isfinite(loss).all()
    assert all(np.isfinite(gradient).all() for gradient in gradients.values())


@pytest.mark.slow
@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_the_loss_is_float32_under_mixed_precision(name, dtype, mixed_float16):
    method = built(name)
    student, teacher, known = random_batch(method)
    student = {tap: tf.cast(view, dtype) for tap, view in student.items()}
    loss = method(student, teacher, known, training=True)
    assert loss.dtype == tf.float32
    exact = {tap: tf.cast(view, "float32") for tap, view in student.items()}
    twin = built(name)  # training may have changed a state
    np.testing.assert_allclose(loss, twin(exact, teacher, known, training=True), rtol=1e-6)
    assert all(v.dtype == "float32" for v in method.trainable_variables)


@pytest.mark.slow
def test_a_distiller_is_saved_with_its_method_and_without_it_in_the_student(name, tmp_path):
    images = np.random.default_rng(0).integers(0, 256, (16, 8, 8, 1)).astype("uint8")
    keras.utils.set_random_seed(0)
    teacher, student = (
        models.build(kind, input_shape=(8, 8, 1), classes=10) for kind in ("cnn", "lenet5")
    )
    weights = [v.path for v in student.weights]
    distiller = Distiller(student=student, teacher=teacher, method=made(name))
    distiller.compile(run_eagerly=True)
    distiller.fit(images, np.arange(16) % 10, batch_size=8, verbose=0)
    distiller.save(tmp_path / "distiller.keras")
    again = keras.models.load_model(tmp_path / "distiller.keras")
    # not `variables`: of what never draws, the state of drawing is not kept
    for ours, theirs in zip(again.method.weights, distiller.method.weights, strict=True):
        np.testing.assert_array_equal(ours, theirs, err_msg=theirs.path)
    assert [v.path for v in distiller.student.weights] == weights


@pytest.mark.slow
def test_what_compares_the_examples_of_a_batch_asks_for_two(name):
    method = built(name)
    student, teacher, known = random_batch(method)
    among = method(student, teacher, known, training=False)[0]
    first = [{tap: view[:1] for tap, view in views.items()} for views in (student, teacher, known)]
    alone = method(*first, training=False)[0]
    # `crd` draws other negatives, which are of no batch; in `byot` one example has a distance too
    by_itself = name in ("crd", "byot") or np.isclose(among, alone, rtol=1e-4)
    assert method.least_batch == (1 if by_itself else 2)
    images = np.zeros((4, 8, 8, 1), "uint8")
    if by_itself:
        return
    shape = {"input_shape": (8, 8, 1), "classes": 10}
    teacher, student = (models.build(kind, **shape) for kind in ("cnn", "lenet5"))
    distiller = Distiller(student=student, teacher=teacher, method=method.clone())
    distiller.compile()
    one = tf.data.Dataset.from_tensor_slices((images, np.arange(4)))
    for data, batch in (((images, np.arange(4)), 1), ((one.batch(1, drop_remainder=True),), None)):
        with pytest.raises(ValueError, match=r"`batch_size` must be at least 2\. Received: 1"):
            distiller.fit(*data, batch_size=batch)


def test_the_weight_of_the_labels_outlives_a_configuration(name):
    method = made(name)
    kept = keras.saving.serialize_keras_object(method)
    again = keras.saving.deserialize_keras_object(kept)
    assert method.default_alpha == method.clone().default_alpha == again.default_alpha


def test_unknown_knobs_are_refused_with_the_known_ones(name):
    with pytest.raises(ValueError, match=f"Unknown knob of method '{name}'.*'no_such'"):
        methods.get(name, no_such=1)


def test_it_is_written_about(name):
    row = [line for line in (DOCS / "README.md").read_text().splitlines() if f"[`{name}`]" in line]
    assert len(row) == 1
    assert f"`kd.methods.{METHODS[name].__name__}`" in row[0]
    page = DOCS / row[0].partition("](")[2].partition(")")[0]
    assert f"kd.methods.{METHODS[name].__name__}" in page.read_text()
    grid = (DOCS / "README.md").read_text().partition("## By what is matched")[2].partition("##")[0]
    assert f"]({page.name})" in grid


@pytest.mark.slow
def test_a_weight_of_zero_takes_an_example_out_of_the_others_losses_too(name):
    method = built(name)
    student, teacher, known = random_batch(method)
    kept = np.array([0, 1, 3, 4, 6])
    weight = np.isin(np.arange(8), kept).astype("float32")
    among = method(student, teacher, {**known, "weight": tf.constant(weight)}, training=False)
    few = [
        {tap: tf.gather(view, kept) for tap, view in views.items()}
        for views in (student, teacher, known)
    ]
    np.testing.assert_allclose(
        np.asarray(among)[kept], method(*few, training=False), rtol=1e-5, atol=1e-6
    )


@pytest.mark.slow
def test_a_restarted_training_repeats_the_first(name):
    """As a sweep restarts one trainer: nothing of the method's state stays behind."""
    images = np.random.default_rng(0).integers(0, 256, (32, 8, 8, 1)).astype("uint8")
    labels = np.arange(32) % 10
    keras.utils.set_random_seed(0)
    teacher, student, like = (
        models.build(kind, input_shape=(8, 8, 1), classes=10) for kind in ("cnn", *["lenet5"] * 2)
    )
    first, second = made(name), made(name)
    source = LiveTeacher(teacher, first.teacher_taps)
    shapes = (
        FeatureExtractor(student, dict.fromkeys((*first.student_taps, "logits"))).shapes,
        source.shapes,
    )
    for method in (first, second):
        method.adopt(source.behind)
        method.build(*shapes)
        method.built = True
    second.set_weights(first.get_weights())
    student.set_weights(like.get_weights())
    distiller = Distiller(student=student, teacher=source, method=first, before=())
    distiller.compile(keras.optimizers.Adam(1e-2), run_eagerly=True)
    fit = {"epochs": 2, "batch_size": 8, "shuffle": False, "verbose": 0}
    before = distiller.fit(images, labels, **fit).history["loss"]
    trace = distiller.train_function
    distiller.reset(like, second)
    assert distiller.fit(images, labels, **fit).history["loss"] == pytest.approx(before, rel=1e-5)
    assert distiller.train_function is trace
