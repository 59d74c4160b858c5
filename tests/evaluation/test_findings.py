"""The sentences of a run: each with its cause there, and not without it."""

import pytest

from kd_keras.evaluation import findings

GOOD = [[45, 5], [5, 45]]
ALL_ONE = [[0, 50], [0, 50]]
TASK = {"name": "t", "metric": "accuracy", "class_names": ["HP", "SSA"], "validation": 1000,
        "test": 1000}  # fmt: skip


def model(*confusions, best=2, epochs=4, times=10):
    seeds = []
    for seed, confusion in enumerate(confusions):
        counts = [[times * cell for cell in row] for row in confusion]
        right, total = sum(counts[k][k] for k in (0, 1)), sum(map(sum, counts))
        test = {"accuracy": right / total, "confusion": counts}
        seeds.append({"seed": seed, "test": test, "validation": {"accuracy": 0.5},
                      "best_epoch": best, "epochs": epochs})  # fmt: skip
    return {"seeds": seeds}


def run(**changes):
    verdict = {"text": "It helped.", "beats": True, "interval": [0.1, 0.2], "gain": 0.15}
    models = {"teacher": model([[48, 2], [2, 48]]), "alone": model(GOOD), "distilled": model(GOOD)}
    return {"task": TASK, "models": models, "verdict": verdict, **changes}


def causes(**changes):
    return findings.make(run(**changes))[1:]


def test_a_run_without_a_fault_has_its_conclusion_alone():
    assert findings.make(run()) == ["It helped."]


def test_the_conclusion_comes_first_and_the_warning_once():
    checked = [{"seed": 0, "warning": "It knows nothing."}]
    warning = "Warning about the teacher (seed 0). It knows nothing."
    found = run(teacher_check=checked)
    found["verdict"]["text"] = f"It helped. A note. {warning}"
    assert findings.make(found) == ["It helped. A note.", warning]
    assert findings.parted({"models": {}, "verdict": None}) == ("", [])
    old = {"models": {}, "verdict": {"text": "It helped.", "beats": True}}
    assert findings.parted(old)[0] == f"It helped. {findings.NOT_KNOWN}"


def test_what_a_run_stored_is_not_made_anew():
    assert findings.of(run(findings=["First.", "Second."])) == ["First.", "Second."]
    assert findings.parted(run(findings=["First.", "Second."])) == ("First.", ["Second."])
    only = {"models": {}, "verdict": None, "findings": ["Only."]}
    assert findings.parted(only) == ("", ["Only."])


def test_models_that_always_name_one_class():
    every = dict.fromkeys(("teacher", "alone", "distilled"), model(ALL_ONE, ALL_ONE))
    (sentence,) = [x for x in causes(models=every) if "SSA" in x]
    assert sentence.startswith("All models always predict 'SSA', in every seed: they tell no ")
    nearly = {**run()["models"], "distilled": model([[2, 48], [0, 50]])}
    (sentence,) = causes(models=nearly)
    assert sentence.startswith("The distilled student nearly always predicts 'SSA', in every seed")
    one = {**run()["models"], "alone": model(GOOD, ALL_ONE, GOOD)}
    (sentence,) = causes(models=one)
    assert sentence.startswith("The student alone always predicts 'SSA', in 1 of 3 seeds: it tells")


def test_a_rare_class_that_is_found_is_no_fault():
    rare = model([[970, 10], [10, 10]], times=1)
    assert not [x for x in causes(models={**run()["models"], "alone": rare}) if "predicts" in x]
    never = model([[980, 0], [20, 0]], times=1)
    assert [x for x in causes(models={**run()["models"], "alone": never}) if "always predicts" in x]


@pytest.mark.parametrize(
    ("interval", "how"),
    [([-0.1, -0.01], "is worse than"), ([-0.05, 0.02], "is not clearly better than"),
     ([0.01, 0.05], None)],
)  # fmt: skip
def test_a_teacher_beside_the_student_alone(interval, how):
    over = {"alone": {"difference": sum(interval) / 2, "interval": interval}}
    found = causes(teacher_over=over)
    if how is None:
        assert found == []
        return
    (sentence,) = found
    assert sentence.startswith(f"The teacher (accuracy 0.9600) {how} the student alone (0.9000): ")
    assert f"interval {interval[0]:+.4f} to {interval[1]:+.4f}." in sentence
    assert sentence.endswith(findings.LITTLE if interval[1] < 0 else findings.UNCLEAR)


def test_a_teacher_of_a_run_without_that_interval():
    worse = {**run()["models"], "teacher": model([[40, 10], [10, 40]])}
    (sentence,) = causes(models=worse)
    assert sentence.startswith("The teacher (accuracy 0.8000) is worse than the student alone (0.9")
    same = {**run()["models"], "teacher": model(GOOD)}
    assert "is no better than the student alone" in causes(models=same)[0]
    near = {**run()["models"], "teacher": model([[903, 97], [97, 903]], times=1)}
    assert "0.9030) is hardly better than the student alone" in causes(models=near)[0]


def test_a_comparison_names_each_student_alone():
    models = {"teacher": model(GOOD), "mlp alone": model(GOOD), "mlp kd": model(GOOD)}
    sweep = {"command": "compare", "alone": [{"label": "mlp alone"}]}
    (sentence,) = causes(models=models, sweep=sweep)
    assert "is no better than mlp alone (0.9000)" in sentence
    models = {**models, "teacher": model([[48, 2], [2, 48]]), "mlp kd": model(ALL_ONE)}
    (sentence,) = causes(models=models, sweep=sweep)
    assert sentence.startswith("mlp kd always predicts 'SSA'")


def test_little_is_left_to_gain():
    models = {"alone": model([[99, 1], [0, 100]]), "distilled": model(GOOD)}
    (sentence,) = causes(models=models)
    assert sentence.startswith("The student alone already has accuracy 0.9950: at most 0.0050 is")


def test_the_last_epoch_was_the_best_in_every_seed():
    models = {**run()["models"], "teacher": model([[48, 2], [2, 48]], best=4)}
    (sentence,) = causes(models=models)
    assert sentence.endswith("in every seed: more epochs may help (--teacher-epochs).")
    assert causes(models=models, search={}) == []
    models["teacher"]["seeds"].append({**models["teacher"]["seeds"][0], "best_epoch": 3})
    assert causes(models=models) == []


def test_small_splits_are_named_with_what_they_can_tell():
    found = causes(task={**TASK, "validation": 60, "test": 90})
    # 0.9 of 60: Wilson's interval is 0.799 to 0.953
    assert found[0].startswith("Validation has 60 images: an accuracy is known to ±0.08 only")
    assert "so that chance, too, chooses epochs" in found[0]
    assert found[1] == "Test has 90 images: an accuracy is known to ±0.06 only (95 %, Wilson 1927)."
    # without facts of the task, test is counted
    (sentence,) = findings.make({"models": {"m": model([[9, 1], [1, 9]], times=2)}})
    assert sentence.startswith("Test has 40 images")
