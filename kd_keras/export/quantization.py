"""`QUANTIZATIONS`: in which numbers an export keeps its weights, and what it must keep of them."""

import dataclasses


@dataclasses.dataclass(frozen=True)
class Quantization:
    """The numbers of an export, and how near it must stay to its model.

    Attributes:
        name: its name in commands and in `export`.
        weight_bytes: bytes of one weight of a kernel.
        agreement: the share of images whose class must stay the same; None if the logits
            themselves are held to a tolerance.
        pixels: the type of the input tensor.
        calibrated: whether it needs images, from which the ranges of activations are read.

    Example:
        >>> QUANTIZATIONS["int8"].pixels, QUANTIZATIONS["int8"].agreement
        ('uint8', 0.98)
    """

    name: str
    weight_bytes: int
    agreement: float | None
    pixels: str = "float32"
    calibrated: bool = False


QUANTIZATIONS: dict[str, Quantization] = {
    each.name: each
    for each in (
        Quantization("none", 4, None),
        Quantization("float16", 2, 0.99),
        Quantization("dynamic", 1, 0.99),
        Quantization("int8", 1, 0.98, pixels="uint8", calibrated=True),
    )
}
"""`none` keeps float32. `float16` halves the weights. `dynamic` keeps weights in 8 bits, and
computes in 8 bits where the runtime can. `int8` computes in integers throughout, with ranges that
were measured on images."""
