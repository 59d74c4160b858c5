"""The benchmarks run, and say what they measured. What they measure is never asserted."""

import importlib
import json
import subprocess
import sys
from pathlib import Path

import pytest
import tyro

from kd_keras import cache

ROOT = Path(__file__).parents[1]
WITH_TARGETS = ("steady", "against_keras", "transfer", "sweep", "tuning")
WITH_TARGETS += ("pytorch", "convolutions", "memory", "size", "pictures", "startup", "job")
WITH_TARGETS += ("several", "augmentation")
# the others take as long again; they are run when their tables are made
QUICK = {
    "steady": ["--cases", "mnist"],
    "against_keras": ["--cases", "mnist", "--no-search"],
    "methods": ["--rounds", "1"],
    "pytorch": ["--rounds", "1"],
}


@pytest.fixture(autouse=True)
def from_the_root(monkeypatch):
    """The benchmarks are not installed: they are modules of a checkout."""
    monkeypatch.syspath_prepend(str(ROOT))


def module(name):
    return importlib.import_module(f"benchmarks.{name}")


def run(name, *arguments):
    command = [sys.executable, "-m", f"benchmarks.{name}", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True)


@pytest.mark.slow
@pytest.mark.parametrize("name", QUICK)
def test_a_benchmark_writes_its_raw_times_and_a_plot(name, tmp_path):
    if name == "pytorch":
        pytest.importorskip("torch")
    done = run(name, "--quick", "--out", str(tmp_path), *QUICK[name])
    assert done.returncode == 0, done.stderr[-2000:]
    report = json.loads((tmp_path / f"{name}.json").read_text())
    assert report["quick"] is True
    assert report["command"].startswith(f"python -m benchmarks.{name} --quick")
    assert str(tmp_path) not in report["command"]
    assert {"processor", "packages", "git_commit", "gpus"} <= set(report["machine"])
    for case in report["cases"]:
        assert case["sides"]
        assert case["findings"]
        for times in case["sides"].values():
            assert times["raw"]
            assert min(times["raw"]) > 0
        for finding in case["findings"]:
            assert finding["lowest"] <= finding["median"] <= finding["highest"]
            assert (finding["target"] is None) == (finding["met"] is None)
    assert (tmp_path / f"{name}.png").stat().st_size > 1000
    # its tables can be made, from it alone
    name = name.replace("_", "-")
    assert "not measured" not in module("table").blocks(tmp_path)[name]()


@pytest.mark.parametrize("name", [*WITH_TARGETS, "methods", "table", "scale"])
def test_help_says_how_it_is_called(name, capsys, monkeypatch):
    with pytest.raises(SystemExit):
        tyro.cli(module(name).Settings, prog=f"python -m benchmarks.{name}", args=["--help"])
    assert f"python -m benchmarks.{name}" in capsys.readouterr().out


def test_without_results_the_tables_say_so(tmp_path):
    made = module("table").blocks(tmp_path)
    assert "not measured" in made["speed"]()
    assert all("easured" in make() for name, make in made.items() if not name.startswith("scale"))
    assert "Not measured" in made["scale-hours"]()


def test_the_tables_of_the_pages_are_made_from_the_committed_results():
    for page in module("table").PAGES:
        text = (ROOT / page).read_text(encoding="utf-8")
        assert module("table").filled(text) == text, "run `python -m benchmarks.table --write`"


def test_a_marker_of_no_table_is_refused():
    with pytest.raises(ValueError, match="No table is called 'speeed'"):
        module("table").filled("<!-- made: speeed -->\n<!-- end: speeed -->")


def test_the_committed_results_are_not_quick_ones_and_plots_lie_beside_them():
    for path in (ROOT / "benchmarks" / "results").glob("*.json"):
        assert json.loads(path.read_text())["quick"] is False
        assert path.with_suffix(".png").exists()


def test_a_finding_is_held_against_its_target():
    finding = module("results").Finding
    assert finding("a", [1.0, 1.2, 1.1], target=1.1, bound="at most").met is True
    assert finding("a", [1.0, 1.2, 1.1], target=1.2, bound="at least").met is False
    assert finding("a", [1.0]).met is None


def test_a_ratio_is_taken_round_by_round():
    case = module("results").Case("a", "A", "s", {"over": [2.0, 9.0], "under": [1.0, 3.0]})
    case.ratio("over", "under", "ratio")
    assert case.findings[0].values == [2.0, 3.0]


def test_sides_take_turns_and_every_second_round_goes_backwards():
    order = []

    def side(name):
        return lambda: order.append(name) or [1.0]

    module("timing").in_turn({name: side(name) for name in "abc"}, rounds=2)
    assert "".join(order) == "abccba"


def test_an_instant_is_shared_among_the_operations_that_run_in_it():
    operations = module("operations")
    events = [(0, 4, "a"), (2, 4, "b"), (6, 7, "a"), (4, 5, operations.INPUT)]
    shared = operations.shares(events)
    assert shared == {"a": 4.0, "b": 1.0, operations.INPUT: 1, operations.IDLE: 1}
    # the pipeline works beside the step, and costs nothing there
    assert operations.shares([(0, 4, "a"), (0, 4, operations.INPUT)])["a"] == 4


def test_the_profile_tells_products_and_the_optimizer_apart():
    import numpy as np
    import tensorflow as tf

    operations = module("operations")
    a = tf.constant(np.ones((256, 256), "float32"))
    for compiled in (False, True):
        product = tf.function(lambda: tf.matmul(a, a), jit_compile=compiled)
        product()
        found = operations.profile(lambda product=product: [product() for _ in range(20)], steps=20)
        assert 0 < found[operations.MATMUL] <= found["step"]


def test_the_flops_of_a_training_step_leave_out_the_gradient_of_the_pixels():
    student = module("workloads").PAIRS["mnist"].build_student()
    hidden, last = 2 * 784 * 784, 2 * 784 * 10
    assert module("pytorch").training_flops(student) == 3 * (2 * hidden + last) - hidden


@pytest.mark.parametrize("storage", ["float32", "float16", "top10"])
def test_the_bytes_on_paper_are_those_of_the_cache(storage):
    tap = module("scale").Tap("logits", (1000,), storage)
    parts = cache.as_storage(storage).parts("logits", (1000,))
    assert tap.row_bytes == 8 + sum(part.row_bytes for part in parts.values())


def test_the_gain_on_paper_ends_where_every_epoch_has_fresh_views():
    speed_up = module("scale").speed_up
    assert speed_up(1.0, 90, 90) == 1.0
    assert speed_up(1.0, 1, 1e9) == pytest.approx(2.0)
    # 10 epochs: live 10 * (3 + 1) = 40, cached 2 * 3 + 10 * 1 = 16
    assert speed_up(3.0, 2, 10) == pytest.approx(40 / 16)


def test_drawn_images_are_all_different_and_the_same_from_any_start():
    drawn = module("builds").drawn
    images = drawn(0, 5000)
    assert images.shape == (5000, 4, 4, 1)
    assert len({image.tobytes() for image in images}) == 5000
    assert (drawn(100, 200) == images[100:200]).all()


def test_without_pytorch_the_way_to_install_it_is_said(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(ImportError, match="pip install torch"):
        module("torch_loop").need_torch()
