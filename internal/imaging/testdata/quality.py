"""Makes quality.json, the oracle's PSNR and SSIM, with numpy and scipy.

    python3 -m pip install pillow==13.0.0 numpy scipy && python3 quality.py

SSIM is scikit-image's structural_similarity with gaussian_weights=True,
sigma=1.5, use_sample_covariance=False, data_range=255, written out. The
pictures compared are colour.png and grey.png with what is left of them after a
way to 30 x 23 pixels by bilinear and back by bicubic.
"""
import json
import numpy as np
from PIL import Image
from scipy.ndimage import gaussian_filter


def scale(pixels, name):
    a = np.asarray(pixels).astype(np.float64)
    if name == "y-matlab":
        return [16 + (65.481 * a[..., 0] + 128.553 * a[..., 1] + 24.966 * a[..., 2]) / 255]
    return [a] if a.ndim == 2 else [a[..., i] for i in range(3)]


def blur(a):
    return gaussian_filter(a, 1.5, truncate=3.5)[5:-5, 5:-5]


def ssim(a, b):
    ma, mb = blur(a), blur(b)
    va, vb, vab = blur(a * a) - ma * ma, blur(b * b) - mb * mb, blur(a * b) - ma * mb
    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    return (((2 * ma * mb + c1) * (2 * vab + c2)) / ((ma**2 + mb**2 + c1) * (va + vb + c2))).mean()


rows = []
for picture, names in (("grey", ["grey"]), ("colour", ["y-matlab", "rgb"])):
    want = Image.open(f"{picture}.png")
    got = want.resize((30, 23), Image.BILINEAR).resize(want.size, Image.BICUBIC)
    for name in names:
        for border in (0, 3):
            cut = slice(border, -border or None)
            a = [p[cut, cut] for p in scale(got, name)]
            b = [p[cut, cut] for p in scale(want, name)]
            psnr = 10 * np.log10(255**2 / np.mean((np.array(a) - np.array(b)) ** 2))
            rows.append({"picture": picture, "scale": name, "border": border, "psnr": psnr,
                         "ssim": float(np.mean([ssim(x, y) for x, y in zip(a, b)]))})
with open("quality.json", "w") as out:
    json.dump(rows, out, indent=1)
    out.write("\n")
