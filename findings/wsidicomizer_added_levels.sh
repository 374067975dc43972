#!/usr/bin/env bash
# wsidicomizer 0.26.1 --add-missing-levels, from an SVS whose JPEG tiles are RGB (Aperio's "JPEG/RGB"):
# the level of full resolution keeps its RGB frames, the added levels hold YCbCr frames (JFIF, chroma subsampled 2x2),
# but all of them state PhotometricInterpretation RGB. DICOM PS3.3 C.7.6.3.1.2 asks for YBR_FULL_422 there.
# Effect: a reader that follows the header shows wrong colours on every level but the first; one that follows the JPEG
# stream (libjpeg's default) shows the right ones.
# Needs Python 3.11 and libturbojpeg (Debian: libturbojpeg0), which wsidicomizer loads. Exits non-zero when it differs.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check \
  wsidicomizer==0.26.1 wsidicom==0.31.0 opentile==0.22.0 pydicom==3.0.2 tifffile==2026.3.3 imagecodecs==2026.3.6
"$folder/venv/bin/python" - "$folder" <<'PYTHON'
import sys

import numpy as np
import tifffile

rows, columns = np.mgrid[0:1440, 0:1200]
picture = np.stack([columns * 255 // 1199, rows * 255 // 1439, np.full_like(rows, 120)], axis=2).astype(np.uint8)
note = "Aperio Image Library v11.2.1\r\n1200x1440 (240x240) JPEG/RGB Q=30|AppMag = 20|MPP = 0.499"
with tifffile.TiffWriter(sys.argv[1] + "/slide.svs") as writer:
    jpeg = {"photometric": "rgb", "compression": "jpeg", "metadata": None}
    writer.write(picture, tile=(240, 240), compressionargs={"outcolorspace": "rgb"}, description=note, **jpeg)
    thumbnail = picture[::2, ::2].copy()
    writer.write(thumbnail, rowsperstrip=16, description="Aperio Image Library v11.2.1\r\n-> 600x720 - ", **jpeg)
PYTHON
"$folder/venv/bin/wsidicomizer" -i "$folder/slide.svs" -o "$folder/dicom" -w 1 --add-missing-levels
"$folder/venv/bin/python" - "$folder" <<'PYTHON'
import pathlib
import sys

import pydicom
from pydicom.encaps import generate_frames

found = {}
for path in pathlib.Path(sys.argv[1], "dicom").iterdir():
    header = pydicom.dcmread(path)
    if header.ImageType[2] == "VOLUME":
        frame = next(generate_frames(header.PixelData, number_of_frames=header.NumberOfFrames))
        found[header.TotalPixelMatrixColumns] = (header.PhotometricInterpretation, frame[6:10] == b"JFIF")
for columns, (stated, jfif) in sorted(found.items(), reverse=True):
    print(f"{columns} px: PhotometricInterpretation {stated}, frames in {'YCbCr (JFIF)' if jfif else 'RGB (Adobe)'}")
finest = max(found)
lower = [value for columns, value in found.items() if columns != finest]
same = found[finest] == ("RGB", False) and lower and all(value == ("RGB", True) for value in lower)
sys.exit(0 if same else "the behaviour has changed")
PYTHON
