"""Load a LiteRT file by `ai_edge_litert` alone; `driver.py` runs this script in a new process."""

from collections.abc import Callable

import numpy as np
from ai_edge_litert.interpreter import Interpreter


def load(path: str, signature: str, threads: int) -> Callable[[np.ndarray], np.ndarray]:
    """Return a function from images to logits, which computes on `threads` threads.

    Raises:
        ValueError: the file takes quantised pixels other than raw ones.
    """
    interpreter = Interpreter(path, num_threads=threads)
    (given,) = interpreter.get_input_details()
    (answer,) = interpreter.get_output_details()
    kind, (scale, zero) = given["dtype"], given["quantization"]
    if kind == np.uint8 and (scale, zero) != (1.0, 0):
        raise ValueError(f"The input must take raw pixels, but has scale {scale} and zero {zero}.")
    shape: tuple[int, ...] = ()

    def run(images: np.ndarray) -> np.ndarray:
        nonlocal shape
        if images.shape != shape:
            interpreter.resize_tensor_input(given["index"], images.shape)
            interpreter.allocate_tensors()
            shape = images.shape
        interpreter.set_tensor(given["index"], images.astype(kind))
        interpreter.invoke()
        return interpreter.get_tensor(answer["index"])

    return run
