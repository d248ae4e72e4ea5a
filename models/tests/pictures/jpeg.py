"""Draws a picture and lets libjpeg-turbo encode it in many ways (`cjpeg`, `djpeg` and Pillow are needed).

Prints the CRC-32 of the pixels that libjpeg-turbo decodes from each file, as RGB: `models/src/image/tests.rs` has
them. Run it in the folder of this file.
"""

import pathlib
import subprocess
import zlib

from PIL import Image, ImageDraw

WAYS = {
    "420": "", "444": "-sample 1x1", "422": "-sample 2x1", "440": "-sample 1x2", "411": "-sample 4x1",
    "410": "-sample 4x2", "441": "-sample 1x4", "422-tall": "-sample 2x2,1x2", "finer": "-sample 1x1,2x2",
    "thirds": "-sample 3x1", "optimized": "-optimize", "restarts": "-restart 1B", "rows": "-restart 1",
    "progressive": "-progressive", "progressive-restarts": "-progressive -restart 1B",
    "progressive-rows": "-progressive -restart 1", "progressive-tall": "-progressive -sample 2x2,1x2",
    "scans": "-scans scans.txt", "scans-restarts": "-scans scans.txt -restart 2B", "rgb": "-rgb",
    "gray": "-grayscale", "gray-progressive": "-grayscale -progressive -restart 1", "arithmetic": "-arithmetic",
}

drawing = Image.new("RGB", (43, 37))
drawing.putdata([(6 * x, 7 * y, x * y % 256) for y in range(37) for x in range(43)])
pen = ImageDraw.Draw(drawing)
pen.ellipse((8, 6, 30, 28), fill=(230, 40, 60))
pen.line((0, 36, 42, 3), fill=(250, 250, 30), width=2)
drawing.save("drawing.ppm")
pathlib.Path("scans.txt").write_text("0;\n1 2;\n")
for name, way in WAYS.items():
    out = f"jpeg/{name}.jpg"
    subprocess.run(["cjpeg", "-quality", "75", *way.split(), "-outfile", out, "drawing.ppm"], check=True)
    decoded = subprocess.run(["djpeg", "-pnm", out], check=True, capture_output=True).stdout
    pixels = decoded.split(b"255\n", 1)[1]
    if decoded.startswith(b"P5"):
        pixels = bytes(value for value in pixels for _ in range(3))
    print(f'("{name}", 0x{zlib.crc32(pixels):08x}),')
