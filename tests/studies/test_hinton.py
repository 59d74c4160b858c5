"""The part on Hinton, Vinyals and Dean: which runs it plans, and what it makes of logits."""

import numpy as np
import pytest

from kd_keras import data
from kd_keras.config import CompareConfig, DistillConfig, StudyConfig, TrainConfig
from kd_keras.recipes import setup
from kd_keras.studies import hinton, reading, work
from kd_keras.studies.hinton import AS_TRAINED, HINTON, LEFT_OUT, TESTED, VALIDATED

THREES, PAIR = LEFT_OUT
STUDY = StudyConfig(study="mnist", seeds=(0, 1, 2))


@pytest.fixture
def planned():
    return HINTON.planned(STUDY)


def test_the_settings_are_chosen_before_all_images_are_learned_from(planned):
    kinds = {name: type(config) for name, config in planned.items()}
    assert [name for name, kind in kinds.items() if kind is TrainConfig] == [
        "hinton-teacher",
        "hinton-teacher-all",
    ]
    whole = {name for name, one in planned.items() if getattr(one, "without_validation", False)}
    assert whole == {"hinton-teacher-all", "hinton-all"}
    for name, config in planned.items():
        if name == "hinton-all":  # whose teacher has seen all of them too
            assert config.teacher == str(STUDY.run_folder("hinton-teacher-all") / "model.keras")
        elif isinstance(config, CompareConfig | DistillConfig):
            assert config.teacher == str(STUDY.run_folder("hinton-teacher") / "model.keras")


def test_only_the_teacher_is_regularised(planned):
    for name, config in planned.items():
        teaches = name.startswith("hinton-teacher")
        assert config.augmentation == ("shift" if teaches else "none")
        for one in work.trainings(config):
            assert any("dropout" in knob for knob in one.model.knobs) == teaches
            assert any("max_norm" in knob for knob in one.model.knobs) == teaches
    for config in planned.values():
        setup.check_data(config)


def test_the_transfer_sets_lack_digits_and_use_no_labels(planned):
    for kind, lacking in ((THREES, "3"), (PAIR, "01234569")):
        for seed in STUDY.seeds:
            config = planned[f"{kind.name}-{seed}"]
            assert (config.seeds, config.alphas) == ((seed,), (0.0,))
            assert config.transfer_without == tuple(lacking)
    assert {PAIR.unseen, PAIR.moved} == {(0, 1, 2, 3, 4, 5, 6, 9), (7, 8)}


def test_a_quick_test_is_quick():
    small = HINTON.planned(StudyConfig(study="mnist", seeds=(4, 5), smoke=True))
    assert {config.limit for config in small.values()} == {128}
    assert {config.seeds for config in small.values()} == {(4,)}
    assert {config.epochs for config in small.values()} == {1}


def test_an_offset_mends_a_student_that_never_says_three():
    task = data.load("digits")
    rng = np.random.default_rng(0)

    def logits(split):
        own = 3 * np.eye(10)[split.labels] + rng.normal(size=(len(split), 10))
        own[:, 3] -= 6.0
        return own

    validation, test = logits(task.validation), logits(task.test)
    found = hinton._with_offsets(THREES, task, validation, test)
    threes = (task.test.labels == 3).mean() * 10_000
    assert found[AS_TRAINED].offset == 0.0
    assert found[AS_TRAINED].unseen == pytest.approx(threes, rel=0.1)  # nearly all of them
    assert found[VALIDATED].offset == pytest.approx(6.0, abs=1.5)
    assert found[TESTED].errors <= found[VALIDATED].errors < found[AS_TRAINED].errors
    table = hinton._left_out({THREES: hinton.Corrected(1000, {k: [v] for k, v in found.items()})})
    assert [row[:2] for row in table.rows] == [
        ("without 3", "as trained"),
        ("without 3", "chosen on validation"),
        ("without 3", "chosen on test"),
    ]
    assert [row[3] for row in table.rows] == ["206", "-", "109"]  # as published
    assert [row[7] for row in table.rows] == ["-", "-", "3.5"]


def test_errors_stand_beside_the_published_ones():
    model = {"summary": {"accuracy": {"mean": 0.9921, "std": 0.0004, "n": 3}}}
    ours = hinton._wrong(model)
    assert reading.spread(ours, digits=1) == "79.0 ± 4.0"
    row = hinton._row("student", "60,000", ours, 74)
    assert row == ("student", "60,000", "79.0 ± 4.0", "74", "+5.0")
