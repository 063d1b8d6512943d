"""Makes the golden vectors of resize_test.go with Pillow: run it beside itself.

    python3 -m pip install pillow==13.0.0 && python3 pillow.py

A grey and a colour picture of smooth shapes, edges and noise, and what
Pillow's antialiased filters make of them. Magnified by the cubic filter they
are not comparable: Pillow clips the overshoot between its two passes.
"""
import random
from PIL import Image

W, H = 61, 47
random.seed(7)


def grey(x, y):
    v = 40 + 3 * x + 60 * ((x // 9 + y // 7) % 2) + random.randint(-20, 20)
    return max(0, min(255, v))


source = Image.new("L", (W, H))
source.putdata([grey(x, y) for y in range(H) for x in range(W)])
source.save("grey.png")
colour = Image.merge("RGB", (source, source.transpose(Image.FLIP_LEFT_RIGHT), source.transpose(Image.FLIP_TOP_BOTTOM)))
colour.save("colour.png")

FILTERS = {"bilinear": Image.BILINEAR, "catmullrom": Image.BICUBIC}
for size in ((16, 12), (100, 90)):
    for name, method in FILTERS.items():
        if name == "catmullrom" and size[0] > W:
            continue
        for picture, image in (("grey", source), ("colour", colour)):
            image.resize(size, method).save(f"{picture}-{size[0]}x{size[1]}-{name}.png")
