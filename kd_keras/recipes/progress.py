"""Progress of a training on standard error: a bar on a terminal, else a line per minute."""

import contextlib
import logging
import time
from collections.abc import Callable, Iterator

import keras
from rich.console import Console
from rich.progress import BarColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bars

log = logging.getLogger(__name__)

REDRAWN = 0.1  # seconds between two updates of a bar
LOGGED = 60.0  # seconds between two lines, if there is no bar


class Progress:
    """Shows trainings, one after the other.

    Args:
        show: whether to show anything.
        console: the console; standard error if not given. A bar is drawn on a terminal; elsewhere
            a line is logged per minute, and none for a shorter training.
    """

    def __init__(self, show: bool = True, console: Console | None = None):
        console = Console(stderr=True) if console is None else console
        self.show, self.drawn = show, show and console.is_terminal
        self._bars = Bars(
            TextColumn("{task.description:<22}"),
            BarColumn(),
            TextColumn("{task.fields[epoch]}"),
            TimeRemainingColumn(),
            TextColumn("{task.fields[numbers]}"),
            console=console,
            disable=not self.drawn,
            transient=True,  # the log keeps a line of each finished training
        )

    @contextlib.contextmanager
    def bar(self, title: str, epochs: int, images: int) -> Iterator[keras.callbacks.Callback]:
        """Provide a callback for `fit` that shows the steps.

        Args:
            title: names the training.
            epochs: the number of its epochs.
            images: the number of images per epoch.
        """
        task = self._bars.add_task(title, total=epochs, numbers="", epoch=f"epoch 1/{epochs}")

        def draw(steps: "Steps"):
            numbers = " ".join(f"{k} {v:.4f}" for k, v in steps.numbers.items())
            rate = f"{steps.rate:,.0f} images/s " if steps.rate else ""
            where = f"epoch {min(steps.epoch + 1, epochs)}/{epochs}"
            self._bars.update(task, completed=steps.done, numbers=rate + numbers, epoch=where)

        def tell(steps: "Steps"):
            if not self.show:
                return
            left = f", about {_time(steps.left(epochs))} left" if steps.rate else ""
            log.info(
                "%s: epoch %d of %d, %.0f %% of it, %s images/s%s",
                *(title, min(steps.epoch + 1, epochs), epochs, 100 * steps.share),
                *(f"{steps.rate:,.0f}" if steps.rate else "no", left),
            )

        self._bars.start()
        try:
            yield Steps(images, *((draw, REDRAWN) if self.drawn else (tell, LOGGED)))
        finally:
            self._bars.stop()
            self._bars.remove_task(task)

    def say(self, sentence: str) -> None:
        """Print a line about the current work."""
        if self.drawn:
            self._bars.console.print(f"{sentence} ...", style="dim")


class Steps(keras.callbacks.Callback):
    """Counts the steps of a training, and shows them now and then.

    Args:
        images: the number of images per epoch.
        show: called with this callback.
        every: the minimum number of seconds between two calls.

    Attributes:
        epoch: the current epoch, from 0.
        share: the share of its steps that are done, from 0 to 1.
        rate: images per second in this epoch; None if not known yet.
        numbers: the numbers that were shown last.
    """

    coarse = True  # a call may cover several steps

    def __init__(self, images: int, show: Callable[["Steps"], None], every: float):
        super().__init__()
        self._images, self._show, self._every = images, show, every
        self._shown = self._start = self._began = time.monotonic()
        self._from: float | None = None  # epochs that were done when this training resumed
        self._counted_from, self._traced = 0.0, False
        self.epoch, self.share, self.rate = 0, 0.0, None  # type: int, float, float | None
        self.numbers: dict[str, float] = {}

    @property
    def done(self) -> float:
        """The number of epochs done, with the share of the current one."""
        return self.epoch + self.share

    def left(self, epochs: int) -> float:
        """Return the seconds left, estimated from the pace so far."""
        behind = self.done - (self._from or 0.0)
        took = time.monotonic() - self._began
        return took / behind * (epochs - self.done) if behind else 0.0

    def on_epoch_begin(self, epoch, logs=None):
        if self._from is None:
            self._from = epoch
        self.epoch, self.share = epoch, 0.0
        self._start, self._counted_from = time.monotonic(), 0.0

    def on_train_batch_end(self, batch, logs=None):
        steps = (self.params or {}).get("steps")
        if not steps:  # an epoch of unknown length; the next one has a length
            return
        self.share = min(1.0, (batch + 1) / steps)
        now = time.monotonic()
        if not self._traced:  # the first call took longer, for the tracing
            self._start, self._counted_from, self._traced = now, self.share, True
        elif now > self._start:
            self.rate = self._images * (self.share - self._counted_from) / (now - self._start)
        if now - self._shown >= self._every:
            self._tell(logs, now)

    def on_epoch_end(self, epoch, logs=None):
        self.epoch, self.share = epoch + 1, 0.0
        now = time.monotonic()
        if now - self._shown >= self._every:
            self._tell(logs, now)

    def _tell(self, logs, now):
        self.numbers = {name: float(value) for name, value in (logs or {}).items()}
        self._shown = now
        self._show(self)


def _time(seconds: float) -> str:
    """Return a duration in short form.

    Example:
        >>> _time(42), _time(250), _time(9000)
        ('42 s', '4 min', '2.5 h')
    """
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
