"""Two replicas take the step that one device takes on the same global batch."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

# logical devices are chosen before TensorFlow starts, so that this needs a process of its own
PROGRAM = """
import sys
import keras, numpy as np, tensorflow as tf
import kd_keras as kd

cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)

class Hint(kd.methods.KD):
    student_taps = ("logits", "embedding")  # replicas trace the same taps in threads of their own

def mlp(seed):
    keras.utils.set_random_seed(seed)
    x = keras.Input((6,))
    h = keras.layers.Dense(5, "tanh", name="embedding", kernel_regularizer="l2")(x)
    return keras.Model(x, keras.layers.Dense(3)(h))

def trained(strategy, mode):
    with strategy.scope():
        distiller = kd.Distiller(
            student=mlp(0), teacher=mlp(1), method=Hint(2.0), alpha=0.3, teacher_cache=mode
        )
        distiller.compile(keras.optimizers.SGD(0.5, momentum=0.9), metrics=["accuracy"])
    rng = np.random.default_rng(0)
    history = distiller.fit(
        rng.normal(size=(16, 6)).astype("float32"), np.arange(16) % 3, batch_size=8, epochs=2,
        sample_weight=np.linspace(0, 2, 16), shuffle=False, verbose=0,
    ).history
    losses = [history[k] for k in ("loss", "student_loss", "distillation_loss", "accuracy")]
    return [np.array(v) for v in distiller.student.variables], losses

two = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
assert two.num_replicas_in_sync == 2
for inner, outer in ((two, tf.distribute.get_strategy()), (tf.distribute.get_strategy(), two)):
    with inner.scope():
        student = mlp(0)
    try:
        with outer.scope():
            kd.Distiller(student=student, teacher=mlp(1))
        sys.exit("made under another strategy than its student, and not refused")
    except ValueError as error:
        assert "make both within `with strategy.scope():`" in str(error), error
for mode in ("auto", "off"):
    for name, strategy in (("one", tf.distribute.get_strategy()), ("two", two)):
        weights, losses = trained(strategy, mode)
        np.savez(f"{sys.argv[1]}/{mode}_{name}.npz", *weights, losses=losses)
"""


@pytest.mark.slow
def test_two_replicas_are_one_device(tmp_path):
    root = Path(__file__).parents[2]
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(tmp_path)],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": str(root)},
    )
    assert done.returncode == 0, done.stderr[-3000:]
    for mode in ("auto", "off"):
        one, two = (np.load(tmp_path / f"{mode}_{name}.npz") for name in ("one", "two"))
        assert len(one.files) == 5
        for name in one.files:
            np.testing.assert_allclose(two[name], one[name], rtol=1e-5, atol=1e-6, err_msg=name)
