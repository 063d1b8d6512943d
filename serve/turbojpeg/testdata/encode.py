"""Encodes PNG files as grey JPEG, of several qualities, baseline and progressive.

    python3 encode.py PNG... >archive.zip

Needs Pillow. Noise and edges, at several sizes, come along: what decoders
differ on most.
"""
import io
import os
import random
import sys
import zipfile
from PIL import Image

random.seed(11)
pictures = {os.path.basename(path): Image.open(path).convert("L") for path in sys.argv[1:]}
for w, h in ((1, 1), (8, 8), (17, 31), (200, 150)):
    pictures[f"noise-{w}x{h}"] = Image.frombytes("L", (w, h), random.randbytes(w * h))
    pictures[f"extremes-{w}x{h}"] = Image.frombytes("L", (w, h), bytes(random.choice((0, 255)) for _ in range(w * h)))
    pictures[f"flat-{w}x{h}"] = Image.new("L", (w, h), 77)

with zipfile.ZipFile(sys.stdout.buffer, "w") as out:
    for name, picture in pictures.items():
        for quality in (5, 25, 50, 75, 85, 92, 100):
            for progressive in (False, True):
                data = io.BytesIO()
                picture.save(data, "JPEG", quality=quality, progressive=progressive, optimize=quality == 85)
                out.writestr(f"{name}-q{quality}-{'progressive' if progressive else 'baseline'}.jpg", data.getvalue())
