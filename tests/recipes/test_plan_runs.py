"""Whole runs of methods whose plan trains others before the student; killed in any stage."""

import contextlib
import functools
import json

import numpy as np
import pytest
from tiny_runs import InterruptAfter, Interrupted, lines, same_weights, tiny, trial, without_times

from kd_keras.config import BudgetConfig, CompareConfig, TrainConfig
from kd_keras.recipes import distill, setup, sweep, training
from kd_keras.recipes.callbacks import Checkpoint
from kd_keras.recipes.phases import learning_rate
from kd_keras.recipes.runs import RunFolder
from kd_keras.report import tables

# what each trains between teacher and student, and for how many epochs
RUNS = {
    "eskd": (
        ("stop_epoch=1", "teacher_epochs=1,2"),
        {"teacher-1": 1, "student-1": 3, "teacher-2": 2, "student-2": 3, "student-full": 3},
    ),
    "takd": (
        (
            "assistants=lenet5,cnn(width=0.125)",
            "choose=accuracy",
            "method=hint(student_tap=stage1)",
        ),
        {"alone": 3, "assistant lenet5": 3, "assistant cnn(width=0.125)": 3},
    ),
    "sftn": (("method=dkd(temperature=2.0)",), {"teacher": 2}),
    "fitnets": (("hint_epochs=2",), {"hint": 2}),
    "subclass": (("subclasses=2",), {"teacher": 2}),
}


class Killing:
    """Stands where the progress bars stand, and interrupts one training after an epoch."""

    def __init__(self, role=None, epoch=None):
        self._title, self._epoch = f"seed 0: {role}", epoch

    def bar(self, title, epochs, images):
        kill = title == self._title
        return contextlib.nullcontext(InterruptAfter(self._epoch if kill else 0))

    def say(self, sentence):
        pass


def trained(config, task, progress):
    """The trainings of one seed, without judging and export."""
    with RunFolder(config) as folder:
        trial = distill._Trial(config, task, 0, folder, progress)
        trial.train()
    return trial


def config_of(folder, method, **changes):
    knobs, between = RUNS[method]
    settings = {"method": method, "method_knobs": knobs, "student": "lenet5", "student_knobs": ()}
    return tiny(folder, **settings, teacher_epochs=2, **changes), between


@pytest.mark.slow
def test_a_run_killed_in_any_stage_ends_as_one_that_was_not(tmp_path, monkeypatch):
    monkeypatch.setattr(training, "Checkpoint", functools.partial(Checkpoint, every=0.0))
    (config, between), (killed, _) = (config_of(tmp_path / n, "eskd") for n in ("whole", "killed"))
    task = setup.open_task(config)
    whole = trained(config, task, Killing())
    ours = [f"distilled-{name}" for name in between]
    counts = dict.fromkeys(("teacher", "alone", *ours), 0)
    for line in lines(config):
        counts[line["model"]] = counts.get(line["model"], 0) + 1
    # the student is one of those before, judged as it is
    assert counts == {"teacher": 2, "alone": 3, **dict(zip(ours, between.values(), strict=True))}

    for role in (ours[0], ours[-1]):
        with pytest.raises(Interrupted):
            trained(killed, task, Killing(role, 1))
    again = trained(killed, task, Killing())
    assert without_times(lines(killed)) == without_times(lines(config))
    for role, model in whole.models.items():
        assert same_weights(again.models[role], model), role
        resumed, straight = again.outcomes[role], whole.outcomes[role]
        assert (resumed.best_epoch, resumed.score) == (straight.best_epoch, straight.score)
    students = {role: o.score for role, o in whole.outcomes.items() if "-student-" in role}
    assert whole.outcomes["distilled"].score == max(students.values())
    best = max(students, key=students.get)
    assert same_weights(whole.models["distilled"], whole.models[best])


def test_batches_of_one_are_refused_where_examples_are_compared(tmp_path):
    for method, knobs in (("rkd", ()), ("takd", ("assistants=lenet5", "method=dist"))):
        config = tiny(tmp_path, method=method, method_knobs=knobs, batch_size=1)
        with pytest.raises(ValueError, match=r"`batch_size` must be at least 2\. Received: 1"):
            setup.open_task(config)


@pytest.mark.slow
def test_a_run_shows_the_teachers_that_it_has_trained_and_exports_the_student(tmp_path):
    config, _ = config_of(tmp_path, "sftn", epochs=1)
    found = distill.run(config)
    assert list(found["models"]) == ["teacher", "alone", "distilled-teacher", "distilled"]
    own = found["models"]["distilled-teacher"]
    assert own["name"] == "cnn"
    costs = [found["models"][role]["cost"]["parameters"] for role in ("teacher", "alone")]
    assert own["cost"]["parameters"] == costs[0]  # the branches are gone
    assert found["models"]["distilled"]["cost"]["parameters"] == costs[1]
    assert "agreement" in own["summary"]
    assert json.loads((config.folder / "results.json").read_text()) == found


@pytest.mark.slow
def test_a_comparison_holds_plans_beside_other_methods(tmp_path):
    config = CompareConfig(
        teacher_knobs=("width=0.25",),
        students=("lenet5",),
        methods=("kd", "eskd:teacher_epochs=1:stop_epoch=1", "takd:assistants=cnn(width=0.125)"),
        epochs=2,
        batch_size=16,
        seeds=(0,),
        limit=64,
        out=tmp_path / "run",
    )
    found = sweep.run(config)
    rows = [row["label"] for row in found["sweep"]["settings"]]
    assert rows == [f"lenet5 {method}" for method in config.methods]
    roles = {line["model"] for line in lines(config)}
    # no student's own: others of the run may learn from it too
    assert {"teacher-1", f"{rows[2]} assistant cnn(width=0.125)"} < roles
    assert found["models"]["teacher-1"]["seeds"][0]["epochs"] == 1
    assert [row["label"] for row in found["sweep"]["teachers"]] == ["teacher-1"]
    assert "\nteacher-1 " in tables.as_text(found)
    assert all("test" in row for row in found["sweep"]["settings"])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"method": "takd", "method_knobs": ("assistants=cnm",)}, "Unknown model 'cnm'"),
        ({"method": "takd", "method_knobs": ("assistants=cnn(wdth=1)",)}, "Received: wdth=1"),
        ({"method": "sftn"}, "Model 'mlp' has no tap 'stage2'"),
        (
            {"method": "sftn", "method_knobs": ("student_tap=embedding", "teacher_tap=stage7")},
            "Model 'cnn' has no tap 'stage7'",
        ),
        (
            {
                "method": "takd",
                "method_knobs": ("assistants=mlp(hidden=8)", "method=hint(student_tap=embedding)"),
            },
            "Model 'mlp' has no tap 'stage2'",
        ),
    ],
)
def test_what_does_not_fit_is_said_before_anything_is_trained(changes, message, tmp_path):
    config = tiny(tmp_path, **changes)
    with pytest.raises(ValueError, match=message):
        distill.run(config)
    assert not config.folder.exists()


@pytest.mark.parametrize("method", ["sftn", "eskd"])
def test_a_teacher_from_a_file_is_not_trained_again(method, tmp_path):
    config, _ = config_of(tmp_path, method, teacher=str(tmp_path / "t.keras"))
    task = setup.load_task(config)
    setup.build_model("cnn", ("width=0.25",), None, task, 0).save(config.teacher)
    with pytest.raises(ValueError, match=r"trains a teacher of its own.*a model's name as teacher"):
        distill.run(tiny(tmp_path, **{**vars(config), "teacher_knobs": ()}))


def test_the_drops_of_the_learning_rate_scale_with_the_training():
    budget = BudgetConfig(learning_rate=0.1, learning_rate_drop=(0.3, 0.2))
    for epochs, every in ((200, 60), (50, 15), (35, 10), (10, 3), (2, 1)):
        rate = learning_rate(budget, epochs)
        assert [rate(0), rate(every - 1), rate(every)] == pytest.approx([0.1, 0.1, 0.02])
    constant = learning_rate(BudgetConfig(learning_rate=0.1), 50)
    assert {constant(epoch) for epoch in range(50)} == {0.1}


def test_drops_may_come_at_shares_of_their_own():
    """As in the comparisons on CIFAR-100: after 150, 180 and 210 of 240 epochs."""
    drop = (0.625, 0.75, 0.875, 0.1)
    rate = learning_rate(BudgetConfig(learning_rate=0.05, learning_rate_drop=drop), 240)
    found = [rate(epoch) for epoch in (0, 149, 150, 179, 180, 209, 210, 239)]
    wanted = np.repeat([0.05, 0.005, 0.0005, 0.00005], 2)
    assert found == pytest.approx(wanted)


@pytest.mark.parametrize(
    "bad",
    [(0.0, 0.2), (0.3, 0.0), (1.5, 0.2), (0.3, 2.0), (0.3,), (), (0.75, 0.5, 0.1), (0.5, 0.5, 0.1)],
)
def test_drops_that_are_none_are_refused(bad):
    with pytest.raises(ValueError, match="`learning_rate_drop` must"):
        TrainConfig(learning_rate_drop=bad)


@pytest.mark.slow
def test_a_training_follows_its_learning_rate_in_both_phases(tmp_path):
    changes = {"learning_rate_drop": (0.5, 0.1), "head_epochs": 2, "epochs": 4}
    config = tiny(tmp_path, head_learning_rate=0.02, learning_rate=0.01, **changes)
    _, watcher = trial(config)
    for role in ("alone", "distilled"):
        rates = [state["rate"] for state in watcher.states(role, "epoch")]
        np.testing.assert_allclose(rates, [0.02, 0.02, 0.01, 0.01, 0.001, 0.001], rtol=1e-5)
