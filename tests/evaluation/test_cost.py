"""Costs against hand counts."""

import json
import subprocess
import sys
import time

import keras
import pytest
import tensorflow as tf
from keras import layers

from kd_keras.evaluation import busy, cost


def model(*parts, shape=(8, 8, 3)):
    return keras.Sequential([keras.Input(shape), *parts])


@pytest.mark.parametrize(
    ("layer", "want"),
    [
        # products of the input width, then a bias a number
        (layers.Dense(5), 8 * 8 * (2 * 3 * 5 + 5)),
        (layers.Dense(5, use_bias=False), 8 * 8 * 2 * 3 * 5),
        # 6x6 places, 3x3x3 kernels, 4 channels
        (layers.Conv2D(4, 3), 6 * 6 * 4 * (2 * 27 + 1)),
        (layers.Conv2D(4, 3, activation="relu"), 6 * 6 * 4 * (2 * 27 + 2)),
        (layers.Conv2D(4, 3, strides=2, padding="same"), 4 * 4 * 4 * (2 * 27 + 1)),
        (layers.Conv2D(6, 3, groups=3), 6 * 6 * 6 * (2 * 9 + 1)),
        (layers.DepthwiseConv2D(3, depth_multiplier=2), 6 * 6 * 6 * (2 * 9 + 1)),
        (layers.SeparableConv2D(4, 3), 6 * 6 * (3 * 2 * 9 + 4 * 2 * 3 + 4)),
        # every input number meets a 2x2x4 kernel; 16x16 places get a bias
        (layers.Conv2DTranspose(4, 2, strides=2, padding="same"), 192 * 2 * 16 + 16 * 16 * 4),
        (layers.MaxPooling2D(2), 4 * 4 * 3 * 4),
        (layers.GlobalAveragePooling2D(), 192),
        (layers.Rescaling(1 / 255.0), 192 * 2),
        (layers.ReLU(), 192),
        (layers.Flatten(), 0),
        (layers.Dropout(0.5), 0),
    ],
    ids=lambda x: getattr(x, "name", None),
)
def test_flops_of_a_layer_by_hand(layer, want, capsys):
    # Rescaling adds an offset of zero, which the graph holds
    assert cost.flops(model(layer)) == want
    assert cost.flops(model(layer), batch=3) == 3 * want
    assert capsys.readouterr() == ("", "")


def test_flops_of_attention_by_hand():
    x = keras.Input((6, 8))
    y = layers.MultiHeadAttention(num_heads=2, key_dim=4, use_bias=False)(x, x)
    projections = 4 * 2 * 6 * 8 * 8  # query, key, value, output
    products = 2 * 2 * (6 * 6 * 4) * 2  # two heads; scores and mixing
    scaling_and_softmax = 2 * 2 * 6 * 6  # of the scores of two heads, one a number each
    assert cost.flops(keras.Model(x, y)) == projections + products + scaling_and_softmax


def test_flops_of_nested_and_subclassed_models():
    inner = model(layers.Conv2D(4, 3), layers.Flatten())
    outer = model(inner, layers.Dense(2))
    want = cost.flops(inner) + 144 * 2 * 2 + 2
    assert cost.flops(outer) == want

    class Subclassed(keras.Model):
        def __init__(self):
            super().__init__()
            self.net = outer

        def call(self, x):
            return self.net(x)

    subclassed = Subclassed()
    with pytest.raises(ValueError, match="`model` must have an input of known height"):
        cost.flops(subclassed)
    subclassed.build((None, 8, 8, 3))
    assert cost.flops(subclassed) == want


def test_batch_normalisation_costs_a_scale_and_a_shift():
    net = model(layers.BatchNormalization())
    grown = cost.flops(net, batch=5) - cost.flops(net, batch=1)
    assert grown == 4 * 192 * 2


def test_what_cannot_be_counted_says_so():
    with pytest.raises(ValueError, match=r"known height, width and channels.*None, None, None, 3"):
        cost.flops(model(layers.Conv2D(4, 3), shape=(None, None, 3)))
    loop = model(layers.Reshape((8, 24)), layers.LSTM(4), layers.Dense(2))
    with pytest.raises(NotImplementedError, match="While"):
        cost.flops(loop)
    assert cost.describe(loop)["flops"] is None


def test_sizes_by_hand(tmp_path):
    net = model(layers.Flatten(), layers.Dense(5), layers.BatchNormalization())
    assert cost.parameters(net) == 192 * 5 + 5 + 20
    assert cost.weight_bytes(net) == 4 * cost.parameters(net)
    half = model(layers.Flatten(), layers.Dense(5, dtype="float16"))
    assert cost.weight_bytes(half) == 2 * (192 * 5 + 5)

    (tmp_path / "a").write_bytes(b"123")
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "c").write_bytes(b"4567")
    assert cost.file_bytes(tmp_path) == 7
    assert cost.file_bytes(str(tmp_path / "a")) == 3
    with pytest.raises(FileNotFoundError):
        cost.file_bytes(tmp_path / "d")


def test_training_does_not_change_the_cost():
    """The optimizer's state and the metrics are not the model's weights."""
    net = model(layers.Flatten(), layers.Dense(2))
    before = cost.weight_bytes(net), cost.parameters(net)
    net.compile("adam", keras.losses.SparseCategoricalCrossentropy(True), metrics=["accuracy"])
    net.fit(keras.ops.zeros((4, 8, 8, 3)), keras.ops.zeros(4), verbose=0)
    assert (cost.weight_bytes(net), cost.parameters(net)) == before


def test_latency_grows_with_the_work_and_leaves_the_model_alone():
    net = model(layers.Conv2D(16, 3), layers.BatchNormalization(), layers.Flatten())
    weights = [w.numpy().copy() for w in net.weights]
    times = cost.latency(net, batches=(1, 256), repeats=10)
    assert set(times) == {1, 256}
    assert 0 < times[1]["median_ms"] <= times[1]["p95_ms"]
    assert times[1]["median_ms"] < times[256]["median_ms"]
    assert all(
        (a == b).all() for a, b in zip(weights, (w.numpy() for w in net.weights), strict=True)
    )


def test_latency_stops_at_the_count_and_at_the_time():
    class Counted(layers.Layer):
        calls = 0

        def call(self, x):
            def count():
                Counted.calls += 1

            tf.py_function(count, [], [])
            return x

    net = model(Counted())
    Counted.calls = 0
    cost.latency(net, batches=(1,), repeats=25, warmup=2, seconds=60.0)
    assert Counted.calls == 27
    Counted.calls = 0
    cost.latency(net, batches=(1,), repeats=10**6, warmup=2, seconds=0.0)
    assert Counted.calls == 12


def test_description_is_json():
    result = cost.describe(model(layers.Flatten(), layers.Dense(2)))
    assert json.loads(json.dumps(result, allow_nan=False)) == result
    assert set(result) == {
        *("parameters", "flops", "latency_ms", "latency_unsure", "weight_bytes"),
    }
    assert set(result["latency_ms"]) == {"1", "32"}


def test_one_architecture_is_measured_once_whatever_its_weights():
    costs = cost.Costs()
    first, same = (model(layers.Flatten(), layers.Dense(2)) for _ in range(2))
    assert costs.of(first) is costs.of(same)
    assert costs.of(model(layers.Flatten(), layers.Dense(3)))["parameters"] == 579
    assert costs.of(first)["parameters"] == 386
    short = model(layers.Flatten(), layers.Dense(2, dtype="bfloat16"))
    assert costs.of(short) is not costs.of(first)


def test_a_latency_is_unsure_if_others_run_or_it_varies():
    steady, wide = ({1: {"median_ms": 1.0, "p95_ms": p95}} for p95 in (1.4, 2.5))
    assert cost.doubt(steady, 0.02) is None
    assert cost.doubt(steady, None) is None
    assert cost.doubt(steady, 0.4) == (
        "other programs took 40% of the processors while it was measured"
    )
    assert cost.doubt(wide, 0.0) == "the 95th percentile is 2.5 times the median"


@pytest.mark.skipif(not busy.STAT.exists(), reason="the system does not count processor time")
def test_the_watch_sees_other_programs_and_not_this_one():
    """Each spins for as long; this process counts as nothing, the other one as a processor."""

    def spin(seconds):
        until = time.process_time() + seconds
        while time.process_time() < until:
            pass

    code = "import time\nwhile time.process_time() < 1.5: pass"
    watch = busy.Watch()
    other = subprocess.Popen([sys.executable, "-c", code])
    other.wait()
    with_another = watch._now()[0] - watch._start[0]
    assert with_another > 1.0
    assert 0.0 < watch.others() <= 1.0
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as ours:
        assert 0.0 <= busy.Watch(ours.pid).others() <= 1.0
    watch = busy.Watch()
    spin(0.5)
    busy_, ours, _ = (b - a for a, b in zip(watch._start, watch._now(), strict=True))
    assert ours >= 0.5
    assert busy_ >= 0.9 * ours
