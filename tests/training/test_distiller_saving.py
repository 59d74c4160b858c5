"""What is written to a file, and what comes back from it."""

import os
import subprocess
import sys
import zipfile

import keras
import numpy as np
import pytest

import kd_keras as kd


def distiller_of(student, teacher, **settings):
    distiller = kd.Distiller(student=student, teacher=teacher, **settings)
    distiller.compile(
        keras.optimizers.Adam(0.05),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    return distiller


def fit(distiller, examples, **settings):
    return distiller.fit(*examples, batch_size=4, verbose=0, shuffle=False, **settings).history


def same_variables(left, right):
    for mine, yours in zip(left, right, strict=True):
        np.testing.assert_array_equal(mine, yours, err_msg=mine.path)


@pytest.mark.slow
def test_training_goes_on_after_a_file_as_it_would_have(examples, mlp, forgetful, tmp_path):
    """With batch statistics, the state of Adam and two schedules on the way.

    Without dropout: Keras keeps the state of random generators in no file.
    """
    settings = {
        "method": kd.methods.KD(kd.schedules.Linear(8.0, 2.0, epochs=4)),
        "alpha": kd.schedules.Steps((0.1, 0.5), (3,)),
    }
    whole = distiller_of(forgetful(dropout=0.0), mlp(1), **settings)
    half = distiller_of(forgetful(dropout=0.0), mlp(1), **settings)
    history = fit(whole, examples, epochs=4)
    fit(half, examples, epochs=2)
    half.save(tmp_path / "distiller.keras")
    loaded = keras.models.load_model(tmp_path / "distiller.keras")
    same_variables(half.student.variables, loaded.student.variables)
    same_variables(half.optimizer.variables, loaded.optimizer.variables)
    loaded.teacher = mlp(1)
    later = fit(loaded, examples, initial_epoch=2, epochs=4)
    assert {name: values[2:] for name, values in history.items()} == {
        name: pytest.approx(values, rel=1e-6) for name, values in later.items()
    }
    same_variables(whole.student.variables, loaded.student.variables)
    assert (loaded.alpha, loaded.method.temperature) == (0.5, 2.0)


def test_a_loaded_one_evaluates_and_predicts_but_asks_for_its_teacher(examples, mlp, tmp_path):
    x, y = examples
    distiller = distiller_of(mlp(0), mlp(1), alpha=0.25)
    fit(distiller, examples)
    distiller.save(tmp_path / "distiller.keras")
    loaded = keras.models.load_model(tmp_path / "distiller.keras")
    assert loaded.alpha == 0.25
    np.testing.assert_array_equal(loaded.predict(x, verbose=0), distiller.predict(x, verbose=0))
    assert loaded.evaluate(x, y, verbose=0, return_dict=True) == pytest.approx(
        distiller.evaluate(x, y, verbose=0, return_dict=True), rel=1e-6
    )
    mend = "loaded from a file, which does not hold the teacher. Set `distiller.teacher = model`"
    for mode in ("auto", "off"):
        loaded.teacher_cache = mode
        with pytest.raises(ValueError, match="does not hold the teacher") as caught:
            fit(loaded, examples)
        assert mend in str(caught.value)
    loaded.teacher = mlp(1)
    fit(loaded, examples)


def test_the_teacher_is_not_in_the_file(examples, mlp, tmp_path):
    sizes = {}
    for width in (5, 2000):
        distiller = distiller_of(mlp(0), mlp(1, width=width))
        fit(distiller, examples)
        path = tmp_path / f"{width}.keras"
        distiller.save(path)
        sizes[width] = path.stat().st_size
        with zipfile.ZipFile(path) as archive:
            assert b"2000" not in archive.read("config.json")
    assert abs(sizes[2000] - sizes[5]) < 64


def test_weights_are_saved_before_the_first_fit(mlp, tmp_path):
    distiller = kd.Distiller(student=mlp(0), teacher=mlp(1))
    distiller.save_weights(tmp_path / "first.weights.h5")
    twin = kd.Distiller(student=mlp(7), teacher=mlp(1))
    twin.load_weights(tmp_path / "first.weights.h5")
    same_variables(distiller.student.variables, twin.student.variables)


def test_one_that_was_not_compiled_is_saved_too(examples, mlp, tmp_path):
    distiller = kd.Distiller(student=mlp(0), teacher=mlp(1), alpha=0.75, teacher_cache="off")
    distiller.save(tmp_path / "distiller.keras")
    loaded = keras.models.load_model(tmp_path / "distiller.keras")
    assert not loaded.compiled
    assert (loaded.alpha, loaded.teacher_cache, loaded.name) == (0.75, "off", distiller.name)
    x, _ = examples
    np.testing.assert_array_equal(loaded.predict(x, verbose=0), distiller.predict(x, verbose=0))


def test_a_sum_of_methods_and_what_was_assigned_later_come_back(examples, mlp, tmp_path):
    both = kd.methods.Sum(
        {"warm": kd.methods.KD(4.0), "cold": kd.methods.KD(1.0)}, weights={"cold": 0.5}
    )
    distiller = distiller_of(mlp(0), mlp(1), method=both)
    fit(distiller, examples)
    distiller.method.methods["warm"].temperature = 6.0
    distiller.alpha = 0.6
    distiller.save(tmp_path / "distiller.keras")
    loaded = keras.models.load_model(tmp_path / "distiller.keras")
    assert loaded.alpha == pytest.approx(0.6)
    assert loaded.method.methods["warm"].temperature == 6.0
    assert dict(loaded.method.weights_by_name) == {"warm": 1.0, "cold": 0.5}
    loaded.teacher = mlp(1)
    assert fit(loaded, examples) == {
        name: pytest.approx(values, rel=1e-5) for name, values in fit(distiller, examples).items()
    }


def test_another_teacher_must_have_the_same_classes(mlp, tmp_path):
    kd.Distiller(student=mlp(0), teacher=mlp(1)).save(tmp_path / "distiller.keras")
    loaded = keras.models.load_model(tmp_path / "distiller.keras")
    with pytest.raises(ValueError, match="a student with 3 logits and a teacher with 4"):
        loaded.teacher = mlp(1, classes=4)


def test_backup_and_restore_goes_on_from_the_last_epoch(examples, mlp, tmp_path):
    class Power(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            if epoch == 2:
                raise KeyboardInterrupt

    whole = distiller_of(mlp(0), mlp(1))
    fit(whole, examples, epochs=4)
    backup = str(tmp_path / "backup")
    broken = distiller_of(mlp(0), mlp(1))
    with pytest.raises(KeyboardInterrupt):
        fit(
            broken,
            examples,
            epochs=4,
            callbacks=[keras.callbacks.BackupAndRestore(backup), Power()],
        )
    again = distiller_of(mlp(3), mlp(1))
    history = fit(again, examples, epochs=4, callbacks=[keras.callbacks.BackupAndRestore(backup)])
    assert len(history["loss"]) == 2
    same_variables(whole.student.variables, again.student.variables)


WITHOUT_US = """
import sys
sys.modules["kd_keras"] = None  # as where it is not installed
import keras, numpy as np
student = keras.models.load_model(sys.argv[1])
np.save(sys.argv[3], student.predict(np.load(sys.argv[2]), verbose=0))
try:
    import kd_keras
except ImportError:
    print("without kd_keras")
"""


@pytest.mark.slow
def test_the_student_is_a_plain_keras_model(examples, forgetful, mlp, tmp_path):
    distiller = distiller_of(forgetful(), mlp(1))
    fit(distiller, examples)
    distiller.student.save(tmp_path / "student.keras")
    np.save(tmp_path / "x.npy", examples[0])
    paths = [tmp_path / name for name in ("student.keras", "x.npy", "logits.npy")]
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_US, *map(str, paths)],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
        env={k: v for k, v in os.environ.items() if k != "PYTHONPATH"},
    )
    assert "without kd_keras" in done.stdout, done.stderr
    np.testing.assert_allclose(
        np.load(paths[-1]), distiller.predict(examples[0], verbose=0), rtol=1e-5, atol=1e-6
    )
