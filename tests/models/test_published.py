"""Weights of backbones from files, as published and as Keras saves them, and without a network."""

import re
import time
import urllib.error
import urllib.request

import h5py
import numpy as np
import pytest
from keras.src.legacy.saving import legacy_h5_format

from kd_keras.models import pretrained
from kd_keras.models.backbones import BACKBONES

# the larger of two of one family takes 170 MB, and tells no more; EfficientNet-Lite is our own code
SMALLER = [
    name for name in BACKBONES if name != "resnet101v2" and not name.startswith("efficientnet_lite")
]


def stock(name, size=96, **settings):
    return BACKBONES[name].constructor(input_shape=(size, size, 3), pooling="avg", **settings)


def save_as_published(model, path):
    """The format of the files that keras.applications downloads."""
    with h5py.File(path, "w") as file:
        legacy_h5_format.save_weights_to_hdf5_group(file, model)


@pytest.mark.slow
@pytest.mark.parametrize("application_name", SMALLER)
def test_published_format_is_loaded(application_name, tmp_path):
    original, path = stock(application_name), tmp_path / "notop.h5"
    save_as_published(original, path)
    model = getattr(pretrained, application_name)((96, 96, 3), 2, weights=path)
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


def test_the_file_named_offline_is_the_one_keras_asks_for(offline, application_name):
    with pytest.raises(ConnectionError) as ours:
        getattr(pretrained, application_name)((224, 224, 3), 2, weights="imagenet")
    with pytest.raises(Exception, match="URL fetch failure") as theirs:
        BACKBONES[application_name].constructor(weights="imagenet", input_shape=(224, 224, 3))
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
