"""`--train-teacher`: a model from a file or a function is trained on the task before it teaches."""

import dataclasses

import keras
import numpy as np
import pytest
from keras import layers
from tiny_runs import tiny, trial

from kd_keras.recipes import setup

FUNCTION = """
def big(input_shape, classes, units=16):
    import keras
    inputs = keras.Input(input_shape)
    x = keras.layers.Flatten()(keras.layers.Rescaling(1 / 16)(inputs))
    x = keras.layers.Dense(units, activation="relu")(x)
    return keras.Model(inputs, keras.layers.Dense(classes)(x))
"""


@pytest.fixture
def backbone(tmp_path):
    """A backbone of another size and with colours, in a file."""
    keras.utils.set_random_seed(1)
    inputs = keras.Input((16, 16, 3))
    x = layers.Rescaling(1 / 16)(inputs)
    x = layers.Conv2D(8, 3, strides=2, activation="relu", name="conv")(x)
    path = tmp_path / "backbone.keras"
    keras.Model(inputs, layers.BatchNormalization(name="norm")(x), name="own").save(path)
    return path


def from_file(folder, path, **changes):
    return tiny(folder, teacher=str(path), teacher_knobs=(), train_teacher=True, **changes)


@pytest.mark.slow
def test_a_backbone_from_a_file_gets_a_head_and_is_fine_tuned(tmp_path, backbone):
    config = from_file(tmp_path, backbone, head_epochs=1, epochs=2, export=None)
    done, watcher = trial(config)
    teacher = done.models["teacher"]
    assert done.outcomes["teacher"].epochs == 3
    assert teacher.output_shape == (None, 10)
    given = keras.models.load_model(backbone).get_layer("conv").get_weights()[0]
    begun = watcher.states("teacher", "begin")
    assert [sum("conv" in path for path in state["trainable"]) for state in begun] == [0, 2]
    after_head, *_ = watcher.states("teacher", "epoch")
    kernels = [
        value
        for state in (after_head, watcher.states("teacher", "epoch")[-1])
        for path, value in state["weights"].items()
        if path.endswith("conv/kernel")
    ]
    np.testing.assert_array_equal(kernels[0], given)  # frozen under the head
    assert np.abs(kernels[1] - given).max() > 0
    # the run saves it, and other commands read it again
    teacher.save(tmp_path / "teacher.keras")
    task = setup.load_task(config)
    saved = setup.saved_teacher(tmp_path / "teacher.keras", config, task)
    images = task.test.images[:3]
    np.testing.assert_array_equal(saved(images), teacher(images))


def test_a_function_makes_the_teacher_with_its_knobs(tmp_path):
    (tmp_path / "mine.py").write_text(FUNCTION)
    config = from_file(tmp_path, f"{tmp_path}/mine.py:big", epochs=1)
    config = dataclasses.replace(config, teacher_knobs=("units=5",))
    setup.check(config)
    teacher = setup.untrained_teacher(config, setup.load_task(config))
    assert teacher.layers[-2].units == 5


def test_what_cannot_be_trained_is_refused(tmp_path, backbone):
    (tmp_path / "big.onnx").write_bytes(b"")
    with pytest.raises(ValueError, match="A model to be trained is built by name or by FILE"):
        setup.check(from_file(tmp_path, tmp_path / "big.onnx"))
    config = dataclasses.replace(from_file(tmp_path, backbone), train_teacher=False)
    with pytest.raises(ValueError, match=r"gives no logits|classes, and the task"):
        setup.untrained_teacher(config, setup.load_task(config))
