"""The changes of augmentation once more, in float64 and with Pillow, to compare with."""

import math

import numpy as np
from PIL import Image, ImageOps


def rounded(values):
    return np.floor(np.clip(values, 0, 255) + 0.5).astype("uint8")


def moved(image, transform, outside):
    """The image resampled; `transform` leads from a place in the result to one in the image."""
    height, width = image.shape[:2]
    y, x = np.mgrid[:height, :width].astype("float64")
    a, b, c, d, e, f = np.asarray(transform[:6], "float64")
    places = [_inside(d * x + e * y + f, height, outside)]
    places.append(_inside(a * x + b * y + c, width, outside))
    low = [np.floor(place).astype(int) for place in places]
    total = np.zeros(image.shape)
    for down in (0, 1):
        for right in (0, 1):
            at = low[0] + down, low[1] + right
            there = (at[0] >= 0) & (at[0] < height) & (at[1] >= 0) & (at[1] < width)
            share = (1 - abs(places[0] - at[0])) * (1 - abs(places[1] - at[1])) * there
            values = image[at[0].clip(0, height - 1), at[1].clip(0, width - 1)]
            total += share[..., None] * values
    return rounded(total)


def _inside(place, size, outside):
    if outside == "reflect":
        place = np.mod(place + 0.5, 2 * size)
        place = np.minimum(place, 2 * size - place) - 0.5
    return place if outside == "constant" else place.clip(0, size - 1)


def in_parts(number):
    """The nearest multiple of 1/256."""
    return math.floor(number * 256 + 0.5) / 256


def turned(image, degrees, outside):
    cosine, sine = (in_parts(f(math.radians(degrees))) for f in (math.cos, math.sin))
    y, x = ((side - 1) / 2 for side in image.shape[:2])
    right = in_parts(x - cosine * x + sine * y)
    down = in_parts(y - sine * x - cosine * y)
    return moved(image, [cosine, -sine, right, sine, cosine, down], outside)


def grey(image):
    """Pillow's grey values, three times; those of a grey image are its own."""
    if image.shape[-1] == 1:
        return image
    return np.asarray(Image.fromarray(image).convert("L"))[..., None].repeat(3, -1)


def blended(dull, image, factor):
    return rounded(dull + in_parts(factor) * (image.astype("float64") - dull))


def brightness(image, factor):
    return blended(0, image, factor)


def contrast(image, factor):
    return blended(math.floor(grey(image).mean() + 0.5), image, factor)


def saturation(image, factor):
    return blended(grey(image).astype("float64"), image, factor)


def sharpness(image, factor):
    smooth = image.astype("float64")
    for y in range(1, image.shape[0] - 1):
        for x in range(1, image.shape[1] - 1):
            around = image[y - 1 : y + 2, x - 1 : x + 2].astype("float64").sum((0, 1))
            smooth[y, x] = np.floor((around + 4.0 * image[y, x]) / 13 + 0.5)
    return blended(smooth, image, factor)


def autocontrast(image):
    out = image.copy()
    for channel in range(image.shape[-1]):
        values = image[..., channel].astype("float64")
        low, high = values.min(), values.max()
        if high > low:
            out[..., channel] = rounded((values - low) * 255 / (high - low))
    return out


def by_pillow(image, function, *numbers):
    """A function of `PIL.ImageOps`, channel by channel."""
    parts = [
        np.asarray(function(Image.fromarray(np.ascontiguousarray(image[..., channel])), *numbers))
        for channel in range(image.shape[-1])
    ]
    return np.stack(parts, -1)


def fourteen(image, level, shear, slides, turn, factor, bits):
    """The results of the fourteen changes of the policies by name, each in both directions."""

    def shifted(axis, size):
        room = [(abs(size), abs(size)) if one == axis else (0, 0) for one in range(3)]
        places = np.arange(image.shape[axis]) + abs(size) + size
        return np.take(np.pad(image, room), places, axis)

    found: dict = {}
    for sign in (1, -1):
        each = {
            "rotate": turned(image, sign * level * turn, "constant"),
            "shear-x": moved(image, [1, in_parts(sign * level * shear), 0, 0, 1, 0], "constant"),
            "shear-y": moved(image, [1, 0, 0, in_parts(sign * level * shear), 1, 0], "constant"),
            "translate-x": shifted(1, sign * math.floor(level * slides[1] + 0.5)),
            "translate-y": shifted(0, sign * math.floor(level * slides[0] + 0.5)),
            "brightness": brightness(image, 1 + sign * level * factor),
            "contrast": contrast(image, 1 + sign * level * factor),
            "color": saturation(image, 1 + sign * level * factor),
            "sharpness": sharpness(image, 1 + sign * level * factor),
            "posterize": by_pillow(image, ImageOps.posterize, 8 - math.floor(level * bits + 0.5)),
            "solarize": by_pillow(image, ImageOps.solarize, 256 - math.floor(level * 256 + 0.5)),
            "autocontrast": autocontrast(image),
            "equalize": by_pillow(image, ImageOps.equalize),
            "identity": image,
        }
        for name, result in each.items():
            found.setdefault(name, []).append(result)
    return found


STAINS = np.array([[0.65, 0.70, 0.29], [0.07, 0.99, 0.11], [0.27, 0.57, 0.78]])


def stained(image, factors, summands):
    """Ruifrok and Johnston's separation, its amounts changed, and the way back."""
    basis = STAINS / np.sqrt((STAINS**2).sum(1, keepdims=True))
    density = -np.log10((image.astype("float64") + 1) / 256)
    amounts = density.reshape(-1, 3) @ np.linalg.inv(basis)
    density = (amounts * factors + summands) @ basis
    return rounded(256 * 10.0 ** -density.clip(0, None).reshape(image.shape) - 1)
