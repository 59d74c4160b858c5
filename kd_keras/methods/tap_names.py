"""The names of the requested taps among features, and the pairs of them that are compared."""

import re
from collections.abc import Iterable


def found(tap: str, names: Iterable[str]) -> tuple[str, ...]:
    """Return the names under which features hold a tap; an empty tuple if they do not.

    Features of a model hold its `stages` as `stage1`, `stage2`, ...; in stored features with these
    names, `last` is the last stage.

    Example:
        >>> found("stages", ["stage2", "logits", "stage1"]), found("last", ["stage1", "stage2"])
        (('stage1', 'stage2'), ('stage2',))
    """
    names = list(names)
    if tap in names or tap not in ("stages", "last"):
        return (tap,) if tap in names else ()
    numbers = sorted(int(name[5:]) for name in names if re.fullmatch(r"stage[1-9]\d*", name))
    several = tuple(f"stage{number}" for number in numbers)
    return several if tap == "stages" else several[-1:]


def paired(what: str, student_taps, student_shape, teacher_taps, teacher_shape):
    """Return the pairs of names, one of each side, under which features hold the taps to compare.

    Args:
        what: the method, for the message.
        student_taps, teacher_taps: as `tap_pairs` returns them.
        student_shape, teacher_shape: dicts by tap.

    Raises:
        ValueError: if one side has more taps than the other.
    """
    sides = [
        [name for tap in taps for name in found(tap, shapes) or (tap,)]
        for taps, shapes in ((student_taps, student_shape), (teacher_taps, teacher_shape))
    ]
    if len(sides[0]) != len(sides[1]):
        ours, theirs = (
            ", ".join(f"{name} {tuple(shapes[name])}" for name in names)
            for names, shapes in zip(sides, (student_shape, teacher_shape), strict=True)
        )
        raise ValueError(
            f"{what} compares taps pair by pair, but the student has {len(sides[0])} of them "
            f"and the teacher {len(sides[1])}. Name equally many of both, such as "
            f"`student_taps={sides[0][0]!r}, teacher_taps={sides[1][0]!r}`. "
            f"Received: {ours} of the student; {theirs} of the teacher"
        )
    return list(zip(*sides, strict=True))
