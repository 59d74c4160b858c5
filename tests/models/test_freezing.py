"""Freezing by block: what is named, what is trained, and what a step of training leaves alone."""

import keras
import numpy as np
import pytest

from kd_keras.models import freezing, pretrained, small

rng = np.random.default_rng(0)


def narrow(**settings):
    return pretrained.mobilenetv2((32, 32, 3), 2, width=0.35, **settings)


def trained(model):
    """Names of the layers that training would change."""
    return [layer.name for layer in model.layers if layer.trainable_weights]


def fit_one_step(model):
    images, labels = rng.integers(0, 256, (8, 32, 32, 3)), np.arange(8) % 3 % 2
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.SGD(0.1), loss)
    model.fit(images, labels, batch_size=8, verbose=0)


def values(model):
    return {
        f"{layer.name}/{number}": weight
        for layer in model.layers
        for number, weight in enumerate(layer.get_weights())
    }


def changed(model, before):
    """Names of the layers of which at least one weight differs in at least one bit."""
    after = values(model)
    return {key.split("/")[0] for key in before if before[key].tobytes() != after[key].tobytes()}


def test_blocks_of_a_small_model_are_its_layers():
    assert freezing.blocks(small.cnn((8, 8, 1), 3)) == ("stage1", "stage2", "embedding")


def test_freeze_leaves_only_the_head():
    model = narrow()
    freezing.freeze(model)
    assert trained(model) == ["logits"]


def test_freeze_until_a_block():
    model = narrow()
    freezing.freeze(model, until="block_15")
    assert {name.rsplit("_", 1)[0] for name in trained(model)} >= {"block_16_expand"}
    assert not [name for name in trained(model) if name.startswith("block_15")]


def test_unfreeze_by_number_and_by_name_agree():
    one, other = narrow(), narrow()
    for model, last in ((one, 2), (other, "block_16")):
        freezing.freeze(model)
        freezing.unfreeze(model, last)
    want = ["block_16_expand", "block_16_depthwise", "block_16_project", "Conv_1", "logits"]
    assert trained(one) == trained(other) == want


def test_unfreeze_all_leaves_batch_norm_frozen():
    model = narrow()
    freezing.freeze(model)
    freezing.unfreeze(model)
    batch_norm = keras.layers.BatchNormalization
    want = [x.name for x in model.layers if x.weights and not isinstance(x, batch_norm)]
    assert trained(model) == want


def test_batch_norm_inside_a_nested_model_stays_frozen():
    inner = keras.Sequential([keras.Input((4,)), keras.layers.BatchNormalization()], name="inner")
    inner.add(keras.layers.Dense(3))
    head = keras.layers.Dense(2, name="logits")
    model = keras.Sequential([keras.Input((4,)), inner, head])
    freezing.freeze(model)
    assert inner.trainable_weights == []
    freezing.unfreeze(model)
    assert [len(layer.trainable_weights) for layer in inner.layers] == [0, 2]


def test_first_phase_changes_the_head_alone(settled):
    model = settled(narrow())
    freezing.freeze(model)
    before = values(model)
    fit_one_step(model)
    assert changed(model, before) == {"logits"}


@pytest.mark.slow
def test_fine_tuning_changes_the_last_blocks_and_no_statistics(settled):
    model = settled(narrow())
    freezing.freeze(model)
    fit_one_step(model)
    freezing.unfreeze(model, 2)
    before = values(model)
    fit_one_step(model)
    want = {"block_16_expand", "block_16_depthwise", "block_16_project", "Conv_1", "logits"}
    assert changed(model, before) == want


def test_flags_and_blocks_survive_saving(tmp_path):
    model = narrow()
    freezing.freeze(model)
    freezing.unfreeze(model, 1)
    model.save(tmp_path / "model.keras")
    again = keras.models.load_model(tmp_path / "model.keras")
    assert trained(again) == trained(model) == ["Conv_1", "logits"]
    assert freezing.blocks(again) == freezing.blocks(model)


@pytest.mark.parametrize("last", [0, 4, -1, True])
def test_a_wrong_number_of_blocks_is_named(last):
    model = small.cnn((8, 8, 1), 3)
    with pytest.raises(ValueError, match=f"from 1 to 3, or a block's name. Received: last={last}"):
        freezing.unfreeze(model, last)


def test_an_unknown_block_is_named():
    model = small.cnn((8, 8, 1), 3)
    for act in (freezing.freeze, freezing.unfreeze):
        with pytest.raises(ValueError, match=r"Unknown block 'stage3'\. Did you mean 'stage"):
            act(model, "stage3")
