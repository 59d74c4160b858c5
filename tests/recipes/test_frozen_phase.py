"""The first phase of transfer learning in a run: features once, the result of ordinary training."""

import json

import numpy as np
import pytest

from kd_keras import features
from kd_keras.config import DistillConfig
from kd_keras.recipes import distill

CONFIG = {
    "task": "digits",
    "teacher": "cnn",
    "student": "lenet5",
    "epochs": 1,
    "head_epochs": 2,
    "teacher_epochs": 1,
    "limit": 48,
    "batch_size": 16,
    "seeds": (0,),
}


def run(folder, **changes):
    config = DistillConfig(**CONFIG | changes, out=folder / "run", export=folder / "export")
    results = distill.run(config)
    lines = (folder / "run" / "metrics.jsonl").read_text().splitlines()
    return results, [json.loads(line) for line in lines]


@pytest.mark.parametrize(
    "changes", [{}, {"augmentation": "shift", "views": 2}], ids=["plain", "two views"]
)
def test_stored_features_give_the_run_that_images_give(tmp_path, monkeypatch, changes):
    stored, stored_lines = run(tmp_path / "stored", **changes)
    monkeypatch.setattr(features, "cut", lambda model: None)  # nothing is taken for frozen
    plain, plain_lines = run(tmp_path / "plain", **changes)
    assert [line["epoch"] for line in stored_lines] == [line["epoch"] for line in plain_lines]
    for ours, theirs in zip(stored_lines, plain_lines, strict=True):
        np.testing.assert_allclose(ours["loss"], theirs["loss"], rtol=1e-4)
    for role in ("teacher", "alone", "distilled"):
        ours, theirs = (r["models"][role]["seeds"][0]["test"]["nll"] for r in (stored, plain))
        np.testing.assert_allclose(ours, theirs, rtol=1e-3)


def test_the_first_phase_has_a_frozen_part_and_the_second_has_none(tmp_path, monkeypatch):
    seen = []
    join = features.parts_of

    def watched(view):
        found = join(view)
        seen.append(found is not None)
        return found

    monkeypatch.setattr(features, "parts_of", watched)
    run(tmp_path)
    assert any(seen), "the first phase found no frozen part"
    assert not all(seen), "the second phase trains everything"
