"""Model files: what is read, and what is said of a file that is none."""

import json
import re
import zipfile

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

import kd_keras as kd
from kd_keras.config import DistillConfig, TrainConfig
from kd_keras.recipes import saving, setup
from kd_keras.training.supervised import Supervised


def test_a_whole_model_is_read_from_either_format_in_safe_mode(mlp, tmp_path):
    model = mlp(0)
    for name in ("model.keras", "model.h5", "model.hdf5"):
        model.save(tmp_path / name)
        assert setup.is_given(name)  # there or not
        again = saving.read_model(tmp_path / name)
        for ours, theirs in zip(model.weights, again.weights, strict=True):
            np.testing.assert_array_equal(ours, theirs)
    for name in ("code.keras", "code.h5"):
        code = keras.Sequential([keras.Input((6,)), layers.Lambda(lambda x: x), layers.Dense(3)])
        code.save(tmp_path / name)
        with pytest.raises(ValueError, match="arbitrary code execution"):
            saving.read_model(tmp_path / name)


def test_what_is_no_model_is_called_by_its_name(mlp, tmp_path):
    model = mlp(0)
    model.save_weights(tmp_path / "some.weights.h5")
    tf.saved_model.save(tf.Module(), str(tmp_path / "exported"))
    model.save(tmp_path / "student.keras")
    (tmp_path / "student.keras").rename(tmp_path / "renamed.model")
    model.save(tmp_path / "whole.h5")
    (tmp_path / "whole.h5").rename(tmp_path / "whole.keras")
    np.savez(tmp_path / "arrays.npz", a=np.zeros(2))
    (tmp_path / "text.keras").write_text("a model")
    for folder in ("empty", "run"):
        (tmp_path / folder).mkdir()
    (tmp_path / "run" / "results.json").write_text("{}")
    (tmp_path / "run" / "student.keras").write_text("")
    kd.Distiller(student=mlp(0), teacher=mlp(1)).save(tmp_path / "distiller.keras")
    for name, said in [
        ("some.weights.h5", "holds only weights"),
        ("exported", "is a TensorFlow SavedModel"),
        ("renamed.model", "Rename it to end in .keras"),
        ("whole.keras", "Rename it to end in .h5"),
        ("arrays.npz", "is a zip file without a model"),
        ("text.keras", "is neither"),
        ("empty", "is a folder without a model"),
        ("run", r"is a run folder. Name a model in it. Found: student\.keras"),
        ("distiller.keras", r"holds a Distiller, .*\.student\.save"),
    ]:
        path = tmp_path / name
        with pytest.raises(ValueError, match=said) as caught:
            saving.read_model(path)
        assert str(path) in str(caught.value)
        assert setup.is_given(str(path))
        # a Distiller is found out when it is loaded; the others can teach, see test_given_teachers
        if name not in ("distiller.keras", "exported", "arrays.npz"):
            for teachers in ({"teacher": str(path)}, {"more_teachers": (str(path),)}):
                with pytest.raises(ValueError, match=said):
                    setup.check(DistillConfig(**teachers))
    with pytest.raises(FileNotFoundError, match="There is no model file"):
        setup.check(DistillConfig(teacher="nowhere.h5"))


def test_a_file_is_neither_configured_nor_trained_anew(mlp, tmp_path):
    path = str(tmp_path / "model.keras")
    mlp(0).save(path)
    with pytest.raises(ValueError, match=r"used as it is.* neither knobs nor weights"):
        setup.check(DistillConfig(teacher=path, teacher_knobs=("width=2",)))
    with pytest.raises(ValueError, match=r"from a file has no knobs. Received: .*model\.keras"):
        setup.check(DistillConfig(student=path, student_knobs=("width=2",)))
    for config in (DistillConfig(student=path), TrainConfig(model=path)):
        setup.check(config)  # every training starts from its weights
    with pytest.raises(ValueError, match=r"is a \.keras file. Received: .*model\.onnx"):
        setup.check(TrainConfig(model=path.replace(".keras", ".onnx")))
    assert not any(map(setup.is_given, ("cnn", "")))
    with pytest.raises(ValueError, match="Unknown model 'cnnn'"):
        setup.check(DistillConfig(student="cnnn"))


def test_a_model_saved_again_later_has_the_digest_that_it_had(mlp, tmp_path):
    model, first, later = mlp(), tmp_path / "first.keras", tmp_path / "later.keras"
    model.save(first)
    with zipfile.ZipFile(first) as before, zipfile.ZipFile(later, "w") as after:
        for name in reversed(before.namelist()):
            part = before.read(name)
            if name == saving.METADATA:
                dated = {**json.loads(part), "date_saved": "2030-01-01@00:00:00"}
                part = json.dumps(dated).encode()
            if name == saving.ARCHITECTURE:  # in another process, addresses are others
                assert b'"shared_object_id": ' in part
                part = re.sub(rb'("shared_object_id": )(\d+)', rb"\g<1>1\g<2>", part)
            after.writestr(name, part)
    assert first.read_bytes() != later.read_bytes()
    assert saving.file_digest(first) == saving.file_digest(later)
    model.get_layer("logits").bias.assign([1.0, 0.0, 0.0])
    model.save(later)
    assert saving.file_digest(first) != saving.file_digest(later)


def test_a_trainer_says_what_to_export_and_save(mlp, tmp_path):
    class Own(keras.Model):
        def __init__(self, inner):
            super().__init__()
            self.inner = inner

        def call(self, x):
            return self.inner(x)

    own = Own(object())
    own.inner = mlp(0)
    own(np.zeros((1, 6), "float32"))
    for trainer in (Supervised(student=mlp(0)), kd.MutualDistiller(students=[mlp(0), mlp(1)])):
        with pytest.raises(TypeError, match=r"Export its student: `distiller\.student\.export"):
            trainer.export(str(tmp_path / "exported"))
    with pytest.raises(NotImplementedError, match=r"give Own a `get_config`, or save its weights"):
        Supervised(student=own).save(tmp_path / "own.keras")
    assert not list(tmp_path.iterdir())
