"""The run folder: opened new, gone on with, refused, replaced."""

import dataclasses
import json
import platform
from pathlib import Path

import keras
import pytest

from kd_keras.config import DistillConfig, TrainConfig, as_dict
from kd_keras.recipes import setup
from kd_keras.recipes.runs import EXPLAIN, NOT_COMPARED, RunFolder
from kd_keras.utils.records import DamagedFile


@pytest.fixture
def out(tmp_path):
    return tmp_path / "runs/one"


def names(folder):
    return sorted(path.name for path in Path(folder).iterdir())


def line(model="teacher", epoch=1, seed=0):
    return {"seed": seed, "model": model, "epoch": epoch, "loss": 0.5}


def test_a_new_folder_holds_the_settings_and_the_machine(out):
    config = DistillConfig(out=out, epochs=3, student_knobs=("hidden=8,",))
    run = RunFolder(config)
    assert (run.path, run.work) == (out, out / "work")
    assert names(out) == ["config.json", "environment.json", "work"]
    assert names(out / "work") == ["lock"]
    kept = json.loads((out / "config.json").read_text())
    assert kept == {**as_dict(config), "kind": "DistillConfig"}
    machine = json.loads((out / "environment.json").read_text())
    assert machine["python"] == platform.python_version()
    assert machine["packages"]["keras"] == keras.__version__
    assert machine["memory_bytes"] > 2**28
    assert machine["cores"] >= 1


def test_the_same_settings_go_on(out):
    RunFolder(TrainConfig(out=out)).epoch(line())
    (out / "work/kept").touch()
    RunFolder(TrainConfig(out=out))
    assert (out / "work/kept").exists()
    assert json.loads((out / "metrics.jsonl").read_text()) == line()


def test_a_run_that_extends_the_one_that_is_there_goes_on_even_if_that_was_finished(out):
    first = RunFolder(TrainConfig(out=out))
    first.epoch(line())
    first.finish({"models": {}})
    seen = []

    def extends(before, now):
        seen.append((before["epochs"], now["epochs"]))
        return before["epochs"] < now["epochs"]

    longer = TrainConfig(out=out, epochs=20)
    for _ in range(2):  # it is not finished, and goes on again
        with RunFolder(longer, extends=extends) as run:
            assert (run.results, run.earlier) == (None, {"models": {}})
            assert run.lines() == [line()]
    assert seen == [(12, 20)]
    with pytest.raises(FileExistsError, match=r"\(epochs\)"):
        RunFolder(TrainConfig(out=out), extends=extends)
    found = {"models": {"model": {"seeds": [{"test": {"accuracy": 0.5}}]}}}
    RunFolder(longer).finish(found)
    with RunFolder(longer) as run:
        assert run.results == found
    assert names(out) == ["config.json", "environment.json", "metrics.jsonl", "results.json"]
    with RunFolder(dataclasses.replace(longer, epochs=30, overwrite=True), extends=extends) as run:
        assert run.earlier is None
        assert run.lines() == []


def test_other_settings_are_refused_by_name_and_nothing_is_lost(out):
    RunFolder(TrainConfig(out=out)).epoch(line())
    before = {path: path.read_bytes() for path in out.iterdir() if path.is_file()}
    with pytest.raises(FileExistsError, match=r"\(epochs, seeds\).*--out.*--overwrite"):
        RunFolder(TrainConfig(out=out, epochs=5, seeds=(7,)))
    with pytest.raises(FileExistsError, match="kind"):
        RunFolder(DistillConfig(out=out))
    assert {path: path.read_bytes() for path in out.iterdir() if path.is_file()} == before


def test_overwrite_replaces_other_settings(out):
    RunFolder(TrainConfig(out=out)).epoch(line())
    RunFolder(TrainConfig(out=out, epochs=5, overwrite=True))
    assert names(out) == ["config.json", "environment.json", "work"]
    assert json.loads((out / "config.json").read_text())["epochs"] == 5
    assert names(out.parent) == ["one"]


def test_where_and_how_is_no_other_setting(out, tmp_path):
    RunFolder(DistillConfig(out=out, export=tmp_path / "a")).epoch(line())
    RunFolder(DistillConfig(out=out, export=tmp_path / "b", overwrite=True))
    assert (out / "metrics.jsonl").exists()
    moved = out.rename(tmp_path / "moved")
    RunFolder(DistillConfig(out=moved))
    assert (moved / "metrics.jsonl").exists()


def finished(out, **changes):
    run = RunFolder(TrainConfig(out=out, **changes))
    run.epoch(line())
    run.finish({"models": {}})


def test_a_finished_run_of_the_same_settings_is_kept_and_left_as_it_was(out):
    finished(out)
    with RunFolder(TrainConfig(out=out)) as run:
        assert run.results == {"models": {}}
    assert names(out) == ["config.json", "environment.json", "metrics.jsonl", "results.json"]
    assert names(out.parent) == ["one"]


def test_what_a_kill_left_of_a_finished_run_is_cleared(out):
    finished(out)
    (out / "work/teacher-0").mkdir(parents=True)
    (out / ".kd_keras.results.json.x7abcdef").mkdir()
    with RunFolder(TrainConfig(out=out)) as run:
        assert run.results == {"models": {}}
    assert names(out) == ["config.json", "environment.json", "metrics.jsonl", "results.json"]


def test_a_run_of_before_a_setting_came_is_opened(out):
    finished(out)
    path = out / "config.json"
    config = json.loads(path.read_text())
    assert config.pop("task_options") == []
    path.write_text(json.dumps(config))
    with RunFolder(TrainConfig(out=out)) as run:
        assert run.results == {"models": {}}
    with pytest.raises(FileExistsError, match="task_options"):
        RunFolder(TrainConfig(out=out, task_options=("seed=1",)))


def test_a_setting_that_came_later_is_at_its_default_in_an_earlier_run(out):
    finished(out)
    path = out / "config.json"
    config = json.loads(path.read_text())
    for name in ("optimizer", "schedule", "warmup", "label_smoothing", "precision", "ema"):
        del config[name]
    path.write_text(json.dumps(config))
    with RunFolder(TrainConfig(out=out)) as run:
        assert run.results == {"models": {}}
    with pytest.raises(FileExistsError, match=r"other settings \(optimizer, warmup\)"):
        RunFolder(TrainConfig(out=out, optimizer="sgd", warmup=0.1))
    longer, seen = TrainConfig(out=out, epochs=30), []
    with pytest.raises(FileExistsError, match=r"other settings \(epochs\)"):
        RunFolder(longer, extends=lambda before, now: seen.append(before["optimizer"]))
    assert seen == ["adam"]


def test_overwrite_runs_a_finished_run_anew(out):
    finished(out)
    with RunFolder(TrainConfig(out=out, overwrite=True)) as run:
        assert run.results is None
    assert names(out) == ["config.json", "environment.json", "work"]
    assert names(out.parent) == ["one"]


def test_a_refused_finished_run_is_left_as_it_was(out):
    finished(out)
    with pytest.raises(FileExistsError, match="other settings"):
        RunFolder(TrainConfig(out=out, epochs=3))
    assert names(out) == ["config.json", "environment.json", "metrics.jsonl", "results.json"]


@pytest.mark.parametrize("changes", [{}, {"epochs": 7, "overwrite": True}])
def test_a_second_run_in_the_folder_is_kept_out_until_the_first_ends(out, changes):
    first = RunFolder(TrainConfig(out=out))
    first.epoch(line())
    with pytest.raises(BlockingIOError, match=rf"Another process has a run in {out}.*--out"):
        RunFolder(TrainConfig(out=out, **changes))
    assert names(out) == ["config.json", "environment.json", "metrics.jsonl", "work"]
    first.finish({"models": {}})
    with RunFolder(TrainConfig(out=out, **changes)) as second:
        assert (second.results is None) == bool(changes)


def test_an_error_in_a_run_lets_the_next_one_in(out):
    with pytest.raises(ArithmeticError), RunFolder(TrainConfig(out=out)) as run:
        raise ArithmeticError
    assert run is not None  # held, as by a traceback
    with RunFolder(TrainConfig(out=out)) as again:
        assert again.results is None


@pytest.mark.parametrize("overwrite", [False, True])
def test_a_folder_of_something_else_is_never_touched(out, overwrite):
    out.mkdir(parents=True)
    (out / "thesis.tex").write_text("years of work")
    with pytest.raises(FileExistsError, match="is not a run folder"):
        RunFolder(TrainConfig(out=out, overwrite=overwrite))
    assert names(out) == ["thesis.tex"]


def test_an_empty_folder_and_one_killed_at_its_first_file_will_do(out):
    out.mkdir(parents=True)
    RunFolder(TrainConfig(out=out))
    (out / "config.json").unlink()
    (out / "environment.json").unlink()
    (out / ".kd_keras.config.json.x7abcdef").mkdir()
    RunFolder(TrainConfig(out=out)).finish({})
    assert names(out) == ["config.json", "environment.json", "results.json"]


def test_what_is_not_the_runs_survives_its_end_and_its_replacement(out):
    """Hidden or not, file or folder, beside what the library wrote or in the report."""
    mine = (".git/HEAD", ".venv/bin/python", ".gitignore", ".DS_Store", "notes.md", "plots/a.png")
    late = ("report/.DS_Store", "report/mine.png", "explain/notes.md", "student.keras.bak")
    (out / ".git").mkdir(parents=True)
    for name in (".git/HEAD", ".gitignore"):  # before there was a run
        (out / name).touch()
    anew = {"overwrite": True}
    for count, changes in enumerate(({}, {}, anew, {"epochs": 3, **anew})):
        with RunFolder(TrainConfig(out=out, **changes)) as run:
            assert (run.results is None) == (count != 1)
            if count == 1:
                continue
            for name in (*mine, *late):
                (out / name).parent.mkdir(parents=True, exist_ok=True)
                (out / name).write_text(name)
            pages = ("report/index.html", "report/curves.png", *(f"explain/{n}" for n in EXPLAIN))
            for name in (*pages, "student.keras", "alone.keras"):
                (out / name).touch()
            (run.work / "model-0").mkdir()
            run.epoch(line())
            run.finish({"models": {}})
    with RunFolder(TrainConfig(out=out, **anew)):
        there = {str(p.relative_to(out)) for p in out.rglob("*") if p.is_file()}
    assert there == {*mine, *late, "config.json", "environment.json", "work/lock"}


def test_damaged_settings_and_results_are_named_with_a_way_out(out):
    finished(out)
    for name, texts in (
        ("config.json", ('{"model": ', "[]", "\0\xff")),
        ("results.json", ("", "[]", '{"models": 3}', '{"models": {"model": {"seeds": 3}}}')),
    ):
        path = out / name
        whole = path.read_bytes()
        for text in texts:
            path.write_text(text, "latin-1")
            with pytest.raises(DamagedFile, match=rf"{path} is damaged: .*--out.*--overwrite"):
                RunFolder(TrainConfig(out=out))
            assert path.read_text("latin-1") == text
        path.write_bytes(whole)
    (out / "config.json").write_text("half")
    with RunFolder(TrainConfig(out=out, overwrite=True)) as run:
        assert run.results is None


def test_a_damaged_line_of_an_epoch_is_set_aside_and_the_sound_ones_are_kept(out, caplog):
    run = RunFolder(TrainConfig(out=out))
    for entry in (line(epoch=1), line(epoch=2), line("alone", 1)):
        run.epoch(entry)
    path = out / "metrics.jsonl"
    path.write_text(path.read_text().replace('"epoch": 2', '"epoch": "2"'))
    run.mend()
    assert run.lines() == [line(epoch=1), line("alone", 1)]
    assert f"{path} is damaged: line 2: 'epoch' is '2', and must be a whole number" in caplog.text
    assert (out / "metrics.jsonl.damaged").exists()
    assert run.holds(seed=0, model="alone", epochs=1)
    assert not run.holds(seed=1, model="alone", epochs=1)
    assert not run.holds(seed=0, model="teacher", epochs=2)


def test_only_where_a_run_is_written_and_how_fast_is_not_compared():
    """A run that went on with another temperature would be no run of either."""
    assert set(NOT_COMPARED) == {
        *("out", "export", "format", "overwrite", "cache_dir", "cache_limit_gb"),
        "track",
    }


def test_a_file_in_the_folders_place_is_an_error(out):
    out.parent.mkdir()
    out.write_text("a file")
    with pytest.raises(OSError, match="one"):
        RunFolder(TrainConfig(out=out))
    assert out.read_text() == "a file"


def test_epochs_that_run_again_leave_no_line_behind(out):
    run = RunFolder(TrainConfig(out=out))
    run.forget_epochs(seed=0, model="teacher", after=0)  # nothing there yet
    others = [line("alone", 3), line("teacher", 3, seed=1)]
    for entry in [*[line(epoch=k) for k in (1, 2, 3)], *others]:
        run.epoch(entry)
    with (out / "metrics.jsonl").open("a") as file:
        file.write('{"seed": 0, "model": "tea')  # torn by a kill
    run.forget_epochs(seed=0, model="teacher", after=1)
    run.epoch(line(epoch=2))
    kept = [json.loads(text) for text in (out / "metrics.jsonl").read_text().splitlines()]
    assert kept == [line(epoch=1), *others, line(epoch=2)]


def test_finishing_writes_the_results_and_clears_what_was_for_going_on(out):
    run = RunFolder(TrainConfig(out=out))
    (run.work / "teacher-0").mkdir()
    (run.work / "teacher-0/best.weights.h5").touch()
    (out / ".kd_keras.student.keras.x7abcdef").mkdir()  # of a writing that was killed
    run.finish({"models": {"teacher": 1}})
    assert names(out) == ["config.json", "environment.json", "results.json"]
    assert json.loads((out / "results.json").read_text()) == {"models": {"teacher": 1}}


def test_other_data_or_files_under_the_same_settings_are_refused(out, tmp_path):
    teacher = tmp_path / "teacher.keras"
    teacher.write_bytes(b"one")
    task = setup.load_task(DistillConfig(limit=20))
    config = DistillConfig(out=out, teacher=str(teacher))
    RunFolder(config, setup.digests(config, task)).epoch(line())
    RunFolder(config, setup.digests(config, task))
    teacher.write_bytes(b"another")
    with pytest.raises(FileExistsError, match=r"\(digest of teacher\)"):
        RunFolder(config, setup.digests(config, task))
    other = dataclasses.replace(task, fingerprint="another")
    with pytest.raises(FileExistsError, match=r"\(digest of data, digest of teacher\)"):
        RunFolder(config, setup.digests(config, other))
    assert json.loads((out / "metrics.jsonl").read_text()) == line()
