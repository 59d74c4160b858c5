"""Under which names views hold the taps that were asked for, and which of them are compared."""

import re
from collections.abc import Iterable


def found(tap: str, names: Iterable[str]) -> tuple[str, ...]:
    """The names under which views hold a tap; none where they do not.

    Views of a model give its `stages` as `stage1`, `stage2`, ...; of views that were stored by
    these names, the last one is `last` too.

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
    """Pairs of names under which views hold taps that are compared one by one.

    Args:
        what: which method, for the message.
        student_taps, teacher_taps: as `tap_pairs` gives them.
        student_shape, teacher_shape: dicts by tap.

    Raises:
        ValueError: for taps of which one side has more than the other.
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
            f"{what} compares taps pair by pair, and the student has {len(sides[0])} of them "
            f"where the teacher has {len(sides[1])}. Name as many of both, such as "
            f"`student_taps={sides[0][0]!r}, teacher_taps={sides[1][0]!r}`. "
            f"Received: {ours} of the student; {theirs} of the teacher"
        )
    return list(zip(*sides, strict=True))
