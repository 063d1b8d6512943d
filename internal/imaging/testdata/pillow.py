"""Makes pillow.zip, the golden vectors of the package's tests, with Pillow.

    python3 -m pip install pillow==13.0.0 && python3 pillow.py

A grey and a colour picture of smooth shapes, edges and noise, of odd sides; what
each of Pillow's filters makes of them, larger, smaller and along one axis only;
and the planes of the colour picture by convert("YCbCr").
"""
import io
import random
import zipfile
from PIL import Image

W, H = 61, 47
random.seed(7)


def grey(x, y):
    v = 40 + 3 * x + 60 * ((x // 9 + y // 7) % 2) + random.randint(-20, 20)
    return max(0, min(255, v))


source = Image.new("L", (W, H))
source.putdata([grey(x, y) for y in range(H) for x in range(W)])
colour = Image.merge("RGB", (source, source.transpose(Image.FLIP_LEFT_RIGHT), source.transpose(Image.FLIP_TOP_BOTTOM)))
source.save("grey.png")
colour.save("colour.png")

FILTERS = {
    "bilinear": Image.BILINEAR, "box": Image.BOX, "catmullrom": Image.BICUBIC,
    "lanczos": Image.LANCZOS, "nearest": Image.NEAREST,
}
SIZES = [(16, 12), (100, 90), (61, 20), (23, 47), (7, 131), (122, 94), (13, 3), (1, 1)]

with zipfile.ZipFile("pillow.zip", "w") as out:

    def keep(name, image):
        data = io.BytesIO()
        image.save(data, "PNG")
        out.writestr(zipfile.ZipInfo(name), data.getvalue())

    for name, method in FILTERS.items():
        for picture, image in (("grey", source), ("colour", colour)):
            for w, h in SIZES:
                keep(f"resize/{picture}/{name}/{w}x{h}.png", image.resize((w, h), method))
    for name, plane in zip(("y", "cb", "cr"), colour.convert("YCbCr").split()):
        keep(f"planes/{name}.png", plane)
    keep("planes/rgb.png", Image.merge("YCbCr", colour.convert("YCbCr").split()).convert("RGB"))
