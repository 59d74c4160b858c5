"""The first phase of transfer learning in a run: features once, the result of ordinary training."""

import numpy as np
import pytest
from tiny_runs import lines, trial

from kd_keras.config import DistillConfig
from kd_keras.training import features

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
    trained, _ = trial(config)
    return trained.outcomes, lines(config)


@pytest.mark.slow
@pytest.mark.parametrize(
    "changes", [{}, {"augmentation": "shift", "views": 2}], ids=["plain", "two views"]
)
def test_stored_features_give_the_run_that_images_give(tmp_path, monkeypatch, changes):
    seen = []
    find = features.parts_of

    def watched(view):
        found = find(view)
        seen.append(found is not None)
        return found

    monkeypatch.setattr(features, "parts_of", watched)
    stored, stored_lines = run(tmp_path / "stored", **changes)
    assert any(seen), "the first phase found no frozen part"
    assert not all(seen), "the second phase trains everything"
    monkeypatch.setattr(features, "cut", lambda model: None)  # nothing is taken for frozen
    plain, plain_lines = run(tmp_path / "plain", **changes)
    assert [line["epoch"] for line in stored_lines] == [line["epoch"] for line in plain_lines]
    for ours, theirs in zip(stored_lines, plain_lines, strict=True):
        np.testing.assert_allclose(ours["loss"], theirs["loss"], rtol=1e-4)
        assert ours["validation"] == pytest.approx(theirs["validation"], rel=1e-3)
    assert list(stored) == list(plain) == ["teacher", "alone", "distilled"]
