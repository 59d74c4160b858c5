"""An export, loaded by its own runtime in a new process."""

import contextlib
import json
import os
import subprocess
import sys
import tempfile
import threading
from pathlib import Path
from typing import Any, Self

import numpy as np

from kd_keras.export.formats import LOADERS, ExportFormat

RELOAD_SECONDS = 600.0


class Loaded:
    """An export in a process of its own, which computes on the CPU; a context manager.

    The process starts when the block is entered, and ends with it.

    Args:
        form: the format.
        path: the folder or file.
        signature: the name of the function.
        threads: the number of threads that the runtime may use; all cores by default.

    Raises:
        RuntimeError: from every method, if the process has failed or takes longer than ten minutes.
    """

    def __init__(self, form: ExportFormat, path: Path, signature: str, threads: int | None = None):
        self._words = [form.load, path, signature, threads or cores(), *form.hidden]
        self._held = contextlib.ExitStack()

    def __enter__(self) -> Self:
        with contextlib.ExitStack() as held:
            self._scratch = Path(held.enter_context(tempfile.TemporaryDirectory()))
            self._errors = held.enter_context(Path(self._scratch, "errors").open("w+"))
            self._process = held.enter_context(self._started())
            held.callback(self._process.kill)
            self._held = held.pop_all()
        return self

    def __exit__(self, *raised: object) -> None:
        self._held.close()

    def _started(self) -> subprocess.Popen[str]:
        # this process may hold all of an accelerator's memory
        environment = {**os.environ, "CUDA_VISIBLE_DEVICES": "-1", "TF_CPP_MIN_LOG_LEVEL": "3"}
        # -P keeps the script's own folder, whose names are those of runtimes, out of the path
        command = [sys.executable, "-P", *map(str, (LOADERS / "driver.py", *self._words))]
        pipe = subprocess.PIPE
        return subprocess.Popen(
            command, env=environment, stdin=pipe, stdout=pipe, stderr=self._errors, text=True
        )

    @property
    def process(self) -> int:
        """The number of the process."""
        return self._process.pid

    def logits(self, images: np.ndarray) -> np.ndarray:
        """Return the logits, shape `(n, classes)`, of images `(n, height, width, channels)`."""
        inputs, outputs = self._scratch / "images.npy", self._scratch / "logits.npy"
        np.save(inputs, images)
        self._ask(do="predict", images=str(inputs), logits=str(outputs))
        return np.load(outputs)

    def clock(self, image: np.ndarray, count: int) -> list[float]:
        """Return the milliseconds of each of `count` inferences on one image, `(1, ...)`."""
        inputs = self._scratch / "image.npy"
        if not inputs.exists():
            np.save(inputs, image)
        return self._ask(do="clock", images=str(inputs), count=count)

    def _ask(self, **request: Any) -> Any:
        late = threading.Event()

        def end() -> None:
            late.set()
            self._process.kill()

        timer = threading.Timer(RELOAD_SECONDS, end)
        timer.start()
        try:
            answer = self._exchange(json.dumps(request))
        finally:
            timer.cancel()
        if late.is_set():
            raise RuntimeError(
                f"The export did not finish within {RELOAD_SECONDS:g} s in a new process."
            )
        if not answer:
            self._process.wait()
            self._errors.seek(0)
            said = self._errors.read()[-2000:].strip()
            raise RuntimeError(
                f"The export failed in a new process: {said.rpartition(chr(10))[2]}\n{said}"
            )
        return json.loads(answer)

    def _exchange(self, request: str) -> str:
        """Send a line and return the next one; an empty one if the process has ended."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        if self._process.stdin.closed:
            return ""
        try:
            self._process.stdin.write(f"{request}\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            with contextlib.suppress(BrokenPipeError):
                self._process.stdin.close()  # or the end of the block would write it once more
            return ""
        return self._process.stdout.readline()


def cores() -> int:
    """Return the number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
