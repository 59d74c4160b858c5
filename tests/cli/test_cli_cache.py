"""`kd-keras cache`: what it builds is what `distill` opens; what it lists, checks, throws away."""

import json
import os
import re
import time

import pytest

from kd_keras.config import DistillConfig
from kd_keras.methods import KD
from kd_keras.recipes import setup, teacher_predictions
from kd_keras.teachers import LiveTeacher

DATA = ("--limit", "50")


@pytest.fixture
def teacher(tmp_path):
    path = tmp_path / "teacher.keras"
    task = setup.load_task(DistillConfig(limit=50))
    setup.build_model("cnn", ("width=0.25",), None, task, seed=0).save(path)
    return path


@pytest.fixture
def built(main, teacher):
    """One folder of answers, in the default directory."""
    code, out, _ = main("cache", "build", "--teacher", teacher, *DATA, "--json")
    assert code == 0
    return json.loads(out)


def opened(teacher, **changes):
    """The key that a run would open."""
    config = DistillConfig(teacher=str(teacher), limit=50, **changes)
    task = setup.load_task(config)
    source = LiveTeacher(setup.load_model(teacher, task), KD().teacher_taps)
    return teacher_predictions.plan(source, config, task).key


def test_build_says_rows_bytes_and_place_before_it_begins(main, teacher, tmp_path):
    code, out, err = main("cache", "build", "--teacher", teacher, *DATA)
    assert code == 0
    key = opened(teacher)
    folder = tmp_path / "answers" / key
    assert re.search(rf"into {folder}: 50 rows of 48 bytes", err)
    assert re.fullmatch(rf"50 rows, 2\.4 kB, in {folder}, \d+\.\d s\n", out)
    assert (folder / "meta.json").exists()


@pytest.mark.parametrize(
    ("words", "changes"),
    [
        ((), {}),
        (("--storage", "float16"), {"cache_storage": "float16"}),
        (("--storage", "top3"), {"cache_storage": "top3"}),
        (("--augmentation", "shift", "--views", "3"), {"augmentation": "shift", "views": 3}),
        (("--split-seed", "4"), {"split_seed": 4}),
    ],
)
def test_what_is_built_is_what_a_run_with_the_same_settings_opens(main, teacher, words, changes):
    code, out, _ = main("cache", "build", "--teacher", teacher, *DATA, *words, "--json")
    assert code == 0
    done = json.loads(out)
    assert done["key"] == opened(teacher, **changes)
    assert done["rows"] == 50 * (changes.get("views") or 1)


@pytest.mark.slow
def test_distill_opens_what_was_built_and_computes_nothing(main, teacher, built):
    run = ("distill", "--teacher", teacher, *DATA, "--epochs", "1", "--seeds", "0")
    code, _, err = main(*run)
    assert code == 0
    assert f"Opened the teacher's predictions in {built['folder']}: 50 rows." in err
    assert "Computing" not in err


@pytest.mark.slow
def test_a_run_with_a_directory_keeps_the_answers_for_the_next(main, teacher, tmp_path):
    run = ("distill", "--teacher", teacher, *DATA, "--epochs", "1", "--seeds", "0")
    run += ("--cache-dir", tmp_path / "kept")
    first = main(*run)
    again = main(*run, "--overwrite")
    assert (first[0], again[0]) == (0, 0)
    assert (
        f"Computing the teacher's predictions for 'digits, train' into {tmp_path / 'kept'}"
        in first[2]
    )
    assert "Opened the teacher's predictions" in again[2]


@pytest.mark.slow
def test_a_directory_and_a_limit_do_not_change_what_is_computed(main, teacher, tmp_path):
    run = ("sweep", "--teacher", teacher, *DATA, "--epochs", "1", "--seeds", "0", "--json")
    run += ("--temperatures", "1", "--alphas", "0.1")
    code, out, _ = main(*run)
    assert code == 0
    code, again, err = main(*run, "--cache-dir", tmp_path / "kept", "--cache-limit-gb", "1")
    assert (code, again) == (0, out)
    assert "is finished" in err
    code, _, err = main(*run, "--cache-storage", "float16")
    assert code == 2
    assert "other settings (cache_storage)" in err


def test_list_shows_what_is_there(main, built, tmp_path):
    code, out, err = main("cache", "list")
    assert (code, err[9:]) == (0, "listing stored predictions\n")
    assert re.search(
        rf"^{built['key']}  digits, train +logits float32 +50 .* today  whole$", out, re.M
    )
    code, out, _ = main("cache", "list", "--json")
    (entry,) = json.loads(out)
    assert (entry["key"], entry["state"], entry["rows"]) == (built["key"], "whole", 50)
    code, out, _ = main("cache", "list", "--cache-dir", tmp_path / "other")
    assert (code, out) == (0, f"nothing is stored in {tmp_path / 'other'}\n")


def damage(built):
    path = next(p for p in (os.path.join(built["folder"], n) for n in os.listdir(built["folder"]))
                if p.endswith("values.bin"))  # fmt: skip
    with open(path, "r+b") as file:
        file.seek(100)
        file.write(b"!!!")


def test_verify_finds_what_is_damaged_and_exits_1(main, built):
    assert main("cache", "verify")[0] == 0
    assert main("cache", "verify", built["key"])[0] == 0
    damage(built)
    code, out, _ = main("cache", "verify")
    assert code == 1
    assert "damaged: the checksum of 0-values.bin is wrong from row 0 on" in out
    code, out, _ = main("cache", "verify", built["key"], "--json")
    assert (code, json.loads(out)[0]["state"]) == (1, "damaged")


def test_prune_says_what_it_removed_and_how_much(main, built):
    code, out, _ = main("cache", "prune")
    assert code == 0
    assert re.fullmatch(r"0 removed, 0 B freed; 1 left, \d[\d.]* kB\n", out)
    old = time.time() - 40 * 24 * 60 * 60
    for name in ("used", "."):
        os.utime(os.path.join(built["folder"], name), (old, old))
    code, out, _ = main("cache", "prune", "--older-than-days", "30")
    first, last = out.splitlines()
    assert re.fullmatch(rf"removed {built['key']} \(whole\), \d[\d.]* kB", first)
    assert re.fullmatch(r"1 removed, \d[\d.]* kB freed; 0 left, 0 B", last)
    assert not os.path.exists(built["folder"])


def test_prune_removes_until_a_size(main, built):
    code, out, _ = main("cache", "prune", "--keep-gb", "0", "--json")
    assert (code, [entry["key"] for entry in json.loads(out)]) == (0, [built["key"]])


def test_augmentation_without_views_is_refused(main, teacher):
    code, _, err = main("cache", "build", "--teacher", teacher, "--augmentation", "shift")
    assert code == 2
    assert "give `views`" in err


@pytest.mark.parametrize("command", ["list", "build", "verify", "prune"])
def test_help_explains_every_option(main, command):
    code, out, err = main("cache", command, "--help")
    assert (code, err) == (0, "")
    assert "--cache-dir" in out
    assert "--action" not in out
