"""Pictures that are like photographs: soft forms, finer ones, grain, and a few hard edges."""

import numpy as np
from PIL import Image, ImageDraw


def photograph(width, height, seed=0):
    rng = np.random.default_rng(seed)
    pixels = 128 + rng.normal(0, 4, (height, width, 1))
    for cells, strength in ((4, 60), (12, 30), (40, 15)):
        forms = Image.fromarray(rng.integers(0, 256, (cells, cells, 3), np.uint8))
        forms = forms.resize((width, height), Image.Resampling.BICUBIC)
        pixels = pixels + strength * (np.asarray(forms) / 128 - 1)
    picture = Image.fromarray(pixels.clip(0, 255).astype(np.uint8))
    pen = ImageDraw.Draw(picture)
    for _ in range(4):
        ends = rng.integers(0, min(width, height), 4).tolist()
        pen.line(ends, fill=tuple(rng.integers(0, 256, 3).tolist()), width=4)
    return picture
