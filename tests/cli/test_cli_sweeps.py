"""`kd-keras sweep` and `compare`: what is printed, and what lies there then."""

import json
import re

import pytest

QUICK = ("--smoke", "--teacher-knobs", "width=0.25", "--student-knobs", "hidden=8,")


@pytest.mark.slow
def test_sweep_prints_its_grid_the_table_and_the_choice(main, tmp_path):
    code, out, err = main("sweep", *QUICK, "--seeds", "0", "1")
    assert code == 0
    lines = out.splitlines()
    assert (
        lines[0]
        == "run in runs/digits-sweep-smoke, report in runs/digits-sweep-smoke/report/index.html"
    )
    assert re.match(r"temperature +alpha 0\.1$", lines[2])
    assert [line.split()[0] for line in lines[4:6]] == ["1", "4"]
    assert sum("*" in line for line in lines[4:6]) == 1
    assert re.search(r"^ +teacher +alone +distilled$", out, re.M)
    assert lines[-1].startswith("Best on validation, of 2 settings: T=")
    trained = re.findall(r"seed (\d): (.*), validation", err)
    assert trained[:3] == [("0", "teacher"), ("0", "alone"), ("1", "alone")]
    assert len(trained) == 1 + 2 + 4
    report = tmp_path / "runs/digits-sweep-smoke/report"
    assert {"sweep.png", "curves.png", "confusion.png", "cost.png"} <= {
        path.name for path in report.iterdir()
    }


@pytest.mark.slow
def test_a_finished_sweep_is_shown_again_and_not_trained(main, tmp_path):
    first = main("sweep", *QUICK)
    report = tmp_path / "runs/digits-sweep-smoke/report/index.html"
    report.unlink()  # as after a kill while it was written
    (report.parent / "sweep.png").unlink()
    for path in report.parent.iterdir():
        path.unlink()
    code, out, err = main("sweep", *QUICK)
    assert (code, out) == (0, first[1])
    assert report.exists()
    assert "validation" not in err
    assert "is finished; --overwrite runs it again" in err
    code, _, err = main("sweep", *QUICK, "--overwrite")
    assert code == 0
    assert "seed 0: teacher, validation" in err


@pytest.mark.slow
def test_compare_prints_a_line_a_method_and_student(main, tmp_path):
    students = ("--students", "mlp:hidden=8,", "lenet5", "--methods", "kd", "kd:temperature=1")
    code, out, _ = main("compare", "--smoke", "--teacher-knobs", "width=0.25", *students)
    assert code == 0
    table = out.split("\n\n")[1].splitlines()
    assert table[0].split() == [
        *("accuracy", "gain", "interval", "validation", "agreement", "parameters", "latency"),
    ]
    names = [re.split(r"  +", line)[0] for line in table[2:]]
    assert names == [
        *("teacher", "mlp:hidden=8, alone", "mlp:hidden=8, kd", "mlp:hidden=8, kd:temperature=1"),
        *("lenet5 alone", "lenet5 kd", "lenet5 kd:temperature=1"),
    ]
    report = tmp_path / "runs/digits-compare-smoke/report"
    assert {path.name for path in report.iterdir()} == {
        *("index.html", "comparison.png", "cost.png"),
    }


@pytest.mark.slow
def test_json_of_a_sweep_is_its_results(main, tmp_path):
    code, out, _ = main("sweep", *QUICK, "--json", "--out", "run")
    assert code == 0
    assert json.loads(out) == json.loads((tmp_path / "run/results.json").read_text())


def test_a_folder_that_is_in_use_is_named_and_exits_1(main, tmp_path):
    from kd_keras.config import TrainConfig
    from kd_keras.recipes.runs import RunFolder

    with RunFolder(TrainConfig(out=tmp_path / "run")):
        code, out, err = main("sweep", *QUICK, "--out", "run")
    assert (code, out) == (1, "")
    assert "Another process has a run in run." in err
