"""The smoke run of MHIST, with a small teacher: to train ResNet50V2 takes more than 2 GB."""

import dataclasses
import json
import warnings

import numpy as np
import pytest
from PIL import Image

from kd_keras.recipes import PRESETS, distill


def draw_mhist(root):
    """The layout of MHIST: annotations, and 224x224 PNG files in `images/`."""
    (root / "images").mkdir(parents=True)
    rng = np.random.default_rng(0)
    rows = [
        "Image Name,Majority Vote Label,Number of Annotators who Selected SSA (Out of 7),Partition"
    ]
    for number in range(44):
        votes = int(rng.integers(4, 8)) if number % 3 == 0 else int(rng.integers(0, 4))
        label = "SSA" if votes > 3 else "HP"
        pixels = (160 if label == "SSA" else 90) + rng.integers(-80, 80, (224, 224, 3))
        name = f"MHIST_{number:03}.png"
        Image.fromarray(pixels.astype("uint8")).save(root / "images" / name)
        rows.append(f"{name},{label},{votes},{'train' if number < 30 else 'test'}")
    (root / "annotations.csv").write_text("\n".join(rows) + "\n")
    return root


@pytest.mark.slow
def test_mhist_smoke(tmp_path):
    """To MobileNetV2, head first, then fine-tuning, on random images of 64 pixels."""
    root = draw_mhist(tmp_path / "mhist")
    with warnings.catch_warnings():
        # what the loader has to say of a folder that is not the official MHIST
        warnings.filterwarnings("ignore", ".* is not the official MHIST", UserWarning)
        config = dataclasses.replace(
            PRESETS["mhist-kd"](True),
            out=tmp_path / "run",
            export=tmp_path / "student",
            data_dir=root,
            teacher="cnn",
        )
        found = distill.run(config)
    assert found["task"]["class_names"] == ["HP", "SSA"]
    assert found["task"]["metric"] == "auc"
    assert [found["task"][part] for part in ("train", "validation", "test")] == [24, 6, 14]
    for role in ("teacher", "alone", "distilled"):
        (seed,) = found["models"][role]["seeds"]
        assert seed["epochs"] == 2  # one of the head, one of all
        assert 0 <= seed["test"]["auc"] <= 1
    names = [found["models"][role]["name"] for role in ("teacher", "distilled")]
    assert names == ["cnn", "mobilenetv2"]
    assert found["export"]["max_abs_difference"] < 1e-2
    text = (config.folder / "metrics.jsonl").read_text()
    entries = [json.loads(line) for line in text.splitlines()]
    assert len(entries) == 6
    assert all("auc" in entry["validation"] for entry in entries)
