"""Runs by function matching: teacher and distilled student see the same mixed images."""

import dataclasses

import numpy as np
import pytest
from tiny_runs import lines, tiny, trial

from kd_keras.config import CompareConfig
from kd_keras.data.pipeline import Epochs
from kd_keras.recipes import learners, setup, sweep, teacher_predictions
from kd_keras.recipes.training import Learner


def matching(folder, **changes):
    return tiny(folder, method="function_matching", epochs=2, teacher_epochs=1, **changes)


@pytest.mark.slow
@pytest.mark.parametrize("views", [None, 2])  # the teacher runs at every step; or did before
def test_both_see_the_same_mixed_images_live_and_stored(tmp_path, views):
    """A student that is its teacher, and hardly moves, has a distillation loss of zero."""
    config = matching(
        tmp_path,
        augmentation="shift",
        views=views,
        teacher=str(tmp_path / "twin.keras"),
        teacher_knobs=(),
        learning_rate=1e-9,
    )
    setup.check(dataclasses.replace(config, teacher="cnn"))
    task = setup.load_task(config)
    setup.build_model("mlp", config.student_knobs, None, task, seed=0).save(config.teacher)
    done, _ = trial(config, task=task)
    own = [line for line in lines(config) if line["model"] == "distilled"]
    np.testing.assert_allclose([line["distillation_loss"] for line in own], 0, atol=1e-9)
    # labels have no say, and are mixed
    assert [line["loss"] for line in own] == [line["distillation_loss"] for line in own]
    assert done.outcomes["distilled"].epochs == 2


def test_the_distilled_student_alone_learns_on_mixed_images(tmp_path, monkeypatch):
    config, seen = matching(tmp_path, views=2), {}
    task = setup.load_task(config)
    made = learners.Learner

    def learner(**fields):
        seen[fields["role"]] = fields
        return made(**fields)

    monkeypatch.setattr(learners, "Learner", learner)
    trial(config, task=task)
    assert {role: (how["augmentation"], how["views"]) for role, how in seen.items()} == {
        "teacher": ("none", None),
        "alone": ("none", None),
        "distilled": ("mixup", 2),
    }
    assert made is Learner


def test_stored_and_live_mixed_views_train_alike(tmp_path):
    """The teacher's answers on stored views are those that it gives to the pipeline's images."""
    config = matching(tmp_path, views=3)
    task = setup.load_task(config)
    seen = teacher_predictions.as_seen(config, setup.plan(config, epochs=1).loss)
    teacher = setup.build_model("cnn", config.teacher_knobs, None, task, seed=0)
    source = teacher_predictions.source_of(teacher, ("logits",), seen, task)
    stored = teacher_predictions.stored(source, seen, task)
    epochs = Epochs(task.train, batch_size=32, seed=9, augmentation="mixup",
                    augmentation_seed=config.split_seed, views=3, classes=10)  # fmt: skip
    for epoch in range(4):
        epochs.callback.on_epoch_begin(epoch, None)
        batch, _ = next(iter(epochs.dataset))
        np.testing.assert_allclose(
            stored.at(batch)["logits"], source(batch)["logits"], rtol=1e-4, atol=1e-4
        )


def test_views_without_anything_that_changes_are_refused(tmp_path):
    setup.check(matching(tmp_path, views=2))
    with pytest.raises(ValueError, match="name an `augmentation`"):
        setup.check(tiny(tmp_path, views=2))


@pytest.mark.slow
def test_methods_side_by_side_see_each_what_is_theirs(tmp_path):
    config = tiny(tmp_path, epochs=1, limit=48)
    names = {field.name for field in dataclasses.fields(CompareConfig)}
    shared = {name: value for name, value in vars(config).items() if name in names}
    shared["views"] = 2
    compare = CompareConfig(**shared, methods=("kd", "function_matching"),
                            students=("mlp:hidden=8,",))  # fmt: skip
    found = sweep.run(compare)
    rows = [row["label"] for row in found["sweep"]["settings"]]
    assert rows == ["mlp:hidden=8, kd", "mlp:hidden=8, function_matching"]
    last = {line["model"]: line for line in lines(compare)}
    mixed, plain = last[rows[1]], last[rows[0]]
    assert mixed["loss"] == mixed["distillation_loss"]  # alpha is 0 here, and 0.1 there
    assert plain["loss"] != plain["distillation_loss"]
