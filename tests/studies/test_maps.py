"""What models look at, in studies: a section on the maps of a run, and a page with several."""

import json

import pytest

import kd_keras as kd
from kd_keras.config import StudyConfig
from kd_keras.recipes.saving import save
from kd_keras.studies import cifar, maps, mnist
from kd_keras.studies.parts import Plot, Section, Table


@pytest.fixture
def study(tmp_path):
    """A study with a run on digits, whose models are not trained: maps need no training."""
    config = StudyConfig(study="mnist", smoke=True, out=tmp_path)
    run = config.run_folder("digits")
    run.mkdir(parents=True)
    for role, width in (("teacher", 0.25), ("alone", 0.125), ("student", 0.125)):
        model = kd.models.build("cnn", input_shape=(8, 8, 1), classes=10, width=width)
        save(model, run / f"{role}.keras")
    (run / "config.json").write_text(json.dumps({"config": {"task": "digits"}}))
    (run / "results.json").write_text(json.dumps({"models": {}, "verdict": None}))
    return config


def test_pointing_at_the_drawing_is_a_number_of_each_model(study):
    section = maps.section(study, "digits")
    (table,), (plot,) = section.tables, section.plots
    assert table.columns == ("", "teacher", "alone", "distilled")
    assert "pointing" in [row[0] for row in table.rows]
    assert plot.name == "maps"
    assert "Grad-CAM" in " ".join(section.reading)
    _, *shares = next(row for row in table.rows if row[0] == "pointing")
    (told,) = [text for text in section.reading if text.startswith("The maximum lies on")]
    assert all(f"in {float(share):.3f} of" in told for share in shares)


def test_a_page_with_two_students_says_which_is_which():
    table = Table("maps", "How alike", ("", "teacher"), (("pointing", "0.5"),))
    made = Section(("A sentence.",), (table,), (Plot("maps", "A panel.", None),))
    both = maps.joined(maps.of_student(made, name, f"{name} one") for name in ("small", "large"))
    assert both.reading == (
        *("The student is small one.", "A sentence."),
        *("The student is large one.", "A sentence."),
    )
    assert [table.name for table in both.tables] == ["maps-small", "maps-large"]
    assert [plot.caption for plot in both.plots] == [
        "The student is small one. A panel.",
        "The student is large one. A panel.",
    ]


def test_maps_share_the_runs_of_other_parts():
    config = StudyConfig(study="mnist", seeds=(0, 1))
    seen = mnist._seen(config)
    assert list(seen) == ["teacher", "grid", "convolutional"]
    assert {name: str(seen[name]) for name in ("teacher", "grid")} == {
        name: str(run) for name, run in mnist._grid(config).items()
    }
    (part,) = [part for part in cifar.CIFAR.parts if part.name == "maps"]
    assert str(part.planned(config)) == str(cifar._grid(config))
