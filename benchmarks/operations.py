"""The time of a training step by operation, from TensorFlow's own profiler."""

import collections
import re
import tempfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import tensorflow as tf

MATMUL, CONVOLUTION = "matrix multiplication", "convolution"
DEPTHWISE, NORM, ACTIVATION = "depthwise convolution", "batch normalisation", "activation"
OPTIMIZER, OTHER = "optimizer", "other arithmetic"
INPUT, IDLE = "input pipeline alone", "none of these: dispatch, waiting"

# what the type of an operation contains, the more special first
_MARKS = {
    "depthwise": DEPTHWISE,
    "conv": CONVOLUTION,
    "batchnorm": NORM,
    "matmul": MATMUL,
    "relu": ACTIVATION,
}
# operations that only call others
CALLS = {"StatefulPartitionedCall", "PartitionedCall", "While", "If", "_FusedCall", "XlaLaunch"}
KERNEL = re.compile(r"^[^: ]+:_?(?P<kind>\w+)$")  # "mlp/stage1/MatMul:MatMul"
UPDATE = re.compile(r"\b(adam|sgd)(_\d+)?/|resourceapply")
HLO_PLANE, HLO_STAT = "/host:metadata", "hlo_op"


def profile(run: Callable[[], Any], steps: int) -> dict[str, float]:
    """Return milliseconds per step of each kind of operation, while `run` takes `steps` steps.

    Every instant from the first operation to the last is counted once: if several threads run an
    operation, it is shared among them. The remainder is time in which no operation runs.
    """
    spaces = _xplane()
    options = tf.profiler.experimental.ProfilerOptions(host_tracer_level=3, python_tracer_level=0)
    with tempfile.TemporaryDirectory() as folder:
        tf.profiler.experimental.start(folder, options=options)
        try:
            run()
        finally:
            tf.profiler.experimental.stop()
        space = spaces.XSpace()
        space.ParseFromString(next(Path(folder).rglob("*.xplane.pb")).read_bytes())
    shared = shares(_events(space))
    total = sum(shared.values())
    ordered = sorted(shared.items(), key=lambda item: -item[1])
    return {**{kind: ps / 1e9 / steps for kind, ps in ordered}, "step": total / 1e9 / steps}


def shares(events: Iterable[tuple[int, int, str]]) -> dict[str, float]:
    """Return the time of each kind, from events `(start, end, kind)` that may overlap.

    Example:
        >>> shares([(0, 4, "a"), (2, 4, "b"), (6, 7, "a")])[IDLE]
        2.0
        >>> shares([(0, 4, "a"), (2, 4, "b"), (6, 7, "a")])["a"]
        4.0
    """
    changes = []
    for start, end, kind in events:
        changes += [(start, 1, kind), (end, -1, kind)]
    changes.sort()
    running: collections.Counter[str] = collections.Counter()
    shared: dict[str, float] = collections.defaultdict(float)
    last = changes[0][0] if changes else 0
    for now, step, kind in changes:
        busy = {k: n for k, n in running.items() if n and k != INPUT}
        if not busy:  # the pipeline runs beside the step, and counts only when it runs alone
            shared[INPUT if running[INPUT] else IDLE] += now - last
        for k, n in busy.items():
            shared[k] += (now - last) * n / sum(busy.values())
        running[kind] += step
        last = now
    return dict(shared)


def _xplane():
    """Import the format of the profiler's file, which comes with TensorFlow."""
    try:
        from tensorflow.tsl.profiler.protobuf import xplane_pb2
    except ImportError as error:
        raise ImportError(
            "This TensorFlow does not bring the format of its profiler's files "
            "(tensorflow.tsl.profiler.protobuf.xplane_pb2): leave the profile out."
        ) from error
    return xplane_pb2


def _events(space) -> Iterator[tuple[int, int, str]]:
    """Yield start, end (picoseconds) and kind of every operation that computes."""
    compiled = dict(_hlo_operations(space))
    for plane in space.planes:
        for line in plane.lines:
            for event in line.events:
                name = plane.event_metadata[event.metadata_id].name
                kind = _kind(plane, line, event, name, compiled)
                if kind is not None:
                    start = line.timestamp_ns * 1000 + event.offset_ps
                    yield start, start + event.duration_ps, kind


def _kind(plane, line, event, name: str, compiled: dict[str, str]) -> str | None:
    if line.name.startswith("tf_data"):
        return INPUT if KERNEL.match(name) or name.endswith("Produce") else None
    if any(plane.stat_metadata[stat.metadata_id].name == HLO_STAT for stat in event.stats):
        return _group(compiled.get(name, name))
    found = KERNEL.match(name)
    if found is None or found["kind"] in CALLS or line.name == "python":
        return None
    return _group(name)


def _group(name: str) -> str:
    """Return the kind of an operation, from its path and type."""
    low = name.lower()
    if UPDATE.search(low):
        return OPTIMIZER
    # bias and ReLU that a kernel fuses with its product cannot be told apart from it
    kind = low.rpartition("/")[2].rpartition(":")[2]
    for mark, group in _MARKS.items():
        if mark in kind:
            return group
    return MATMUL if low.startswith("dot") else OTHER


def _hlo_operations(space) -> Iterator[tuple[str, str]]:
    """Yield XLA's name of each operation, and the path of TensorFlow's operation."""
    from tensorflow.compiler.xla.service import hlo_pb2

    for plane in space.planes:
        if plane.name != HLO_PLANE:
            continue
        for program in plane.event_metadata.values():
            for stat in program.stats:
                proto = hlo_pb2.HloProto()
                proto.ParseFromString(stat.bytes_value)
                for computation in proto.hlo_module.computations:
                    for instruction in computation.instructions:
                        yield instruction.name, instruction.metadata.op_name or instruction.name
