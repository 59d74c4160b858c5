"""Weights that two models share: refused where training changes them, wherever they meet."""

import keras
import numpy as np
import pytest
from keras import layers

import kd_keras as kd
from kd_keras.models import shared


def on(trunk, name="net"):
    """A classifier on shared layers, with a head of its own."""
    x = inputs = keras.Input((6,))
    for layer in trunk:
        x = layer(x)
    return keras.Model(inputs, layers.Dense(3)(x), name=name)


def trunk(*more):
    return [layers.Dense(5, name="trunk"), *more]


def nested():
    return [keras.Sequential([keras.Input((6,)), *trunk()], name="inner")]


REFUSED = [
    (trunk, "'trunk'"),
    (nested, "'trunk'"),
    (lambda: [layers.BatchNormalization(name="bn", center=False, scale=False)], "'bn'"),
    (lambda: [layers.SpectralNormalization(layers.Dense(5), trainable=False, name="sn")], ".*'sn'"),
]


@pytest.mark.parametrize("number", range(len(REFUSED)))
def test_what_training_changes_is_not_shared_by_whoever_teaches(number, mlp, examples):
    make, names = REFUSED[number]
    layers_ = make()
    student, teacher = on(layers_), on(layers_, "teacher")
    message = f"`student` and `teacher` must not share weights.*the layers {names}"
    with pytest.raises(ValueError, match=message):
        kd.Distiller(student=student, teacher=teacher)
    several = kd.EnsembleTeacher([mlp(), teacher])
    with pytest.raises(ValueError, match=r"`student` and `teachers\[1\]` must not share"):
        kd.Distiller(student=student, teacher=several)
    with pytest.raises(ValueError, match=r"`students\[0\]` and `students\[2\]` must not share"):
        kd.MutualDistiller(students=[student, mlp(), teacher])
    distiller = kd.Distiller(student=student, teacher=mlp())
    with pytest.raises(ValueError, match=message):
        distiller.teacher = teacher


def test_frozen_layers_may_be_shared_until_they_are_trained_again(examples):
    statistics = layers.Normalization(mean=0.0, variance=1.0)
    common = [statistics, *trunk(layers.BatchNormalization(name="bn"))]
    student, teacher = on(common), on(common, "teacher")
    for layer in common[1:]:
        layer.trainable = False
    before = np.asarray(teacher(examples[0]))
    distiller = kd.Distiller(student=student, teacher=teacher)
    distiller.compile("sgd", run_eagerly=True)
    distiller.fit(*examples, verbose=0)
    np.testing.assert_array_equal(teacher(examples[0]), before)
    mutual = kd.MutualDistiller(students=[student, teacher])
    common[1].trainable = True
    for trainer in (distiller, mutual):
        trainer.compile("sgd", run_eagerly=True)
        with pytest.raises(ValueError, match=r"must not share weights.*'trunk'.*trainable = False"):
            trainer.fit(*examples, verbose=0)


def test_the_advice_of_a_copy_mends_it():
    common = trunk()
    model = on(common, "teacher")
    with pytest.raises(ValueError, match="give a copy") as caught:
        kd.Distiller(student=on(common), teacher=model)
    place = {"keras": keras, "model": model}
    exec(str(caught.value).split("`")[-2], place)
    kd.Distiller(student=on(common), teacher=place["copy"])
    x = np.ones((2, 6))
    np.testing.assert_array_equal(place["copy"](x), model(x))


def test_assistants_share_neither_with_the_teacher_nor_among_themselves(mlp):
    common = trunk()
    teacher, one, two = on(common, "teacher"), on(common, "one"), on(common, "two")
    for names, first, second in (("one", mlp(1), one), ("two", one, two)):
        takd = kd.methods.TAKD(assistants=[first, second] if names == "two" else [second])
        of = teacher if names == "one" else mlp(2)
        with pytest.raises(ValueError, match=f"assistant {names}` and `.* must not share"):
            kd.Distiller(student=mlp(), teacher=of, method=takd)


def test_code_of_ones_own_may_change_what_it_keeps_though_frozen():
    class Counting(layers.Layer):
        def build(self, shape):
            self.count = self.add_weight(shape=(), trainable=False)

        def call(self, x):
            self.count.assign_add(1.0)
            return x

    counting = Counting(trainable=False, name="counting")
    student, teacher = on([counting]), on([counting], "teacher")
    with pytest.raises(ValueError, match="'counting'"):
        shared.refuse_shared("student", student, {"teacher": teacher})
