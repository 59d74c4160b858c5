"""What the tests of searches compare: results without what a clock measured."""

CLOCKS = ("seconds", "train_seconds", "latency_ms", "latency_unsure")


def untimed(value):
    """Results as they are, but for every number that a clock measured."""
    if isinstance(value, dict):
        return {k: untimed(v) for k, v in value.items() if k not in CLOCKS}
    return [untimed(v) for v in value] if isinstance(value, list) else value
