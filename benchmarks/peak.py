"""The machine's peak: the best rate that any available library reaches on a large product."""

import time
from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf

SIDE, QUICK_SIDE, TIMES = 2048, 256, 12


def gemm_peak(dtype: str, torch: Any, quick: bool = False) -> dict[str, float]:
    """Return GFLOP/s by library, the best of several products of square matrices.

    Args:
        dtype: "float32" or "bfloat16".
        torch: the `torch` module.
        quick: use small matrices.
    """
    side = QUICK_SIDE if quick else SIDE
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(2, side, side)).astype("float32")
    products = {
        "tensorflow": _tensorflow(a, b, dtype, xla=False),
        "xla": _tensorflow(a, b, dtype, xla=True),
        "pytorch": _pytorch(a, b, dtype, torch),
    }
    if dtype == "float32":
        products["numpy"] = lambda: a @ b
    return {name: 2 * side**3 / _best(product) / 1e9 for name, product in products.items()}


def _tensorflow(a, b, dtype: str, *, xla: bool) -> Callable[[], Any]:
    a, b = (tf.cast(x, dtype) for x in (a, b))
    product = tf.function(tf.matmul, jit_compile=xla)
    # reading a number waits for the result, on a GPU too
    return lambda: product(a, b)[0, 0].numpy()


def _pytorch(a, b, dtype: str, torch: Any) -> Callable[[], Any]:
    device = "cuda" if torch.cuda.is_available() else "cpu"
    a, b = (torch.from_numpy(x).to(device, getattr(torch, dtype)) for x in (a, b))
    return lambda: (a @ b)[0, 0].item()


def _best(product: Callable[[], Any]) -> float:
    product()
    seconds = []
    for _ in range(TIMES):
        start = time.perf_counter()
        product()
        seconds.append(time.perf_counter() - start)
    return min(seconds)
