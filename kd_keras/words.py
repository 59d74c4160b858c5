"""A model or a method in a word: `mlp:hidden=64,64`, or within other words `mlp(hidden=64,64)`."""

BRACKETS = {")": "(", "]": "["}


def outside_brackets(text: str, mark: str) -> list[str]:
    """`text` cut at `mark`, but not within brackets.

    Raises:
        ValueError: for a bracket without its other half.

    Example:
        >>> outside_brackets("cnn(width=0.5,x=(1,2)),lenet5", ",")
        ['cnn(width=0.5,x=(1,2))', 'lenet5']
    """
    parts, open_ = [""], []
    for letter in text:
        if letter in BRACKETS.values():
            open_.append(letter)
        elif letter in BRACKETS and (not open_ or open_.pop() != BRACKETS[letter]):
            raise ValueError(f"A bracket is closed that was not opened. Received: {text!r}")
        if letter == mark and not open_:
            parts.append("")
        else:
            parts[-1] += letter
    if open_:
        raise ValueError(f"A bracket is not closed. Received: {text!r}")
    return parts


def parts_of(text: str) -> list[str]:
    """The name in a word, and its options, written either way.

    Raises:
        ValueError: for a bracket without its other half.

    Example:
        >>> parts_of("mlp:hidden=64,64"), parts_of("mlp(hidden=64,64, dropout=0.5)")
        (['mlp', 'hidden=64,64'], ['mlp', 'hidden=64,64', 'dropout=0.5'])
    """
    name, *options = outside_brackets(text, ":")
    if options or not name.endswith(")"):
        return [name, *options]
    name, _, inside = name[:-1].partition("(")
    for part in outside_brackets(inside, ","):
        if "=" in part or not options:
            options.append(part.strip())
        else:  # a comma of a value, not between options
            options[-1] += f",{part.strip()}"
    return [name, *options]
