"""Read what a pickle describes, and call nothing but the given functions.

A pickle is a program: its instructions can name any function of Python and call it. Here they are
followed one by one. Those that data needs build numbers, strings and containers, a name must be one
of the given ones, and everything else is refused. Python's own unpickler has no such limits, and
takes memory without limit where a file is damaged.
"""

import pickletools
from collections.abc import Callable, Mapping
from typing import IO, Any

_MARK = object()
_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False, "MARK": _MARK, "EMPTY_TUPLE": ()}
_ARGUMENTS = {
    *("BINUNICODE", "SHORT_BINUNICODE"),
    *("BININT", "BININT1", "BININT2", "LONG1"),
}


def load(file: IO[bytes], names: Mapping[str, Any], refer: Callable[[Any], Any]) -> Any:
    """Return what the next pickle of a file describes.

    Args:
        file: open for reading; its position ends behind the pickle.
        names: what the pickle may name, as `module.name`, and what is put in its place; if that is
            a function, the pickle may call it.
        refer: what is called with each persistent identifier, a reference to what lies elsewhere.

    Raises:
        ValueError, LookupError, TypeError: if the pickle is damaged, or does anything else. A
            refused name is part of the message.

    Example:
        >>> import io, pickle
        >>> load(io.BytesIO(pickle.dumps({"a": [1, None]})), {}, refer=repr)
        {'a': [1, None]}
        >>> load(io.BytesIO(pickle.dumps(eval)), {}, refer=repr)
        Traceback (most recent call last):
        ...
        ValueError: it names builtins.eval, which is refused, because it could run code
    """
    program = _Program(names, refer)
    for instruction, argument, _ in pickletools.genops(file):
        program.follow(instruction.name, argument)
    return program.stack.pop()


class _Program:
    """A stack of values, and a memo of those that are used again."""

    def __init__(self, names: Mapping[str, Any], refer: Callable[[Any], Any]):
        self.stack: list[Any] = []
        self._names = names
        self._refer = refer
        self._memo: dict[int, Any] = {}

    def follow(self, instruction: str, argument: Any) -> None:
        """Follow one instruction, named as in `pickletools`."""
        stack = self.stack
        if instruction in _ARGUMENTS:
            stack.append(argument)
        elif instruction in _CONSTANTS:
            stack.append(_CONSTANTS[instruction])
        elif instruction.startswith(("TUPLE", "EMPTY_", "APPEND", "SETITEM")):
            self._contain(instruction)
        elif instruction in ("BINPUT", "LONG_BINPUT", "MEMOIZE"):
            self._memo[len(self._memo) if argument is None else argument] = stack[-1]
        elif instruction in ("BINGET", "LONG_BINGET"):
            stack.append(self._memo[argument])
        elif instruction == "BINPERSID":
            stack.append(self._refer(stack.pop()))
        elif instruction not in ("PROTO", "FRAME", "STOP"):
            self._run(instruction, argument)

    def _contain(self, instruction: str) -> None:
        """Begin or fill a tuple, a list or a dictionary."""
        stack = self.stack
        match instruction:
            case "EMPTY_LIST":
                stack.append([])
            case "EMPTY_DICT":
                stack.append({})
            case "TUPLE":
                stack.append(tuple(self._marked()))
            case "TUPLE1" | "TUPLE2" | "TUPLE3":
                stack.append(tuple(self._last(int(instruction[-1]))))
            case "APPEND" | "APPENDS":
                values = self._marked() if instruction == "APPENDS" else self._last(1)
                self._top(list).extend(values)
            case "SETITEM" | "SETITEMS":
                pairs = self._marked() if instruction == "SETITEMS" else self._last(2)
                if not all(isinstance(key, str | int) for key in pairs[::2]):
                    raise ValueError("it has a key that is neither a string nor a whole number")
                self._top(dict).update(zip(pairs[::2], pairs[1::2], strict=True))
            case _:
                self._run(instruction, None)

    def _run(self, instruction: str, argument: Any) -> None:
        """Look up a name, call what it stands for, or refuse."""
        stack = self.stack
        if instruction == "GLOBAL":  # the module and the name, with a space between
            stack.append(self._named(argument.replace(" ", ".", 1)))
        elif instruction == "STACK_GLOBAL":
            stack.append(self._named(".".join(self._last(2))))
        elif instruction == "REDUCE":
            function, arguments = self._last(2)
            if not callable(function):
                raise ValueError(f"it calls a {type(function).__name__}")
            stack.append(function(*arguments))
        elif instruction == "BUILD":
            stack.pop()  # attributes of what is below, which a value here has no use for
        else:
            raise ValueError(
                f"it has the instruction {instruction} {argument!r}, which is refused, because it "
                "could run code, or is not used for such data"
            )

    def _named(self, name: str) -> Any:
        if name not in self._names:
            raise ValueError(f"it names {name}, which is refused, because it could run code")
        return self._names[name]

    def _top(self, kind: type) -> Any:
        if not isinstance(self.stack[-1], kind):
            found = type(self.stack[-1]).__name__
            raise ValueError(f"it adds to a {found} what belongs in a {kind.__name__}")
        return self.stack[-1]

    def _last(self, count: int) -> list[Any]:
        """Take the last values from the stack."""
        if len(self.stack) < count:
            raise ValueError("it takes a value from an empty stack")
        values = self.stack[-count:]
        del self.stack[-count:]
        return values

    def _marked(self) -> list[Any]:
        """Take the values behind the last mark, and the mark."""
        for start in range(len(self.stack) - 1, -1, -1):
            if self.stack[start] is _MARK:
                values = self.stack[start + 1 :]
                del self.stack[start:]
                return values
        raise ValueError("it ends a container that it did not begin")
