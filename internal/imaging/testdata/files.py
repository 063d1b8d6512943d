"""Makes files.zip: image files of every kind that is decoded, and what Pillow
makes of them, upright and in 8 bits.

    python3 -m pip install pillow==13.0.0 && python3 files.py

NAME is the file; NAME.png is Pillow's reading of it.
"""
import io
import struct
import zipfile
import zlib
from PIL import Image, ImageOps

grey = Image.open("grey.png")
small = grey.crop((8, 8, 31, 22))  # 23 x 14
# Smooth colours: JPEG decoders differ at edges.
colour = Image.merge("RGB", [Image.linear_gradient("L").rotate(a).crop((60, 60, 188, 188)).resize((61, 47)) for a in (0, 90, 200)])
plain = Image.linear_gradient("L").crop((60, 60, 188, 188)).rotate(30).crop((40, 40, 80, 70))

out = zipfile.ZipFile("files.zip", "w")


def keep(name, data, mode):
    image = ImageOps.exif_transpose(Image.open(io.BytesIO(data)))
    if image.mode == "I;16":  # to the nearest of 256 levels
        image = nearest(image)
    if "A" in image.getbands() or "transparency" in image.info:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, (0, 0, 0, 255)), image)
    want = io.BytesIO()
    image.convert(mode).save(want, "PNG")
    out.writestr(zipfile.ZipInfo(name), data)
    out.writestr(zipfile.ZipInfo(name + ".png"), want.getvalue())


def nearest(image):
    levels = Image.new("L", image.size)
    levels.putdata([(v + 128) // 257 for v in image.getdata()])
    return levels


def save(image, kind, **options):
    data = io.BytesIO()
    image.save(data, kind, **options)
    return data.getvalue()


for quality in (30, 75, 95):
    keep(f"grey-q{quality}.jpg", save(grey, "JPEG", quality=quality), "L")
    keep(f"grey-q{quality}-progressive.jpg", save(grey, "JPEG", quality=quality, progressive=True), "L")
keep("colour.jpg", save(colour, "JPEG", quality=95, subsampling=0), "RGB")
keep("colour-progressive.jpg", save(colour, "JPEG", quality=95, subsampling=0, progressive=True), "RGB")
keep("colour-rgb.jpg", save(colour, "JPEG", quality=95, keep_rgb=True), "RGB")

# CMYK as Adobe writes it: inverted, with an APP14 segment. With 2 as the
# segment's last byte the first three planes are YCbCr: YCCK.
inks = Image.merge("CMYK", (*colour.split(), plain.resize(colour.size)))
cmyk = save(inks, "JPEG", quality=95)
keep("cmyk.jpg", cmyk, "RGB")
mark = cmyk.index(b"Adobe") + 11
assert cmyk[mark] == 0
keep("ycck.jpg", cmyk[:mark] + b"\x02" + cmyk[mark + 1:], "RGB")

# PNG of all kinds.
wide = Image.new("I;16", grey.size)
wide.putdata([v * 257 + 37 * i % 199 - 99 for i, v in enumerate(grey.point(lambda v: max(1, min(254, v))).getdata())])
keep("grey16.png", save(wide, "PNG"), "L")
keep("bilevel.png", save(grey.convert("1"), "PNG"), "L")
for colours in (2, 4, 16, 256):
    keep(f"palette-{colours}.png", save(colour.quantize(colours), "PNG"), "RGB")
keep("palette-transparent.png", save(colour.quantize(16), "PNG", transparency=bytes(range(0, 256, 16))), "RGB")
keep("grey-alpha.png", save(Image.merge("LA", (grey, grey.rotate(180))), "PNG"), "L")
keep("rgba.png", save(Image.merge("RGBA", (*colour.split(), grey)), "PNG"), "RGB")


def chunk(kind, body):
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def interlaced(image):
    """Adam7 of an 8-bit grey picture, without filters."""
    w, h = image.size
    rows = b""
    for x0, y0, dx, dy in ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2)):
        for y in range(y0, h, dy):
            rows += b"\x00" + bytes(image.getpixel((x, y)) for x in range(x0, w, dx))
    head = struct.pack(">IIBBBBB", w, h, 8, 0, 0, 0, 1)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


keep("interlaced.png", interlaced(grey), "L")

# Orientations, in both byte orders, and of a file with colour at half size.
for orientation in range(1, 9):
    exif = Image.Exif()
    exif[0x010E] = "a description before it"
    exif[0x0112] = orientation
    big = b"Exif\x00\x00MM\x00*" + struct.pack(">IHHHIHHI", 8, 1, 0x0112, 3, 1, orientation, 0, 0)
    keep(f"orientation-{orientation}.jpg", save(small, "JPEG", quality=90, exif=exif), "L")
    keep(f"orientation-{orientation}-big.jpg", save(small, "JPEG", quality=90, exif=big), "L")
    keep(f"orientation-{orientation}.png", save(small, "PNG", exif=exif), "L")
    keep(f"orientation-{orientation}-rgb.png", save(colour.crop((0, 0, 9, 5)), "PNG", exif=exif), "RGB")
    keep(f"orientation-{orientation}-colour.jpg", save(colour.crop((0, 0, 23, 13)), "JPEG", quality=95, subsampling=0, exif=exif), "RGB")
out.close()
