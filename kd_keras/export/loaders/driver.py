"""Load an export by its own runtime and answer requests; `export` runs this in a new process.

It imports NumPy and the loader, which imports the runtime. The modules that are named as hidden,
this library first, cannot be imported at all: an export that needs them fails here.

    python -P driver.py <loader.py> <export> <signature> <threads> [<hidden module> ...]

Each line of standard input is a request, a JSON object; each line of standard output its answer.
"""

import json
import os
import runpy
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np

BATCH = 64


def predict(run: Callable[[np.ndarray], np.ndarray], images: str, logits: str) -> None:
    """Compute the logits of the images in a file, and write them to another."""
    pixels = np.load(images)
    parts = [run(pixels[at : at + BATCH]) for at in range(0, len(pixels), BATCH)]
    np.save(logits, np.concatenate(parts))


def clock(run: Callable[[np.ndarray], np.ndarray], images: str, count: int) -> list[float]:
    """Return the milliseconds of each of `count` inferences on the first image of a file."""
    image, times = np.load(images)[:1], []
    for _ in range(count):
        start = time.perf_counter()
        run(image)
        times.append(1000.0 * (time.perf_counter() - start))
    return times


REQUESTS: dict[str, Callable[..., Any]] = {"predict": predict, "clock": clock}


def main(loader: str, path: str, signature: str, threads: str, *hidden: str) -> None:
    """Load the export, and answer requests until standard input ends."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what a runtime prints is no answer
    sys.modules.update(dict.fromkeys(hidden))  # type: ignore[arg-type]
    run = runpy.run_path(loader)["load"](path, signature, int(threads))
    for line in sys.stdin:
        request = json.loads(line)
        answer = REQUESTS[request.pop("do")](run, **request)
        print(json.dumps(answer), file=answers, flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
