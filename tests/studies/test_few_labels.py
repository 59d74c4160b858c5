"""The part `few-labels` of the study on MNIST."""

import pytest

from kd_keras.config import DistillConfig, StudyConfig, TrainConfig
from kd_keras.recipes.results import spread
from kd_keras.studies import few_labels
from kd_keras.studies.few_labels import AMOUNTS, FEW_LABELS, STEPS, UNLABELLED


@pytest.mark.parametrize("amount", AMOUNTS)
def test_every_training_takes_about_the_same_steps(amount):
    planned = FEW_LABELS.planned(StudyConfig(study="mnist"))
    runs = {name: one for name, one in planned.items() if name.startswith(f"few-{amount}-")}
    images = {"teacher": amount, "same": amount, "rest": UNLABELLED}
    images["munge"] = amount * runs[f"few-{amount}-munge"].munge
    for kind, count in images.items():
        config = runs[f"few-{amount}-{kind}"]
        steps = config.epochs * -(-count // config.batch_size)
        assert steps == pytest.approx(STEPS, rel=0.1), kind


def test_only_the_students_on_more_images_go_without_labels():
    planned = FEW_LABELS.planned(StudyConfig(study="mnist", seeds=(4, 5)))
    for name, config in planned.items():
        assert config.without_validation, name
        if isinstance(config, TrainConfig):
            assert config.seeds == (4,)  # one teacher for all students
            continue
        assert isinstance(config, DistillConfig)
        more = config.transfer_rest or config.munge is not None
        assert config.alpha == (0.0 if more else few_labels.HALF)
        assert config.seeds == (4, 5)


def test_the_plot_has_a_line_for_every_student_and_the_teacher():
    known = few_labels.Student(spread([0.5, 0.7]), None)
    students = dict.fromkeys(few_labels.KINDS, known)
    found = {n: few_labels.Few(spread([0.9]), students) for n in AMOUNTS}
    (axes,) = few_labels._plot(found).figure.axes
    lines = {text.get_text() for text in axes.get_legend().get_texts()}
    assert lines == {"teacher", *few_labels.KINDS.values()}
