"""`kd-keras tune`: what is printed, what lies there then, exit codes."""

import json
import re
import subprocess
import sys

import pytest
from command_line import ROOT

WORKERS = "kd_keras.cli.workers:TuneByWorkers"

QUICK = ("--smoke", "--teacher-knobs", "width=0.25", "--student-knobs", "hidden=8,")


@pytest.mark.slow
def test_tune_prints_its_trials_the_table_and_what_tuning_was_worth(main, tmp_path):
    code, out, err = main("tune", *QUICK, "--trials", "2")
    assert code == 0
    lines = out.splitlines()
    assert (
        lines[0]
        == "run in runs/digits-tune-smoke, report in runs/digits-tune-smoke/report/index.html"
    )
    drawn = {path.stem for path in (tmp_path / "runs/digits-tune-smoke/report").glob("*.png")}
    assert {"search", "surface", "parallel"} < drawn
    assert re.match(r"trial +score +epochs +temperature +alpha +learning_rate$", lines[2])
    assert sum(" * " in line for line in lines[4:6]) == 1
    assert re.search(r"^ +teacher +alone +default +tuned$", out, re.M)
    assert lines[-1].startswith("Best on validation, of 2 trials: ")
    said = [line.split(" ", 1)[1] for line in err.splitlines()]
    trials = [line for line in said if line.startswith("trial ")]
    found = [re.match(r"trial (\d{4}): validation accuracy 0\.\d{4}, temp", x) for x in trials]
    assert [line[1] for line in found] == ["0000", "0001"]
    code, again, err = main("tune", *QUICK, "--trials", "2")
    assert (code, again) == (0, out)
    assert "is finished; --overwrite runs it again" in err


@pytest.mark.slow
def test_a_search_of_which_a_trial_failed_exits_1_and_says_so(main, tmp_path):
    (tmp_path / "mine.py").write_text(
        "def space(hp):\n    return {'learning_rate': hp.Choice('rate', [1e-3, 3e38])}\n"
    )
    words = ("tune", "--smoke", "--student", "lenet5", "--student-knobs", "--oracle", "grid")
    code, out, err = main(*words, "--space", "mine.py:space", "--epochs", "2")
    assert code == 1
    assert "2 trials, 1 of them failed" in out
    assert re.search(r"trial 0001 failed, with rate=3e\+38\nTraceback", err)
    code, again, _ = main(*words, "--space", "mine.py:space", "--epochs", "2")
    assert (code, again) == (1, out)


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("--objective", "val_loss"), "Unknown objective 'val_loss'"),
        (("--oracle", "hyperbnd"), "Unknown oracle 'hyperbnd'. Did you mean 'hyperband'?"),
        (("--oracle", "hyperband", "--trials", "3"), "`trials` does not apply to hyperband"),
        (("--space", "gone.py:space"), "`space` names the file gone.py, which does not exist"),
    ],
)
def test_wrong_words_exit_2_and_leave_nothing(main, tmp_path, words, says):
    code, out, err = main("tune", *QUICK, *words)
    assert (code, out) == (2, "")
    assert says in err
    assert not any(tmp_path.iterdir())


@pytest.mark.slow
def test_python_m_tuning_search_is_the_same_command(main, tmp_path):
    words = [*QUICK, "--trials", "1", "--json", "--out", "run"]
    done = subprocess.run(
        [sys.executable, "-m", "tuning.search", *words],
        cwd=tmp_path, env={"PYTHONPATH": str(ROOT), "PATH": ""}, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found == json.loads((tmp_path / "run/results.json").read_text())
    # nothing of TensorFlow's greetings
    assert all(re.match(r"\d\d:\d\d:\d\d ", line) for line in done.stderr.splitlines())
    code, out, _ = main("tune", *words)
    assert (code, json.loads(out)) == (0, found)


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("--workers", "-1"), "`workers` must not be negative. Received: -1"),
        (("--port", "70000"), "`port` must lie in [0, 65535]"),
        (("--trials", "0"), "`trials` must be a positive number"),
    ],
)
def test_wrong_words_about_workers_exit_2(main, tmp_path, words, says):
    code, _, err = main(*QUICK, *words, only=WORKERS)
    assert code == 2
    assert says in err
    assert not any(tmp_path.iterdir())


def test_an_address_of_another_machine_cannot_be_listened_on(main):
    code, _, err = main(*QUICK, "--address", "192.0.2.1", only=WORKERS)
    assert code == 1
    assert "kd-keras: Cannot listen on 192.0.2.1:0" in err


def test_one_process_does_not_take_itself_for_one_of_many(main, tmp_path, monkeypatch):
    monkeypatch.setenv("KERASTUNER_TUNER_ID", "node-7")
    code, _, err = main("tune", *QUICK)
    assert code == 2
    assert "KERASTUNER_ORACLE_IP and KERASTUNER_ORACLE_PORT must be set too" in err
    monkeypatch.setenv("KERASTUNER_ORACLE_IP", "127.0.0.1")
    monkeypatch.setenv("KERASTUNER_ORACLE_PORT", "8000")
    code, _, err = main("tune", *QUICK)
    assert code == 2
    assert "join with `python -m tuning.distributed`" in err
    monkeypatch.setenv("KERASTUNER_TUNER_ID", "local-1")  # the chief's own are called so
    assert main(*QUICK, only=WORKERS)[0] == 2
    assert not any(tmp_path.iterdir())
