"""A search that is given more trials ends as one that had so many from the start."""

import dataclasses
import json
import shutil

import pytest
from clocks import untimed

from tuning.run import run
from tuning.tuner import Tuner

# of four scores on a few examples, the Gaussian process cannot tell how smooth they are
pytestmark = pytest.mark.filterwarnings("ignore:The optimal value found for dimension")


def stamps(folder, *patterns):
    """When files were written."""
    return {p: p.stat().st_mtime_ns for pattern in patterns for p in folder.glob(pattern)}


def alpha(hp):
    """One hyper-parameter: the Gaussian process proposes from the fourth trial on."""
    return {"alpha": hp.Float("alpha", 0.0, 1.0)}


@pytest.fixture(scope="module")
def searches(tmp_path_factory):
    """The same search with few trials and with more, each let alone."""
    from tuning.config import TuneConfig

    folder = tmp_path_factory.mktemp("more")
    few = TuneConfig(
        teacher_knobs=("width=0.25",), student_knobs=("hidden=8,",), limit=64, epochs=1,
        batch_size=16, steps_per_execution=4, seeds=(0,), oracle="bayesian", trials=4,
        out=folder / "few",
    )  # fmt: skip
    more = dataclasses.replace(few, trials=6, out=folder / "more")
    run(few, space=alpha)
    return few, run(more, space=alpha)


def a_copy(config, path, **changes):
    """A finished search in a folder of its own."""
    shutil.copytree(config.folder, path)
    return dataclasses.replace(config, out=path, **changes)


@pytest.mark.slow
def test_a_finished_search_goes_on_and_trains_nothing_again_that_it_has(searches, tmp_path):
    few, wanted = searches
    config = a_copy(few, tmp_path / "run", trials=6)
    had = ("teacher.keras", "search/*/outcome.json", "tensorboard/0*")
    before = stamps(config.folder, *had)
    found = run(config, space=alpha)
    assert untimed(found) == untimed(wanted)
    after = stamps(config.folder, *had)
    assert {path: after[path] for path in before} == before
    assert len([path for path in after if path.name == "outcome.json"]) == 6
    lines = [json.loads(x) for x in (config.folder / "metrics.jsonl").read_text().splitlines()]
    told = [(line["model"], line["seed"], line["epoch"]) for line in lines]
    assert len(set(told)) == len(told)
    assert json.loads((config.folder / "config.json").read_text())["trials"] == 6
    assert not (config.folder / "work").exists()
    assert run(config, space=alpha) == found  # and is finished again


@pytest.mark.slow
def test_an_interrupted_search_goes_on_with_more_trials(searches, tmp_path, monkeypatch):
    few, wanted = searches
    config, ended = dataclasses.replace(few, out=tmp_path / "run"), []
    end = Tuner.on_trial_end

    def interrupted(self, trial):
        end(self, trial)
        ended.append(trial.trial_id)
        if len(ended) == 2:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Tuner, "on_trial_end", interrupted)
        with pytest.raises(KeyboardInterrupt):
            run(config, space=alpha)
    before = stamps(config.folder, "teacher.keras")
    found = run(dataclasses.replace(config, trials=6), space=alpha)
    assert untimed(found) == untimed(wanted)
    assert stamps(config.folder, "teacher.keras") == before


@pytest.mark.slow
@pytest.mark.parametrize("trials", [4, 6])
def test_a_kill_before_the_new_settings_are_written_loses_nothing(searches, tmp_path, trials):
    """The old results lie aside then, and the settings are still the old ones."""
    few, wanted = searches
    config = a_copy(few, tmp_path / "run", trials=trials)
    before = json.loads((config.folder / "results.json").read_text())
    (config.folder / "work").mkdir()
    (config.folder / "results.json").rename(config.folder / "work/earlier.json")
    assert untimed(run(config, space=alpha)) == untimed(wanted if trials == 6 else before)


@pytest.mark.slow
def test_fewer_trials_are_refused(searches):
    few, _ = searches
    with pytest.raises(FileExistsError, match=r"run with other settings \(trials\)"):
        run(dataclasses.replace(few, trials=3), space=alpha)
