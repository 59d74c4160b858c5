"""Teacher sources: their answers by hand, and what they leave alone."""

import functools

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers, ops

import kd_keras as kd
from kd_keras import teachers


def softmax(z):
    return np.asarray(ops.softmax(np.asarray(z, "float64")))


@pytest.fixture
def x(examples):
    return examples[0]


def test_a_live_teacher_gives_the_models_taps_in_inference_mode(forgetful, x):
    model = forgetful()
    before = [np.array(v) for v in model.variables]
    source = kd.LiveTeacher(model, ("embedding", "logits"))
    got = source({"image": x})
    assert source.shapes == {"embedding": (None, 5), "logits": (None, 3)}
    np.testing.assert_allclose(got["logits"], model(x, training=False), rtol=1e-6)
    np.testing.assert_allclose(got["embedding"], model.layers[0](x), rtol=1e-6)
    for variable, old in zip(model.variables, before, strict=True):
        np.testing.assert_array_equal(variable, old, err_msg=variable.path)


def test_its_answers_carry_no_gradient(mlp, x):
    model = mlp()
    with tf.GradientTape() as tape:
        answer = kd.LiveTeacher(model)({"image": x})["logits"]
    assert tape.gradient(answer, [v.value for v in model.trainable_variables]) == [None] * 4


@pytest.mark.parametrize("batch_size", [1, 5, 16, 100])
def test_rows_are_the_answers_in_order_whatever_the_batch_size(mlp, x, batch_size):
    source = kd.LiveTeacher(mlp(), ("logits", "embedding"))
    rows, answers = source.rows(x, batch_size), source({"image": x})
    assert list(rows) == ["logits", "embedding"]
    for tap in rows:
        assert rows[tap].dtype == np.float32
        np.testing.assert_allclose(rows[tap], answers[tap], rtol=1e-6, atol=1e-7)


def test_a_teacher_in_half_precision_answers_in_float32(mixed_float16, mlp, x):
    source = kd.LiveTeacher(mlp(), ("embedding", "logits"))
    answers = source({"image": x})
    assert {view.dtype for view in answers.values()} == {tf.float32}
    assert {view.dtype for view in source.rows(x, 5).values()} == {np.dtype("float32")}


def test_the_fingerprint_changes_with_weights_taps_and_architecture(mlp):
    model = mlp()
    source = kd.LiveTeacher(model)
    first = source.fingerprint()
    assert first == source.fingerprint() == kd.LiveTeacher(model).fingerprint()
    assert first != kd.LiveTeacher(model, ("logits", "embedding")).fingerprint()
    model.get_layer("embedding").activation = keras.activations.relu
    relu = source.fingerprint()
    assert first != relu
    bias = model.get_layer("logits").bias
    bias.assign_add([1e-7, 0.0, 0.0])
    assert relu != source.fingerprint()


def test_how_a_teacher_is_compiled_is_in_no_answer(mlp):
    source = kd.LiveTeacher(mlp(1))
    first = source.fingerprint()
    source.model.compile("adam", functools.partial(keras.losses.mean_squared_error))
    assert source.fingerprint() == first
    assert source.durable


def test_a_subclassed_teacher_without_a_configuration_has_a_fingerprint(x):
    class Plain(keras.Model):
        def __init__(self, steps):
            super().__init__()
            self.steps = steps

        def call(self, x):
            for step in self.steps:
                x = step(x)
            return x

    model = Plain([layers.Dense(5), layers.Dense(3)])
    model(x)
    source = kd.LiveTeacher(model)
    first = source.fingerprint()
    assert first == source.fingerprint()
    model.steps[0].bias.assign(np.ones(5))
    assert first != source.fingerprint()


def test_a_cached_teacher_gives_rows_by_index():
    rows = np.arange(12, dtype="float32").reshape(4, 3)
    source = kd.CachedTeacher({"logits": rows, "embedding": rows[:, :2]})
    assert source.shapes == {"logits": (None, 3), "embedding": (None, 2)}
    got = source({"index": np.array([3, 0, 3])})
    np.testing.assert_array_equal(got["logits"], rows[[3, 0, 3]])
    np.testing.assert_array_equal(got["embedding"], rows[[3, 0, 3], :2])


def test_a_cached_teacher_asks_for_the_index_and_for_as_many_images():
    source = kd.CachedTeacher({"logits": np.eye(3, dtype="float32")})
    with pytest.raises(ValueError, match="finds its rows by `index`, which the batch lacks"):
        source({"image": np.zeros((3, 6))})
    assert source.rows(np.zeros((3, 6)))["logits"].shape == (3, 3)
    with pytest.raises(ValueError, match="have 3 rows, but `x` has 4"):
        source.rows(np.zeros((4, 6)))


@pytest.mark.parametrize("rows", [{}, {"logits": np.eye(3), "embedding": np.eye(4)}])
def test_views_that_do_not_match_row_by_row_are_refused(rows):
    with pytest.raises(ValueError, match="one row per example"):
        kd.CachedTeacher(rows)


@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_a_geometric_ensemble_is_the_normalised_product_of_roots(mlp, x, temperature):
    models = [mlp(seed) for seed in range(3)]
    answer = kd.EnsembleTeacher(models, mean="geometric")({"image": x})["logits"]
    product = np.prod([softmax(model(x) / temperature) ** (1 / 3) for model in models], axis=0)
    want = product / product.sum(axis=-1, keepdims=True)
    np.testing.assert_allclose(softmax(answer / temperature), want, rtol=1e-5)


def test_an_arithmetic_ensemble_is_the_mean_of_the_probabilities(mlp, x):
    models = [mlp(seed) for seed in range(3)]
    answer = kd.EnsembleTeacher(models, mean="arithmetic")({"image": x})["logits"]
    want = np.mean([softmax(model(x)) for model in models], axis=0)
    np.testing.assert_allclose(np.exp(answer), want, rtol=1e-5)


@pytest.mark.parametrize("mean", ["geometric", "arithmetic"])
def test_an_ensembles_rows_are_its_answers(mlp, x, mean):
    models = [mlp(seed) for seed in range(2)]
    source = kd.EnsembleTeacher(models, mean=mean)
    assert source.shapes == {"logits": (None, 3)}
    np.testing.assert_allclose(
        source.rows(x, 5)["logits"], source({"image": x})["logits"], rtol=1e-5
    )


def test_an_ensembles_fingerprint_changes_with_every_member_and_the_mean(mlp):
    models = [mlp(seed) for seed in range(2)]
    marks = {
        kd.EnsembleTeacher(models).fingerprint(),
        kd.EnsembleTeacher(models, mean="arithmetic").fingerprint(),
        kd.EnsembleTeacher(models[:1]).fingerprint(),
        kd.EnsembleTeacher([models[0], mlp(7)]).fingerprint(),
    }
    assert len(marks) == 4
    assert kd.EnsembleTeacher(models).fingerprint() in marks


def test_what_is_no_ensemble_is_refused(mlp):
    with pytest.raises(ValueError, match="at least one model"):
        kd.EnsembleTeacher([])
    with pytest.raises(ValueError, match="Did you mean 'geometric'"):
        kd.EnsembleTeacher([mlp()], mean="geometrical")
    with pytest.raises(ValueError, match=r"same classes. Received: \[3, 4\]"):
        kd.EnsembleTeacher([mlp(), mlp(classes=4)])
    with pytest.raises(ValueError, match="`teacher` must return logits"):
        kd.EnsembleTeacher([mlp(), mlp(activation="softmax")])


def test_a_source_is_taken_as_it_is_and_a_model_made_live(mlp):
    model = mlp()
    source = kd.CachedTeacher({"logits": np.eye(3)})
    assert teachers.as_source(source, ("logits",)) is source
    live = teachers.as_source(model, ("embedding",))
    assert isinstance(live, kd.LiveTeacher)
    assert live.model is model
    assert live.shapes == {"embedding": (None, 5)}


def test_a_source_without_the_asked_tap_is_refused(mlp):
    ensemble = kd.EnsembleTeacher([mlp()])
    with pytest.raises(ValueError, match=r"\['embedding'\], but Ensemble\w+ gives \['logits'\]"):
        teachers.as_source(ensemble, ("logits", "embedding"))
    with pytest.raises(ValueError, match=r"a teacher source that gives .* logits\. Received: str"):
        teachers.as_source("teacher.keras", ("logits",))


def test_the_base_says_what_a_source_must_do():
    for name, call in {
        "__call__": lambda: teachers.TeacherSource()({}),
        "rows": lambda: teachers.TeacherSource().rows([], 1),
        "fingerprint": lambda: teachers.TeacherSource().fingerprint(),
    }.items():
        with pytest.raises(TypeError, match=f"TeacherSource must override `{name}`"):
            call()
