"""What is given comes in by one door: equal data are equal, a label that is none is refused."""

import keras
import numpy as np
import pandas as pd
import pytest
import tensorflow as tf
from keras import layers

import kd_keras as kd
from kd_keras.training.checking import is_examples
from kd_keras.training.supervised import Supervised

BAD = "must hold class numbers from 0 to 2.*1 of {} labels that name no class, the first of them 7"


class Batches(keras.utils.PyDataset):
    def __init__(self, x, y, workers=1):
        super().__init__(workers=workers)
        self.x, self.y = x, y

    def __len__(self):
        return len(self.x) // 4

    def __getitem__(self, number):
        rows = slice(4 * number, 4 * number + 4)
        return self.x[rows], self.y[rows]


def dataset(x, y):
    return tf.data.Dataset.from_tensor_slices((x, y)).batch(4)


# how the same examples are given, as the arguments of `evaluate`
KINDS = {
    "arrays": lambda x, y: (x, y),
    "lists": lambda x, y: (x.tolist(), y.tolist()),
    "pandas": lambda x, y: (pd.DataFrame(x), pd.Series(y)),
    "tensors": lambda x, y: (tf.constant(x), tf.constant(y)),
    "dataset": lambda x, y: (dataset(x, y),),
    "pydataset": lambda x, y: (Batches(x, y),),
    "threads": lambda x, y: (Batches(x, y, workers=2),),
    "generator": lambda x, y: ((batch for batch in list(dataset(x, y).as_numpy_iterator())),),
}


def close(history, want):
    assert history == {name: pytest.approx(values, rel=1e-5) for name, values in want.items()}


def distiller_of(mlp, **settings):
    distiller = kd.Distiller(student=mlp(0), teacher=mlp(1), alpha=0.5)
    distiller.compile("sgd", metrics=["accuracy"], **settings)
    return distiller


@pytest.fixture
def bad(examples):
    y = examples[1].copy()
    y[9] = 7
    return y


@pytest.mark.slow
def test_a_bad_label_is_refused_however_it_comes(examples, mlp, bad):
    """By `evaluate`, by `fit`, and in what `fit` validates on."""
    x, y = examples
    distiller = distiller_of(mlp)
    distiller.optimizer.learning_rate = 0.0
    want = distiller.evaluate(x, y, batch_size=4, verbose=0)
    for kind, given in KINDS.items():
        message = BAD.format(4 if kind in ("dataset", "pydataset", "threads", "generator") else 16)
        steps = 4 if kind == "generator" else None  # Keras warns of one that ends by itself
        got = distiller.evaluate(*given(x, y), batch_size=4, steps=steps, verbose=0)
        assert got == want, kind
        with pytest.raises(ValueError, match=message):
            distiller.evaluate(*given(x, bad), batch_size=4, verbose=0)
        with pytest.raises(ValueError, match=message):
            distiller.fit(*given(x, bad), batch_size=4, verbose=0)
        if kind in ("lists", "dataset", "pydataset"):
            held_out = given(x, bad) if len(given(x, bad)) == 2 else given(x, bad)[0]
            with pytest.raises(ValueError, match=message):
                distiller.fit(x, y, validation_data=held_out, verbose=0)
    with pytest.raises(ValueError, match="`y` of `validation_data` must"):
        distiller.fit(x, y, validation_data=[x, bad], verbose=0)


@pytest.mark.slow
@pytest.mark.parametrize("settings", [{"steps_per_execution": 3}, {"jit_compile": True}])
def test_a_pipeline_is_refused_at_the_batch_whatever_runs_the_steps(examples, mlp, bad, settings):
    """And nothing is traced anew for looking at the labels."""
    x, y = examples
    distiller = distiller_of(mlp, **settings)
    distiller.fit(dataset(x, y), epochs=2, verbose=0)
    function = distiller.train_function
    with pytest.raises(ValueError, match=BAD.format(4)):
        distiller.fit(dataset(x, bad), verbose=0)
    assert distiller.train_function is function
    weighted = tf.data.Dataset.from_tensors((x, y, np.full(16, -1.0)))
    with pytest.raises(ValueError, match=r"`sample_weight` of a batch.*16 of 16 weights"):
        distiller.fit(weighted, verbose=0)


def test_a_pipeline_is_refused_under_a_strategy(examples, mlp, bad):
    strategy = tf.distribute.MirroredStrategy(["/cpu:0"])
    with strategy.scope():
        trainer = Supervised(student=mlp(0))
        trainer.compile("sgd")
    with pytest.raises(ValueError, match=BAD.format(4)):
        trainer.evaluate(dataset(examples[0], bad), verbose=0)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda d: d.map(lambda x, y: (x, tf.as_string(y))), "whose label is a string"),
        (lambda d: d.map(lambda x, y: (x, tf.one_hot(y, 4))), "over 4 classes, the student has 3"),
        (
            lambda d: d.map(lambda x, y: (x, tf.py_function(lambda v: v, [y], tf.int64))),
            r"whose label has an unknown shape.*tf.ensure_shape",
        ),
    ],
)
def test_what_a_pipeline_says_of_itself_is_refused_before_the_first_batch(
    examples, mlp, make, message
):
    with pytest.raises(ValueError, match=message):
        distiller_of(mlp).fit(make(dataset(*examples)), verbose=0)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (lambda x, y: {"y": [str(k) for k in y]}, "`y` must hold class numbers"),
        (lambda x, y: {"x": np.where(x > 2, np.nan, x)}, "`x` must hold finite numbers"),
        (lambda x, y: {"x": [["a"] * 6] * 16}, "`x` must hold images: one array of numbers"),
        (lambda x, y: {"sample_weight": -y}, "`sample_weight` must hold finite"),
        (lambda x, y: {"sample_weight": [1.0]}, "the same length. Received: 16 images, 1 weights"),
        (lambda x, y: {"class_weight": {0: np.nan}}, "`class_weight` must hold finite"),
        (lambda x, y: {"validation_data": x}, "`validation_data` must be"),
        (lambda x, y: {"validation_data": (x[:3], y[:2])}, "`y` of `validation_data` must have"),
    ],
)
def test_arrays_are_refused_before_the_first_step(examples, mlp, given, message):
    x, y = examples
    distiller = distiller_of(mlp)
    with pytest.raises(ValueError, match=message):
        distiller.fit(**{"x": x, "y": y, "verbose": 0, **given(x, y)})
    assert distiller.optimizer.iterations == 0


@pytest.mark.slow
def test_each_batch_says_what_its_labels_are(examples, mlp):
    """Class numbers to train on and distributions to validate on, and the reverse."""
    x, y = examples
    one_hot = np.eye(3, dtype="float32")[y]
    want = None
    for train, held_out in ((y, y), (one_hot, y), (y, one_hot), (one_hot.astype(bool), one_hot)):
        distiller = distiller_of(mlp)
        history = distiller.fit(x, train, validation_data=(x, held_out), shuffle=False, verbose=0)
        want = want or history.history
        close(history.history, want)
        both = [distiller.evaluate(x, labels, verbose=0) for labels in (y, one_hot)]
        assert both[0] == pytest.approx(both[1], rel=1e-6)


# --- single batches ---


def trainers(mlp):
    return {
        "supervised": Supervised(student=mlp(0)),
        "distiller": kd.Distiller(student=mlp(0), teacher=mlp(1)),
        "mutual": kd.MutualDistiller(students=[mlp(0), mlp(1)]),
    }


def on_batch(trainer, x, y):
    found = [trainer.train_on_batch(x, y, return_dict=True)]
    found.append(trainer.train_on_batch(x.tolist(), pd.Series(y), class_weight={0: 2.0}))
    found.append(trainer.test_on_batch(x, y, return_dict=True))
    assert trainer.predict_on_batch(x.tolist()).shape == (len(x), 3)
    assert set(found[2]) <= set(found[0])
    return found


@pytest.mark.slow
def test_single_batches_before_and_after_fit(examples, mlp):
    """After `fit` of arrays too, which counts the steps of an epoch in calls of several."""
    x, y = examples
    for name, trainer in trainers(mlp).items():
        trainer.compile(keras.optimizers.SGD(0.0), steps_per_execution=2, metrics=["accuracy"])
        before = on_batch(trainer, x, y)
        trainer.fit(x, y, batch_size=4, epochs=2, verbose=0)
        assert trainer.inputs.counted, name
        assert on_batch(trainer, x, y) == before, name
        with pytest.raises(ValueError, match="name no class"):
            trainer.test_on_batch(x, y + 1)
        trainer.fit(x, y, batch_size=4, verbose=0)


def test_a_single_batch_is_answered_by_the_teacher_and_not_by_the_rows_of_fit(
    examples, mlp, tmp_path
):
    x, y = examples
    kept = kd.cache.Cache(tmp_path, memory_share=0.0)  # found by place, at each step
    distillers = [
        kd.Distiller(student=mlp(0), teacher=mlp(1), teacher_cache=mode) for mode in (kept, "off")
    ]
    for distiller in distillers:
        distiller.compile(keras.optimizers.SGD(0.0))
        distiller.fit(x, y, verbose=0)
    ours, want = (d.train_on_batch(x[::-1] * 2.0, y, return_dict=True) for d in distillers)
    assert ours == pytest.approx(want, rel=1e-5)


def test_a_plan_of_several_trainings_does_not_begin_with_a_single_batch(examples, mlp):
    stage = kd.methods.Stage("first", mlp(2), mlp(1), kd.methods.KD())
    distiller = kd.Distiller(student=mlp(0), teacher=mlp(2), before=[stage])
    distiller.compile("sgd")
    with pytest.raises(ValueError, match=r"KD trains first before the student\. Call `fit` first"):
        distiller.train_on_batch(*examples)


# --- models of several inputs ---


def two_inputs(names, by_name, seed=0):
    keras.utils.set_random_seed(seed)
    inputs = [keras.Input((size,), name=name) for name, size in zip(names, (4, 2), strict=True)]
    answer = layers.Dense(3)(layers.Concatenate()(inputs))
    return keras.Model(dict(zip(names, inputs, strict=True)) if by_name else inputs, answer)


@pytest.mark.slow
@pytest.mark.parametrize("by_name", [True, False])
def test_the_names_of_inputs_are_the_users(examples, by_name):
    """`image` and `index` among them: the loss is that of the same model under other names."""
    x, y = examples
    parts = (x[:, :4], x[:, 4:])
    want = None
    for names in (("pixels", "age"), ("image", "age"), ("image", "index")):
        models = [two_inputs(names, by_name, seed) for seed in (0, 1)]
        distiller = kd.Distiller(student=models[0], teacher=models[1])
        distiller.compile("sgd", metrics=["accuracy"])
        named = dict(zip(names, parts, strict=True))
        history = distiller.fit(named, y, validation_data=(named, y), shuffle=False, verbose=0)
        want = want or history.history
        close(history.history, want)
        evaluated = distiller.evaluate(named, y, verbose=0)
        data = tf.data.Dataset.from_tensors((named, y))
        assert distiller.evaluate(data, verbose=0) == pytest.approx(evaluated, rel=1e-5)
        distiller.fit(data, verbose=0)
        assert distiller.predict(named, verbose=0).shape == (16, 3)
        assert distiller.predict_on_batch(named).shape == (16, 3)
        if not by_name:
            assert distiller.evaluate(parts, y, verbose=0) == pytest.approx(
                distiller.evaluate(named, y, verbose=0)
            )
    with pytest.raises(ValueError, match=r"the inputs of the student.*without \['index'\]"):
        distiller.fit({"image": parts[0]}, y)


def test_stored_answers_are_joined_to_several_inputs_too(examples):
    x, y = examples
    named = {"image": x[:, :4], "age": x[:, 4:]}
    student, teacher = (two_inputs(("image", "age"), True, seed) for seed in (0, 1))
    stored = kd.CachedTeacher({"logits": teacher.predict(named, verbose=0)})
    for source in (stored, teacher):
        distiller = kd.Distiller(student=student, teacher=source, alpha=0.0)
        distiller.compile(keras.optimizers.SGD(0.0))
        history = distiller.fit(named, y, verbose=0).history
        if source is stored:
            want = history
    close(history, want)


def test_the_only_input_may_stand_in_a_list_or_a_dict(examples, mlp):
    x, y = examples
    trainer = Supervised(student=mlp(0))
    trainer.compile("sgd")
    want = trainer.evaluate(x, y, verbose=0)
    for given in ([x], (x,), {"image": x}, list(x), pd.Series(list(x))):
        assert trainer.evaluate(given, y, verbose=0) == want


def test_a_pipeline_is_no_examples():
    for given in ([1], (1,), {}, np.zeros(1), tf.zeros(1), pd.Series([1])):
        assert is_examples(given)
    for given in (tf.data.Dataset.range(1), Batches([], []), (k for k in ()), None):
        assert not is_examples(given)
