"""Backbones of keras.applications: same numbers as the stock model, weights from files."""

import re
import time
import urllib.error
import urllib.request

import h5py
import keras
import numpy as np
import pytest
from keras.src.legacy.saving import legacy_h5_format

from kd_keras.models import pretrained
from kd_keras.models.backbones import BACKBONES, TAPS
from kd_keras.models.taps import FeatureExtractor

rng = np.random.default_rng(0)

# where keras.applications keeps the preprocessing that belongs to each
PREPROCESSING = {
    "resnet50v2": keras.applications.resnet_v2,
    "resnet101v2": keras.applications.resnet_v2,
    "mobilenetv2": keras.applications.mobilenet_v2,
    "mobilenetv3small": keras.applications.mobilenet_v3,
    "efficientnetv2b0": keras.applications.efficientnet_v2,
    "densenet121": keras.applications.densenet,
    "xception": keras.applications.xception,
}
# the larger of two of one family takes 170 MB, and tells no more
SMALLER = [name for name in BACKBONES if name != "resnet101v2"]


def stock(name, size=96, **settings):
    return BACKBONES[name].constructor(
        include_top=False, weights=None, input_shape=(size, size, 3), pooling="avg", **settings
    )


def embedding(model):
    return keras.Model(model.input, model.get_layer("embedding").output)


def pixels(size=96, channels=3):
    return rng.integers(0, 256, size=(2, size, size, channels)).astype("float32")


@pytest.mark.slow
@pytest.mark.parametrize("backbone_name", SMALLER)
def test_same_numbers_as_the_stock_model(built, backbone_name):
    model, original = built(backbone_name), stock(backbone_name)
    original.set_weights(model.get_weights()[:-2])
    images = pixels()
    prepared = PREPROCESSING[backbone_name].preprocess_input(images.copy())
    want = original(prepared)
    assert np.std(want) > 0
    # rounding alone, over a hundred layers; another scale or offset shows at 1e-2
    tolerance = 2e-4 * np.abs(want).max()
    np.testing.assert_allclose(embedding(model)(images), want, rtol=0, atol=tolerance)


def test_preprocessing_is_that_of_keras_applications(built, backbone_name):
    model, images = built(backbone_name), pixels()
    if BACKBONES[backbone_name].rescaling is None:  # the backbone brings its own
        assert "preprocess" not in [layer.name for layer in model.layers]
        np.testing.assert_array_equal(PREPROCESSING[backbone_name].preprocess_input(images), images)
        return
    want = PREPROCESSING[backbone_name].preprocess_input(images.copy())
    got = model.get_layer("preprocess")(images)
    np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-6)


def test_stages_lie_at_strides_4_to_32(built, backbone_name):
    model = built(backbone_name)
    sizes = [
        model.get_layer(TAPS[backbone_name][f"stage{n}"]).output.shape[1] for n in (1, 2, 3, 4)
    ]
    # Xception does not pad: its first stage is 23 pixels wide where a quarter is 24
    assert [round(96 / size) for size in sizes] == [4, 8, 16, 32]
    assert (
        model.get_layer("embedding").input is model.get_layer(TAPS[backbone_name]["stage4"]).output
    )


@pytest.mark.slow
def test_a_stage_has_negative_numbers_unless_it_has_passed_a_relu(built, backbone_name):
    view = FeatureExtractor(built(backbone_name), ("stages", "embedding"))
    assert view.taps == ("stage1", "stage2", "stage3", "stage4", "embedding")
    for tap, features in view(pixels()).items():
        assert bool(np.min(features) >= 0) == view.rectified(tap), tap


def test_stages_do_not_depend_on_what_was_built_before(built, backbone_name):
    """Keras numbers some layers by how many of their kind the process has made."""
    built(backbone_name)
    again = getattr(pretrained, backbone_name)((96, 96, 3), 2)
    for layer in TAPS[backbone_name].values():
        again.get_layer(layer)


def test_grey_is_repeated_to_three_channels():
    grey = pretrained.mobilenetv2((32, 32, 1), 2, width=0.35)
    colour = pretrained.mobilenetv2((32, 32, 3), 2, width=0.35)
    colour.set_weights(grey.get_weights())
    images = pixels(32, channels=1)
    np.testing.assert_allclose(grey(images), colour(np.repeat(images, 3, axis=-1)), rtol=1e-5)


def test_width_scales_the_backbone():
    half = pretrained.mobilenetv2((32, 32, 3), 2, width=0.5)
    assert embedding(half).count_params() == stock("mobilenetv2", 32, alpha=0.5).count_params()


def test_dropout_lies_between_embedding_and_logits():
    model = pretrained.mobilenetv2((32, 32, 3), 2, width=0.35, dropout=0.3)
    assert model.get_layer("embedding_dropout").rate == 0.3
    assert model.get_layer("logits").input is model.get_layer("embedding_dropout").output


@pytest.mark.parametrize(
    ("name", "shape", "settings", "message"),
    [
        ("mobilenetv2", (31, 32, 3), {}, "mobilenetv2 needs images of at least 32x32 pixels"),
        ("xception", (64, 96, 3), {}, "xception needs images of at least 71x71 pixels"),
        ("resnet50v2", (32, 32, 2), {}, "1 or 3 channels. Received: input_shape=(32, 32, 2)"),
        ("resnet50v2", (32, 32, 3), {"dropout": 1}, "`dropout` must lie in [0, 1)"),
        ("mobilenetv2", (32, 32, 3), {"width": 0}, "`width` must be a positive number"),
        (
            "mobilenetv2",
            (32, 32, 3),
            {"width": 0.6, "weights": "imagenet"},
            "exist for the widths 0.35, 0.5, 0.75, 1.0, 1.3, 1.4. Received: width=0.6",
        ),
    ],
)
def test_wrong_arguments_are_named(name, shape, settings, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        getattr(pretrained, name)(shape, 2, **settings)


def save_as_published(model, path):
    """The format of the files that keras.applications downloads."""
    with h5py.File(path, "w") as file:
        legacy_h5_format.save_weights_to_hdf5_group(file, model)


@pytest.mark.slow
@pytest.mark.parametrize("backbone_name", SMALLER)
def test_published_format_is_loaded(backbone_name, tmp_path):
    original, path = stock(backbone_name), tmp_path / "notop.h5"
    save_as_published(original, path)
    model = getattr(pretrained, backbone_name)((96, 96, 3), 2, weights=path)
    for got, want in zip(model.get_weights()[:-2], original.get_weights(), strict=True):
        np.testing.assert_array_equal(got, want)


def test_keras_3_format_is_loaded_for_grey_images(tmp_path):
    original, path = stock("mobilenetv2", alpha=0.35), tmp_path / "backbone.weights.h5"
    original.save_weights(path)
    model = pretrained.mobilenetv2((32, 32, 1), 2, width=0.35, weights=str(path))
    for got, want in zip(model.get_weights()[:-2], original.get_weights(), strict=True):
        np.testing.assert_array_equal(got, want)


@pytest.mark.parametrize("suffix", [".h5", ".weights.h5"])
def test_weights_of_another_model_are_refused(tmp_path, suffix):
    other, path = stock("mobilenetv3small"), tmp_path / f"other{suffix}"
    if suffix == ".h5":
        save_as_published(other, path)
    else:
        other.save_weights(path)
    message = f"{re.escape(str(path))} does not hold the weights of mobilenetv2"
    with pytest.raises(ValueError, match=message):
        pretrained.mobilenetv2((32, 32, 3), 2, weights=path)


def test_weights_of_another_width_are_refused(tmp_path):
    path = tmp_path / "narrow.h5"
    save_as_published(stock("mobilenetv2", alpha=0.35), path)
    with pytest.raises(ValueError, match=r"narrow\.h5 does not hold the weights of mobilenetv2"):
        pretrained.mobilenetv2((32, 32, 3), 2, width=0.5, weights=path)


def test_missing_torn_and_foreign_files_are_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"No weights file for mobilenetv2 at .*none\.h5"):
        pretrained.mobilenetv2((32, 32, 3), 2, weights=tmp_path / "none.h5")
    torn = tmp_path / "torn.h5"
    torn.write_bytes(b"\x89HDF\r\n\x1a\n and no more")
    with pytest.raises(ValueError, match=r"torn\.h5 does not hold the weights .* or is damaged"):
        pretrained.mobilenetv2((32, 32, 3), 2, weights=torn)
    foreign = tmp_path / "weights.npz"
    foreign.touch()
    with pytest.raises(ValueError, match=r"must be an \.h5 or \.weights\.h5 file"):
        pretrained.mobilenetv2((32, 32, 3), 2, weights=foreign)


@pytest.fixture
def offline(tmp_path, monkeypatch):
    """An empty Keras cache and no network; skips where there is one."""
    try:
        urllib.request.urlopen("https://storage.googleapis.com", timeout=5).close()
    except urllib.error.HTTPError:
        pytest.skip("the network answers, so the weights would be downloaded")
    except OSError:
        monkeypatch.setenv("KERAS_HOME", str(tmp_path))
        return tmp_path
    pytest.skip("the network answers, so the weights would be downloaded")


def test_offline_says_which_file_to_put_where(offline):
    started = time.monotonic()
    with pytest.raises(ConnectionError) as caught:
        pretrained.mobilenetv2((96, 96, 3), 2, width=0.35, weights="imagenet")
    assert time.monotonic() - started < 30
    file = "mobilenet_v2_weights_tf_dim_ordering_tf_kernels_0.35_96_no_top.h5"
    url = f"https://storage.googleapis.com/tensorflow/keras-applications/mobilenet_v2/{file}"
    for part in ("mobilenetv2", url, str(offline / "models" / file), "`--weights`"):
        assert part in str(caught.value)
    assert not list(offline.rglob("*.h5"))


def test_the_file_named_offline_is_the_one_keras_asks_for(offline, backbone_name):
    with pytest.raises(ConnectionError) as ours:
        getattr(pretrained, backbone_name)((224, 224, 3), 2, weights="imagenet")
    with pytest.raises(Exception, match="URL fetch failure") as theirs:
        BACKBONES[backbone_name].constructor(include_top=False, input_shape=(224, 224, 3))
    url = re.search(r"on (https://\S+):", str(theirs.value)).group(1)
    assert f"Download {url} on" in str(ours.value)


def test_a_file_in_the_cache_is_used(tmp_path, monkeypatch):
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    original = stock("mobilenetv2", 224, alpha=0.35)
    (tmp_path / "models").mkdir()
    name = "mobilenet_v2_weights_tf_dim_ordering_tf_kernels_0.35_224_no_top.h5"
    save_as_published(original, tmp_path / "models" / name)
    model = pretrained.mobilenetv2((64, 64, 1), 2, width=0.35, weights="imagenet")
    for got, want in zip(model.get_weights()[:-2], original.get_weights(), strict=True):
        np.testing.assert_array_equal(got, want)
