"""A run's model in several formats: its images, its metric, its threshold, and the table."""

import dataclasses
import json
import os
import shutil

import pytest

from kd_keras.config import TrainConfig
from kd_keras.export import FORMATS
from kd_keras.recipes import exports, supervised
from kd_keras.report import export_table


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    out = tmp_path_factory.mktemp("runs") / "halves"
    supervised.run(
        TrainConfig(
            task="digits_halves",
            model="mlp",
            model_knobs=("hidden=16,",),
            epochs=3,
            seeds=(0,),
            out=out,
        )
    )
    return out


@pytest.mark.slow
def test_a_source_has_the_images_and_the_facts_of_its_run(run):
    source = exports.Source.of(run, "validation")
    assert source.path == run / "model.keras"
    known = source.known
    assert known["sample"].shape == (288, 8, 8, 1)
    assert known["judge"].split == "validation"
    assert known["class_names"] == ["0 to 4", "5 to 9"]
    about = known["about"]
    assert about["task"]["name"] == "digits_halves"
    assert about["metrics"]["split"] == "validation"
    assert 0.5 < about["metrics"]["accuracy"] <= 1.0
    assert about["threshold"]["positive"] == "5 to 9"
    assert 0.0 < about["threshold"]["probability"] < 1.0
    assert source.representative.shape == (200, 8, 8, 1)
    bare = exports.Source.of(run / "model.keras")
    assert (bare.known, bare.representative) == ({}, None)


@pytest.mark.slow
def test_every_format_is_written_with_a_table(run, tmp_path, monkeypatch):
    """What cannot be written for want of a package is skipped, and what differs is refused."""
    if FORMATS["litert"].missing:
        pytest.skip(FORMATS["litert"].needs)

    def wrong(content, path):
        path.write_bytes(bytes(content.least_bytes + 1))

    litert = FORMATS["litert"]
    few = {"none": litert.writers["none"], "dynamic": wrong, "int8": litert.writers["int8"]}
    absent = dataclasses.replace(FORMATS["onnx"], packages=("no_such_package",))
    monkeypatch.setitem(FORMATS, "litert", dataclasses.replace(litert, writers=few))
    monkeypatch.setitem(FORMATS, "onnx", absent)
    found = exports.every(run, tmp_path / "all", min_agreement=0.9)
    assert json.loads((tmp_path / "all/formats.json").read_text()) == found
    assert sorted(os.listdir(tmp_path / "all")) == [
        *("formats.json", "litert-int8.tflite", "litert-int8.tflite.json"),
        *("litert.tflite", "litert.tflite.json", "saved_model", "saved_model.json"),
    ]
    assert [made["quantize"] for made in found["exports"]] == ["none", "none", "int8"]
    assert {made["metric"]["metric"] for made in found["exports"]} == {"accuracy"}
    assert all(made["latency"]["threads"] for made in found["exports"])
    (refused,) = found["refused"]
    assert refused["quantize"] == "dynamic"
    assert len(found["skipped"]) == 4
    text, page = export_table.as_text(found), export_table.as_markdown(found)
    for shown in (text, page):
        assert 'pip install "kd_keras[onnx]"' in shown
        assert "Compared on 360 test images." in shown
    assert text.splitlines()[0].split()[:4] == ["format", "quantize", "bytes", "agreement"]
    assert page.splitlines()[1].count("---") == page.splitlines()[0].count("|") - 1


@pytest.mark.slow
def test_a_run_whose_data_are_others_is_refused(run, tmp_path):
    """Its model was not made with them, and would be judged by somebody else's images."""
    copy = tmp_path / "run"
    shutil.copytree(run, copy)
    results = json.loads((copy / "results.json").read_text())
    results["task"]["fingerprint"] = "another"
    (copy / "results.json").write_text(json.dumps(results))
    with pytest.raises(ValueError, match=r"are not those that it was made with.*model\.keras"):
        exports.Source.of(copy)
    with pytest.raises(ValueError, match="Unknown split 'tset'"):
        exports.Source.of(run, "tset")
    (tmp_path / "file").touch()
    with pytest.raises(FileExistsError, match="must be a folder"):
        exports.every(run, tmp_path / "file")
