"""The command line, as a user meets it: exit codes, what is printed where, what lies there then."""

import contextlib
import dataclasses
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
from command_line import ROOT, kd_keras
from PIL import Image

from kd_keras import cli, export
from kd_keras.cli import entry
from kd_keras.cli.output import config_of
from kd_keras.config import CompareConfig, DistillConfig, SweepConfig
from kd_keras.recipes import PRESETS
from kd_keras.recipes.runs import RunFolder
from kd_keras.utils import interrupts

# --- distill ---


@pytest.mark.slow
def test_distill_without_settings_leaves_run_export_and_report(smoke):
    folder, done = smoke
    assert done.returncode == 0, done.stderr
    assert {path.name for path in folder.iterdir()} == {"runs", "saved_models"}
    run = folder / "runs/digits-kd-smoke"
    assert {path.name for path in run.iterdir()} == {
        *("config.json", "environment.json", "metrics.jsonl", "results.json"),
        *("predictions.npz", "predictions.csv", "predictions.parquet", "thumbnails"),
        *("student.keras", "alone.keras", "teacher.keras", "report"),
    }
    page = (run / "report/index.html").read_text()
    assert "digits" in page
    exported = folder / "saved_models/digits-kd-smoke"
    assert (exported / "saved_model.pb").exists()
    student = keras.models.load_model(run / "student.keras", compile=False)
    assert student.output_shape == (None, 10)


@pytest.mark.slow
def test_distill_prints_a_table_and_logs_to_standard_error_alone(smoke):
    _, done = smoke
    lines = done.stdout.splitlines()
    assert lines[0] == "student exported to saved_models/digits-kd-smoke"
    assert (
        lines[1] == "run in runs/digits-kd-smoke, report in runs/digits-kd-smoke/report/index.html"
    )
    assert re.search(r"teacher +alone +distilled", done.stdout)
    for row in ("accuracy", "parameters", "FLOPs, one image", "latency, batch of 1"):
        assert re.search(rf"^{row}", done.stdout, re.M)
    assert "which does not include the spread over seeds." in lines[-1]
    logged = done.stderr.splitlines()
    # a line of how it is run and one of how it went, what the teacher knows after one epoch, and
    # nothing of TensorFlow's greetings
    line_of = re.compile(r"\d\d:\d\d:\d\d (?:seed 0: |WARNING, seed 0: )?([Tt]he teacher|\w+)\b.*")
    assert logged.pop(0)[9:] == "digits: cnn teaches mlp by kd, 1 seed, in runs/digits-kd-smoke"
    words = [found and found[1] for found in map(line_of.fullmatch, logged)]
    taught = ["the teacher", "The teacher"]
    assert words == ["cnn", "teacher", *taught, "mlp", "alone", "mlp", "distilled"]


@pytest.mark.slow
def test_json_is_the_results_and_nothing_else(smoke, main, monkeypatch):
    """A finished run is shown again, and not trained anew."""
    folder, _ = smoke
    monkeypatch.chdir(folder)
    code, out, err = main("distill", "--smoke", "--json")
    assert code == 0, err
    found = json.loads(out)
    assert found == json.loads((folder / "runs/digits-kd-smoke/results.json").read_text())
    assert set(found["models"]) == {"teacher", "alone", "distilled"}
    assert found["export"]["path"] == "saved_models/digits-kd-smoke"


@pytest.mark.slow
def test_other_settings_in_a_finished_folder_are_refused_and_overwrite_replaces(
    smoke, main, tmp_path, monkeypatch
):
    folder, _ = smoke
    monkeypatch.chdir(folder)
    code, _, err = main("distill", "--smoke", "--export", tmp_path / "e", "--alpha", "0.5")
    assert code == 2
    assert re.search(r"run with other settings \(alpha\).*--overwrite", err)
    out = tmp_path / "run"
    assert main("train", *QUICK, "--out", out)[0] == 0
    assert main("train", *QUICK, "--epochs", "2", "--out", out, "--overwrite")[0] == 0
    assert json.loads((out / "config.json").read_text())["epochs"] == 2
    assert (out / "metrics.jsonl").read_text().count("\n") == 2


QUICK = (
    *("--model", "mlp", "--model-knobs", "hidden=8,", "--limit", "50", "--epochs", "1"),
    *("--seeds", "0", "--batch-size", "16"),
)


# --- the other commands, on what the smoke run left ---


@pytest.mark.slow
def test_evaluate_judges_a_saved_model(smoke, main):
    folder, _ = smoke
    run = folder / "runs/digits-kd-smoke"
    files = run / "student.keras", "--teacher", run / "teacher.keras"
    code, out, err = main("evaluate", *files, "--json")
    assert (code, err[9:]) == (0, f"digits: evaluating {files[0]}\n")
    (entry,) = json.loads(out)["models"].values()
    (seed,) = entry["seeds"]
    assert seed["test"]["examples"] == 360  # the whole test split
    assert 0 <= seed["test"]["agreement"] <= 1
    code, out, _ = main("evaluate", *files)
    assert code == 0
    assert re.search(r"^agreement with teacher +0\.\d{4}$", out, re.M)


@pytest.mark.slow
def test_export_writes_what_answers_alike(smoke, main, tmp_path):
    folder, _ = smoke
    student = folder / "runs/digits-kd-smoke/student.keras"
    code, out, _ = main("export", student, tmp_path / "new", "--json")
    assert (code, json.loads(out)["format"]) == (0, "saved_model")
    images = np.random.default_rng(0).integers(0, 256, (3, 8, 8, 1)).astype("float32")
    want = keras.models.load_model(student, compile=False).predict(images, verbose=0)
    np.testing.assert_allclose(export.predict(tmp_path / "new", images)["logits"], want, atol=1e-4)


@pytest.mark.slow
def test_report_of_one_run_and_of_two(smoke, main, tmp_path):
    folder, _ = smoke
    run = folder / "runs/digits-kd-smoke"
    for runs in ([run], [run, run]):
        code, out, _ = main("report", *runs, "--out", tmp_path / str(len(runs)))
        assert code == 0
        assert out == f"{tmp_path / str(len(runs)) / 'index.html'}\n"
        assert Path(out.strip()).exists()


@pytest.mark.slow
def test_train_keeps_a_model(main, tmp_path):
    code, out, err = main("train", *QUICK)
    assert code == 0, err
    run = tmp_path / "runs/digits-mlp"
    first = out.splitlines()[0]
    assert first == (
        "model saved to runs/digits-mlp/model.keras, report in runs/digits-mlp/report/index.html"
    )
    assert (run / "model.keras").exists()
    assert (run / "report/index.html").exists()


def test_list_names_everything(main):
    code, out, err = main("list", "--json")
    assert (code, err[9:]) == (0, "listing all names\n")
    names = json.loads(out)
    halves = ["digits_halves", "mnist_halves"]
    assert names["tasks"] == ["digits", "mnist", *halves, "mhist", "folder"]
    assert {"cnn", "mlp", "resnet50v2", "mobilenetv2"} <= set(names["models"])
    assert "kd" in names["methods"]
    assert {"adam", "adamw", "sgd"} <= set(names["optimizers"])
    assert "saved_model" in names["formats"]
    assert names["presets"] == list(PRESETS)
    code, out, _ = main("list")
    assert [line.split()[0] for line in out.splitlines()] == list(names)


def test_list_of_augmentations_shows_strengths_and_ranges(main):
    code, out, _ = main("list", "augmentations")
    assert code == 0
    assert "crop                   share=0.125 (0 to 0.5)\n" in out
    assert "randaugment            operations=2 (0 to 8) magnitude=9 (0 to 10)\n" in out


def test_list_of_one_kind_shows_its_options_as_a_command_takes_them(main):
    code, out, _ = main("list", "models")
    assert code == 0
    assert "hidden=784,784 dropout=0.0 input_dropout=0.0 max_norm=None\n" in out
    code, out, _ = main("list", "tasks", "--json")
    assert json.loads(out)["folder"]["channels"] == "None"
    code, _, err = main("list", "formats")
    assert code == 2
    assert "Known: augmentations, methods, models, tasks." in err


def test_a_task_takes_the_options_that_it_declares(main, tmp_path):
    for part, shade in (("train", 40), ("test", 60)):
        for name, extra in (("dark", 0), ("light", 150)):
            folder = tmp_path / part / name
            folder.mkdir(parents=True)
            for k in range(10):
                pixels = np.full((8, 8, 3), shade + extra + k, "uint8")
                Image.fromarray(pixels).save(folder / f"{k}.png")
    given = ("--task", "folder", "--data-dir", tmp_path, "--epochs", "1", "--seeds", "0")
    own = ("--task-options", "channels=1", "validation_share=0.5")
    run = tmp_path.with_name("run-of-options")
    code, _, err = main("train", *given, *own, "--model", "lenet5", "--out", run)
    assert code == 0, err
    facts = json.loads((run / "results.json").read_text())["task"]
    assert (facts["train"], facts["validation"]) == (10, 10)
    assert keras.models.load_model(run / "model.keras").input_shape == (None, 8, 8, 1)
    code, _, err = main("train", *given, "--task-options", "chanels=1")
    assert code == 2
    assert "Unknown option of task 'folder': 'chanels'. Did you mean 'channels'" in err
    code, _, err = main("train", *given, "--task-options", "image_size=8", "--image-size", "8")
    assert code == 2
    assert "`task_options` gives 'image_size', which has its own option" in err


# --- help ---


@pytest.mark.parametrize("command", [name for name in cli.COMMANDS if name != "cache"])
def test_help_shows_every_field_with_its_explanation(main, command):
    code, out, err = main(command, "--help")
    assert (code, err) == (0, "")
    positional = {"export": {"model": "MODEL", "out": "PATH"}, "evaluate": {"model": "MODEL"}} | {
        "report": {"runs": "RUN ..."},
        "list": {"kind": "KIND"},
        "data": {"given": "DATA"},
        "study": {"study": "STUDY"},
        "explain": {"run": "RUN"},
    }
    own = positional.get(command, {})
    fields = [field.name for field in dataclasses.fields(cli.COMMANDS[command])]
    shown = [own.get(name, f"--{name.replace('_', '-')}") for name in fields]
    assert [name for name in shown if name not in out] == []


def test_help_of_all_names_the_commands_and_comes_without_tensorflow(tmp_path):
    start = time.monotonic()
    done = kd_keras("--help", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    for command in cli.COMMANDS:
        assert command in done.stdout
    assert time.monotonic() - start < 15


def test_the_defaults_are_those_of_the_preset_and_words_change_them():
    for words, preset, smoke in (
        ([], "digits-kd", False),
        (["--preset", "mnist-kd"], "mnist-kd", False),
        (["--preset=mhist-kd", "--smoke"], "mhist-kd", True),
    ):
        command = entry._parse(["distill", *words])
        out = Path(f"runs/{preset}-smoke") if smoke else None
        want = dataclasses.replace(PRESETS[preset](smoke), out=out)
        assert config_of(DistillConfig, command) == want
    command = entry._parse(
        ["distill", "--preset", "mhist-kd", "--epochs", "3", "--seeds", "4", "5"]
    )
    config = config_of(DistillConfig, command)
    changed = dataclasses.replace(PRESETS["mhist-kd"](), epochs=3, seeds=(4, 5))
    assert config == changed


def test_another_model_or_method_does_not_take_what_the_preset_says_of_its_own():
    parsed = entry._parse(
        ["distill", "--preset", "mhist-kd", "--student", "lenet5", "--method=rkd", "--alpha", "0"]
    )
    assert (parsed.student_knobs, parsed.student_weights) == ((), None)
    assert parsed.temperature is None
    compressed = entry._parse(["distill", "--preset", "mhist-kd", "--method", "compression"])
    assert compressed.alpha is None
    assert (parsed.teacher, parsed.teacher_weights) == ("resnet50v2", "imagenet")
    assert entry._parse(["distill", "--student", "lenet5"]).student_knobs == ()
    for words in ([], ["--student", "mlp"], ["--student=mlp", "--method", "rkd"]):
        assert entry._parse(["distill", *words]).student_knobs == ("hidden=256",)
    words = ["tune", "--student", "cnn", "--student-knobs", "width=0.5"]
    assert entry._parse(words).student_knobs == ("width=0.5",)


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("smoke", [False, True])
def test_a_sweep_has_the_data_models_and_budget_of_its_preset(preset, smoke):
    source = PRESETS[preset](smoke)
    words = ["--preset", preset, *(["--smoke"] if smoke else [])]
    study = config_of(SweepConfig, entry._parse(["sweep", *words]))
    compare = config_of(CompareConfig, entry._parse(["compare", *words]))
    shared = {field.name for field in dataclasses.fields(SweepConfig)} & set(vars(source))
    for name in shared - {"out", "overwrite"}:
        assert getattr(study, name) == getattr(source, name), name
        assert getattr(compare, name, getattr(source, name)) == getattr(source, name), name
    assert len(study.temperatures) * len(study.alphas) == (2 if smoke else 12)
    assert compare.methods == CompareConfig().methods
    assert compare.alphas == (() if source.alpha is None else (source.alpha,))
    assert compare.students[0].split(":")[0] == source.student


# --- wrong words ---


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["distil"], "Did you mean 'distill'?"),
        (["distill", "--epoch", "3"], "--epochs"),
        (["distill", "--preset", "digit-kd"], "Did you mean 'digits-kd'?"),
        (["distill", "--task", "digit"], "Did you mean 'digits'?"),
        (["distill", "--teacher", "cnm"], "Did you mean 'cnn'?"),
        (["distill", "--student", "mobilnetv2"], "Did you mean 'mobilenetv2'?"),
        (["distill", "--method", "kdd"], "Did you mean 'kd'?"),
        (["distill", "--augmentation", "miror"], "Did you mean 'mirror'?"),
        (["distill", "--augmentation", "flip+crop=2"], "must be a number from 0 to 0.5"),
        (["distill", "--augmentation", "stain"], "`stain` needs colour images"),
        (["distill", "--student-knobs", "hiden=3"], "Did you mean 'hidden'?"),
        (["distill", "--method-knobs", "temprature=3"], "Did you mean 'temperature'?"),
        (["train", "--model", "lenet"], "Did you mean 'lenet5'?"),
        (["train", "--model-knobs", "widht=2"], "Did you mean 'width'?"),
        (["evaluate", "absent.keras", "--task", "mnits"], "Did you mean 'mnist'?"),
        (["export", "a.keras", "b", "--format", "savedmodel"], "Did you mean 'saved_model'?"),
        (
            ["export", "a.keras", "b", "--quantize", "int8"],
            "has no quantization 'int8', only: none",
        ),
        (["export", "a.keras", "b", "--quantize", "int4"], "Did you mean 'int8'?"),
        (
            ["export", "a.keras", "b.onnx", "--format", "onnx", "--quantize", "int8"],
            "name a run folder in place of its model",
        ),
        (["export", "a", "b", "--format", "all", "--quantize", "int8"], "leave `--quantize` out"),
        (["distill", "--format", "all"], "Unknown format 'all'"),
        (["list", "--jsn"], "--json"),
        (["distill", "--epochs", "many"], "invalid literal"),
        (["distill", "--epochs", "0"], "must be a positive number"),
        (["distill", "--alpha", "2"], "`alpha` must lie in [0, 1]"),
        (["distill", "--munge", "0"], "must be a positive number"),
        (
            ["distill", "--munge", "2"],
            "transfer set has no labels. Without labels the student can learn only",
        ),
        (["distill", "--munge", "2", "--method", "dkd", "--alpha", "0"], "DKD needs labels"),
        (["sweep", "--munge", "2"], "`alpha` must be 0"),
        (["sweep", "--alphas"], "`alphas` must be one or more different values"),
        (["distill", "--munge", "2", "--transfer-dir", "."], "give one of them"),
        (["distill", "--transfer-dir", "absent", "--alpha", "0"], "no folder 'absent'"),
        (["distill", "--seeds"], "`seeds` must be one or more different numbers"),
        (["distill", "--student-knobs", "hidden"], "takes entries like width=0.5"),
        (["distill", "--cache-storage", "float8"], "`storage` must be 'float32'"),
        (["distill", "--cache-limit-gb", "0"], "must be a positive number"),
        (["distill", "--cache-limit-gb", "1e-6"], "more than `limit`=1000 allows"),
        (["distill", "--views", "2"], "name an `augmentation`"),
        (["sweep", "--preset", "mnist"], "Did you mean 'mnist-kd'?"),
        (["sweep", "--method", "kdd"], "Did you mean 'kd'?"),
        (["sweep", "--alphas", "0", "2"], "`alphas` must lie in [0, 1]"),
        (["sweep", "--temperatures", "1", "1"], "`temperatures` must be one or more different"),
        (["sweep", "--temperature", "1"], "--temperatures"),
        (["compare", "--methods", "kd", "kdd"], "Did you mean 'kd'?"),
        (["compare", "--students", "mlp:hiden=3"], "Did you mean 'hidden'?"),
        (["compare", "--students"], "`students` must be one or more different values"),
        (["cache"], "list, build, verify, prune"),
        (["cache", "lst"], "list"),
        (["cache", "build"], "--teacher"),
        (["cache", "build", "--teacher", "absent.keras"], "no model file absent.keras"),
        (
            ["cache", "verify", "0123456789abcdef", "--cache-dir", "absent"],
            "no predictions with the key",
        ),
        (["cache", "prune", "--keep-gb", "-1"], "must not be negative"),
        ([], "distill"),
        (["evaluate"], "MODEL"),
        (["evaluate", "absent.keras"], "no model file absent.keras"),
        (["export", "absent.keras", "out"], "no model file absent.keras"),
        (["report"], "at least one run folder"),
        (["report", "absent"], "absent"),
        (["distill", "--teacher", "absent.keras"], "absent.keras"),
        (["distill", "--task", "mhist"], "https://bmirds.github.io/MHIST/"),
        (["distill", "--task", "folder"], "Expected: one folder per class"),
        (["distill", "--preset", "mhist-kd"], "--data-dir"),
        (["train", "--task", "mhist", "--data-dir", "absent"], "--data-dir"),
    ],
    ids=lambda given: " ".join(given) if isinstance(given, list) else "",
)
def test_wrong_words_exit_2_and_say_what_to_do(main, tmp_path, words, said):
    code, out, err = main(*words)
    assert code == 2
    assert out == ""
    plain = " ".join(err.replace("│", " ").split())  # tyro draws a box, and breaks lines
    assert said in plain
    assert "Traceback" not in err
    assert not any(tmp_path.iterdir())


@pytest.mark.slow
def test_a_real_process_says_the_same(tmp_path):
    done = kd_keras("distill", "--teacher", "cnm", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    _, said = done.stderr.splitlines()  # after what the command was about to do
    assert said.startswith("kd-keras: Unknown model 'cnm'. Did you mean 'cnn'? Known: ")
    assert not any(tmp_path.iterdir())


def test_a_traceback_is_shown_on_request(tmp_path):
    done = kd_keras("distill", "--preset", "mnist", cwd=tmp_path, KD_KERAS_TRACEBACK="1")
    assert done.returncode == 1
    assert "Traceback" in done.stderr


@pytest.mark.slow
def test_mnist_without_files_exits_2_in_time(tmp_path):
    from kd_keras.data import builtin

    if builtin.reachable(builtin.MNIST_HOST, seconds=6):
        pytest.skip(f"{builtin.MNIST_HOST} can be reached: TFDS would download MNIST")
    start = time.monotonic()
    done = kd_keras("distill", "--preset", "mnist-kd", "--data-dir", "absent", cwd=tmp_path)
    assert time.monotonic() - start < 120  # TFDS would try for 200 s
    assert (done.returncode, done.stdout) == (2, "")
    assert "MNIST is not prepared in absent" in done.stderr
    assert "tfds.load('mnist'" in done.stderr
    assert not any(tmp_path.iterdir())


# --- bad days ---


def test_divergence_exits_1_with_step_term_and_rate(main):
    code, out, err = main("train", *QUICK, "--learning-rate", "3e38")
    assert (code, out) == (1, "")
    assert re.search(r"kd-keras: .*'model' diverged: loss is not finite by epoch 1, step 2", err)
    assert "learning rate 3e+38" in err


def softmax_model(path):
    inputs = keras.Input((8, 8, 1))
    outputs = keras.layers.Dense(10, activation="softmax")(keras.layers.Flatten()(inputs))
    keras.Model(inputs, outputs).save(path)


@pytest.mark.parametrize("command", ["evaluate", "export"])
def test_files_that_are_no_model_or_no_logits_exit_2(main, tmp_path, command):
    rest = ["out"] if command == "export" else []
    (tmp_path / "text.keras").write_text("no model")
    code, _, err = main(command, "text.keras", *rest)
    assert code == 2
    assert "A whole Keras model is needed" in err
    assert "text.keras is neither" in err
    softmax_model(tmp_path / "softmax.keras")
    code, _, err = main(command, "softmax.keras", *rest)
    assert code == 2
    assert "must return logits" in err
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_a_reader_that_goes_away_is_no_error_with_a_traceback(tmp_path):
    process = subprocess.Popen(
        [sys.executable, "-m", "kd_keras", "list"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    process.stdout.close()  # as `| head -0`
    said = process.stderr.read()
    process.stderr.close()
    assert process.wait(60) in (0, 1)
    assert "Traceback" not in said


# As a terminal starts it: a shell without job control, and what such a shell starts, has what
# runs in the background ignore Ctrl-C, which its children inherit.
IN_FRONT = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler);"


@pytest.mark.slow
def test_ctrl_c_says_how_to_go_on(tmp_path):
    words = ["train", "--epochs", "5000", "--seeds", "0"]
    process = subprocess.Popen(
        [sys.executable, "-c", f"{IN_FRONT} from kd_keras.cli import door; door({words})"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stderr=subprocess.PIPE,
        text=True,
    )
    metrics = tmp_path / "runs/digits-cnn/metrics.jsonl"
    while not metrics.exists() and process.poll() is None:
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    with contextlib.closing(process.stderr) as stream:
        said = stream.read()
    assert process.wait(60) == 130
    assert said.splitlines()[-1] == "kd-keras: interrupted; run the same command to resume"
    assert "Traceback" not in said


def test_a_signal_that_a_destructor_drops_ends_the_run_all_the_same(main, tmp_path, monkeypatch):
    """As in Keras' weak references: Python raises there, and goes on as if nothing were."""
    dropped, epoch = [], RunFolder.epoch
    monkeypatch.setattr(sys, "unraisablehook", dropped.append)
    before = {number: signal.getsignal(number) for number in interrupts.KINDS}
    words = ["train", "--model", "mlp", "--limit", "64", "--epochs", "50", "--seeds", "0"]
    for number, code, said in (
        (signal.SIGINT, 130, "interrupted"),
        (signal.SIGTERM, 143, "terminated by SIGTERM"),
    ):

        class Sends:
            def __del__(self, number=number):
                os.kill(os.getpid(), number)

        def send(folder, line, kind=Sends):
            epoch(folder, line)
            kind()

        signal.signal(signal.SIGINT, signal.default_int_handler)
        monkeypatch.setattr(RunFolder, "epoch", send)
        found, _, err = main(*words, "--out", f"run{number}")
        last = f"kd-keras: {said}; run the same command to resume"
        assert (found, err.splitlines()[-1]) == (code, last)
        assert len((tmp_path / f"run{number}/metrics.jsonl").read_text().splitlines()) == 1
        assert dropped.pop().exc_type is interrupts.KINDS[number]
        signal.signal(signal.SIGINT, before[signal.SIGINT])
    assert {number: signal.getsignal(number) for number in interrupts.KINDS} == before


def test_an_error_of_tensorflow_is_one_sentence(main, monkeypatch):
    said = "Input is empty.\n\t [[{{node decode}}]] [Op:DecodePng]"
    error = tf.errors.InvalidArgumentError(None, None, said)
    monkeypatch.setattr(cli.files.List, "__call__", lambda self: (_ for _ in ()).throw(error))
    code, _, err = main("list")
    said = "kd-keras: TensorFlow failed with InvalidArgumentError: Input is empty."
    assert (code, err.splitlines()[-1]) == (1, said)


# Sends Ctrl-C to itself when a module is about to be imported.
IMPORTING = """
import os, runpy, sys
module, moment = sys.argv[1:3]
class Finder:
    @staticmethod
    def find_spec(name, path=None, target=None):
        if name == moment:
            os.kill(os.getpid(), signal.SIGINT)
sys.meta_path.insert(0, Finder)
sys.argv[1:] = sys.argv[3:]
runpy.run_module(module, run_name="__main__")
"""


# Says which packages were imported when the first line was logged, and after TensorFlow's import.
HEAVY = """
import logging, sys
from kd_keras import cli
from kd_keras.cli import entry
names = ("tensorflow", "keras", "sklearn", "matplotlib", "pandas", "scipy")
def loaded():
    return sorted(name for name in names if sys.modules.get(name) is not None)
class First(logging.Handler):
    def emit(self, record):
        print(record.getMessage(), loaded(), file=sys.stderr)
        logging.getLogger("kd_keras").removeHandler(self)
logging.getLogger("kd_keras").addHandler(First())
code = cli.main(sys.argv[1:])
print(loaded(), file=sys.stderr)
import matplotlib, pandas, sklearn  # which was hidden from Keras is there for all others
sys.exit(code)
"""


def test_the_first_line_comes_before_tensorflow_and_without_packages_that_keras_may_lack(tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", HEAVY, "cache", "list", "--cache-dir", "none"],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    first, last = done.stderr.splitlines()
    assert first == "listing stored predictions in none []"
    assert last == "['keras', 'scipy', 'tensorflow']"


WORDS = {
    "evaluate": ["model.keras"],
    "export": ["model.keras", "folder"],
    "report": ["runs/digits-kd"],
    "cache": ["list"],
    "study": ["mnist"],
    "explain": ["runs/digits-kd"],
}


@pytest.mark.parametrize("command", cli.COMMANDS)
def test_every_command_says_first_what_it_will_do(command):
    opening = entry._parse([command, *WORDS.get(command, [])]).opening
    assert len(opening) > 10
    assert "\n" not in opening


def test_ctrl_c_while_importing_is_no_traceback():
    for module, moment, *words in (
        ("kd_keras", "kd_keras.cli.entry", "list"),
        ("kd_keras", "tyro", "list"),
        ("kd_keras", "tensorflow", "train"),
        ("tuning.search", "tuning.config"),
        ("tuning.distributed", "grpc"),
    ):
        done = subprocess.run(
            [sys.executable, "-c", IN_FRONT + IMPORTING, module, moment, *words],
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
        )
        assert done.returncode == 130, (module, moment, done.stderr)
        assert "Traceback" not in done.stderr
        assert done.stderr.splitlines()[-1].startswith("kd-keras: interrupted")


# --- what a run folder knows ---


def test_the_version_is_that_of_the_package(main):
    import kd_keras as package

    assert main("--version") == (0, f"kd_keras {package.__version__}\n", "")


@pytest.mark.slow
def test_a_run_folder_is_evaluated_and_exported_by_its_name(smoke, main):
    folder, _ = smoke
    run = folder / "runs/digits-kd-smoke"
    code, said, _ = main("evaluate", run, "--json")
    assert code == 0
    kept = json.loads((run / "results.json").read_text())
    want = kept["models"]["distilled"]["seeds"][0]["test"]["accuracy"]
    assert json.loads(said)["models"]["model"]["summary"]["accuracy"]["mean"] == want
    code, said, _ = main("export", run, "exported")
    assert code == 0
    assert "loaded in a new process and compared on 64 test images" in said
    assert re.search(r"^accuracy 0\.\d+, \+0\.0000 against the model, 95 % interval", said, re.M)
    assert re.search(r"^one image on 1 thread: .* ms, .*; the Keras model ", said, re.M)


@pytest.mark.slow
def test_a_run_is_exported_in_integers(smoke, main, tmp_path):
    pytest.importorskip("ai_edge_litert")
    run, path = smoke[0] / "runs/digits-kd-smoke", tmp_path / "student.tflite"
    words = "export", run, path, "--format", "litert", "--quantize", "int8", "--split", "validation"
    code, said, err = main(*words, "--min-agreement", "0.5", "--json")
    assert code == 0, err
    found = json.loads(said)
    assert (found["quantize"], found["metric"]["split"]) == ("int8", "validation")
    assert json.loads((tmp_path / "student.tflite.json").read_text())["export"] == found


def test_a_run_folder_without_a_model_is_told(main, tmp_path):
    for name in ("config.json", "results.json"):
        (tmp_path / name).write_text("{}")
    code, _, said = main("evaluate", tmp_path)
    assert code == 2
    assert "holds neither student.keras nor model.keras" in said
