"""The picture of `studies.md`: drawn sections, by the number of annotators who choose SSA.

python docs/images/drawn_tissue.py
"""

from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from kd_keras.data.drawn_tissue import draw

SIDE, GAP, LABEL = 104, 4, 16
OUT = Path(__file__).parent / "drawn_tissue.png"


def main() -> None:
    found = {}
    number = 0
    while len(found) < 8:
        drawing = draw(0, number, serrated=bool(number % 2))
        found.setdefault(drawing.votes, drawing)
        number += 1
    width = 8 * SIDE + 7 * GAP
    sheet = Image.new("RGB", (width, SIDE + LABEL), "white")
    pen, font = ImageDraw.Draw(sheet), ImageFont.load_default(11)
    for votes, drawing in found.items():
        small = Image.fromarray(drawing.pixels).resize((SIDE, SIDE), Image.Resampling.LANCZOS)
        left = votes * (SIDE + GAP)
        sheet.paste(small, (left, LABEL))
        pen.text((left + 2, 1), f"{votes} of 7: {drawing.label}", fill="black", font=font)
    sheet.quantize(128).save(OUT, optimize=True)


if __name__ == "__main__":
    main()
