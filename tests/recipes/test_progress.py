"""The bar, and the lines where nobody watches one."""

import io
import logging
import re

import keras
import numpy as np
from rich.console import Console

from kd_keras.recipes import progress
from kd_keras.recipes.progress import Progress


def trained(model, bar, epochs=2):
    model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True),
                  steps_per_execution=2)  # fmt: skip
    x, y = np.zeros((40, 6), "float32"), np.zeros(40)
    model.fit(x, y, batch_size=8, epochs=epochs, callbacks=[bar], verbose=0)


def test_the_bar_moves_with_the_steps_and_says_images_a_second(mlp, monkeypatch):
    monkeypatch.setattr(progress, "REDRAWN", 0.0)
    out = io.StringIO()
    shown = Progress(console=Console(file=out, force_terminal=True, width=120))
    moved = []
    with shown.bar("seed 0: teacher", 2, 40) as bar:
        show = bar._show
        bar._show = lambda steps: (show(steps), moved.append((steps.done, steps.rate)))
        trained(mlp(), bar)
        shown._bars.refresh()
    # five steps per epoch, two a call: the last call of an epoch has one
    assert [round(done, 6) for done, _ in moved] == [0.4, 0.8, 1, 1, 1.4, 1.8, 2, 2]
    assert moved[0][1] is None  # the first call is traced
    assert all(rate > 0 for _, rate in moved[1:])
    assert bar.coarse
    assert re.search(r"epoch 2/2.*images/s loss \d", out.getvalue())


def test_a_log_gets_few_lines_and_one_that_shows_nothing_none(mlp, monkeypatch, caplog):
    caplog.set_level(logging.INFO, logger="kd_keras")
    with Progress(console=Console(file=io.StringIO())).bar("t", 2, 40) as bar:
        trained(mlp(), bar)
    assert not caplog.records  # it took less than a minute
    monkeypatch.setattr(progress, "LOGGED", 0.0)
    with Progress(show=False).bar("t", 2, 40) as bar:
        trained(mlp(), bar)
    assert not caplog.records
    with Progress(console=Console(file=io.StringIO())).bar("seed 0: alone", 2, 40) as bar:
        trained(mlp(), bar)
    lines = [record.getMessage() for record in caplog.records]
    assert re.fullmatch(r"seed 0: alone: epoch 1 of 2, 40 % of it, no images/s", lines[0])
    told = r"seed 0: alone: epoch 2 of 2, 80 % of it, [\d,]+ images/s, about \d+ s left"
    assert re.fullmatch(told, lines[5])
