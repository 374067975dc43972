"""Previews: each slide with its tissue outlined, and contact sheets of the cohort.

They show only level pixels. Label and macro photographs can show names and are never read.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from mcti import storage
from mcti.slides.decoding import Pixels
from mcti.slides.tissue import Mask

_EDGE = 768
_CELL, _MARGIN, _COLUMNS, _ROWS = 180, 22, 12, 16
_OUTLINE = (0, 150, 60)


def write(out: Path, picture: Pixels, mask: Mask) -> None:
    """Write a JPEG of the overview (h, w, 3) with the outline of its tissue (h, w), at most 768 px along an edge.

    Raises OperationalError when the file cannot be written.
    """
    import cv2

    scale = min(1.0, _EDGE / max(picture.shape[:2]))
    size = tuple(max(1, round(n * scale)) for n in picture.shape[1::-1])
    preview = cv2.resize(picture, size, interpolation=cv2.INTER_AREA)
    small = cv2.resize(mask.astype(np.uint8), size, interpolation=cv2.INTER_NEAREST)
    outlines, _ = cv2.findContours(small, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_SIMPLE)
    cv2.drawContours(preview, outlines, -1, _OUTLINE, 1 if max(size) < 400 else 2)
    _write(out, np.asarray(preview, np.uint8))


def write_contact_sheets(folder: Path, slides: Sequence[tuple[str, str, Path]]) -> list[Path]:
    """Write sheets of 192 slides, `contact-sheet-<n>.jpg` in `folder`; slides: (slide_id, status, preview file).

    Raises OperationalError when a file cannot be written.
    """
    page = _COLUMNS * _ROWS
    for old in folder.glob("contact-sheet-*.jpg"):
        old.unlink()
    sheets = []
    for number, start in enumerate(range(0, len(slides), page), start=1):
        sheets.append(folder / f"contact-sheet-{number}.jpg")
        _write(sheets[-1], _sheet(slides[start : start + page]))
    return sheets


def _sheet(slides: Sequence[tuple[str, str, Path]]) -> Pixels:
    columns = min(_COLUMNS, len(slides))
    rows = -(-len(slides) // columns)
    sheet = np.full((rows * (_CELL + _MARGIN), columns * _CELL, 3), 250, np.uint8)
    for i, (slide_id, status, preview) in enumerate(slides):
        y, x = i // columns * (_CELL + _MARGIN), i % columns * _CELL
        _cell(sheet[y : y + _CELL + _MARGIN, x : x + _CELL], slide_id, status, preview)
    return sheet


def _cell(cell: Pixels, slide_id: str, status: str, preview: Path) -> None:
    import cv2

    edge = _CELL - 8
    if preview.exists() and (picture := cv2.imread(str(preview))) is not None:
        scale = edge / max(picture.shape[:2])
        size = tuple(max(1, round(n * scale)) for n in picture.shape[1::-1])
        small = cv2.cvtColor(cv2.resize(picture, size, interpolation=cv2.INTER_AREA), cv2.COLOR_BGR2RGB)
        cell[4 : 4 + size[1], 4 : 4 + size[0]] = small
    else:
        cell[4 : 4 + edge, 4 : 4 + edge] = 215
        cv2.putText(cell, status, (10, _CELL // 2), cv2.FONT_HERSHEY_SIMPLEX, 0.36, (150, 30, 30), 1, cv2.LINE_AA)
    name = slide_id.encode("ascii", "replace").decode()  # OpenCV's fonts have only ASCII
    name = name if len(name) <= 26 else f"{name[:12]}..{name[-12:]}"
    cv2.putText(cell, name, (6, _CELL + 10), cv2.FONT_HERSHEY_SIMPLEX, 0.34, (40, 40, 40), 1, cv2.LINE_AA)


def _write(out: Path, picture: Pixels) -> None:
    import cv2

    encoded, data = cv2.imencode(".jpg", cv2.cvtColor(picture, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, 85])
    assert encoded, "an array of bytes can be encoded"
    with storage.replacing(out) as draft:
        draft.write_bytes(data.tobytes())
