#!/usr/bin/env bash
# libvips 8.18 tiffsave with compression=jpeg, from an RGBA picture (registered slides have a transparent rim):
# the TIFF has three samples and no ExtraSamples, and what was transparent is black; with compression=deflate the same
# call keeps the fourth sample.
# Effect: after a conversion to JPEG tiles no reader can tell the rim from dark tissue by its alpha. Pass
# background=255 to tiffsave, or flatten over white before.
# Needs Python 3.11. Exits non-zero when it differs.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check \
  pyvips==3.2.0 pyvips-binary==8.18.7 tifffile==2026.3.3 imagecodecs==2026.3.6
"$folder/venv/bin/python" - "$folder" <<'PYTHON'
import sys

import numpy as np
import pyvips
import tifffile

picture = np.full((512, 512, 4), (200, 120, 180, 255), np.uint8)
picture[:, :128] = (200, 120, 180, 0)  # the rim
slide = pyvips.Image.new_from_array(picture, interpretation="srgb")
pixels = {}
for name, options in {
    "deflate": {"compression": "deflate"},
    "jpeg": {"compression": "jpeg"},
    "jpeg, background=255": {"compression": "jpeg", "background": [255]},
}.items():
    path = f"{sys.argv[1]}/slide.tif"
    slide.tiffsave(path, tile=True, tile_width=128, tile_height=128, **options)
    with tifffile.TiffFile(path) as file:
        page = file.pages[0]
        print(f"{name}: {page.samplesperpixel} samples, rim {page.asarray()[256, 64].tolist()}")
        pixels[name] = (page.samplesperpixel, page.asarray()[256, 64, :3].astype(int))
print("libvips", ".".join(str(pyvips.version(i)) for i in range(3)))
assert pixels["deflate"][0] == 4
assert pixels["jpeg"][0] == 3 and pixels["jpeg"][1].max() <= 8, "the rim is no longer black"
assert pixels["jpeg, background=255"][1].min() >= 247
PYTHON
