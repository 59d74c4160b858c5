"""Load an ONNX file by onnxruntime alone; `driver.py` runs this script in a new process."""

from collections.abc import Callable

import numpy as np
import onnxruntime


def load(path: str, signature: str, threads: int) -> Callable[[np.ndarray], np.ndarray]:
    """Return a function from images to logits, which computes on `threads` threads."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = threads
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    (given,) = session.get_inputs()
    kind = np.uint8 if given.type == "tensor(uint8)" else np.float32

    def run(images: np.ndarray) -> np.ndarray:
        (logits,) = session.run(["logits"], {given.name: images.astype(kind)})
        return logits

    return run
