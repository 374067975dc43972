"""Selects the directories of a TIFF file that are levels of the slide, and reads the stated resolution."""

import re
from collections.abc import Callable

from mcti.slides import ome, tiff
from mcti.slides.status import SlideError, Status

Declared = tuple[tuple[float, float] | None, str, str]
"""µm/px in x and y or None; source; reason when there is none."""

_SIZE_TOLERANCE = 0.01  # of the stated picture size


def levels(directories: list[tiff.Directory]) -> list[tiff.Directory]:
    """The levels of the slide, the finest first: the largest tiled picture, and every smaller one of its shape.

    Labels and macro photographs are stored in strips, have another shape, or state what they are. They are never read,
    because they can show names. Pages may be in any order. In OME-TIFF only sub-directories of the finest level and
    directories of the same Image are levels: another Image may be another section.
    Raises SlideError when no picture is a level, or a level is stored rotated or mirrored.
    """
    first = finest(directories)
    if first is None:
        raise SlideError(Status.UNSUPPORTED_FORMAT, "the file has no tiled picture besides a label or thumbnail")
    chosen = [first]
    for page in sorted(_candidates(directories, first), key=lambda page: -page.width):
        smaller = page.tiled and page.width < chosen[-1].width and not is_label(page)
        if smaller and page.height and abs(page.width * first.height / first.width - page.height) <= 2.0:
            chosen.append(page)
    for page in chosen:
        refuse_orientation(page.orientation)
    return chosen


def finest(directories: list[tiff.Directory]) -> tiff.Directory | None:
    """The largest tiled picture of the main chain that is not a label; None when there is none."""
    tiled = [page for page in directories if page.tiled and not page.sub and not is_label(page)]
    return max(tiled, key=lambda page: page.width * page.height, default=None)


def _candidates(directories: list[tiff.Directory], first: tiff.Directory) -> list[tiff.Directory]:
    if vendor(directories) != "ome":
        return [page for page in directories if page is not first]
    images = _pixels(directories)
    images_of_slide = [image for image in images if image.holds(first.ifd)]
    return [
        page
        for page in directories
        if (page.sub and page.ifd == first.ifd)
        or (
            not page.sub
            and page is not first
            and (len(images) == 1 or any(image.holds(page.ifd) for image in images_of_slide))
        )
    ]


def is_label(page: tiff.Directory) -> bool:
    """Whether the description of a picture states that it is a label or macro photograph."""
    return any(line.strip().lower().startswith(("label ", "macro ")) for line in page.description.splitlines()[1:2])


def refuse_orientation(orientation: int) -> None:
    """Refuse a picture whose first pixel is not its upper left corner: viewers rotate it, slide readers do not.

    Raises SlideError (UNSUPPORTED_FORMAT).
    """
    if orientation > 1:
        what = f"the picture is stored rotated or mirrored (Orientation {orientation})"
        raise SlideError(Status.UNSUPPORTED_FORMAT, what, "write it upright, e.g. with vips autorot")


def vendor(directories: list[tiff.Directory]) -> str:
    """The format of a TIFF file: aperio, hamamatsu, leica, ventana, philips, trestle, ome or generic.

    The first directory states it, or the finest level when the first is a thumbnail without a description.
    """
    pages = [directories[0], finest(directories) or directories[0]]
    return next((name for name in map(_vendor, pages) if name != "generic"), "generic")


def _vendor(page: tiff.Directory) -> str:
    text = page.description
    if text.startswith("Aperio"):
        return "aperio"
    marks: dict[str, Callable[[], bool]] = {
        "hamamatsu": lambda: page.ndpi,
        "leica": lambda: "http://www.leica-microsystems.com/scn" in text,
        "ventana": lambda: b"iScan" in bytes(page.tags.get(700, b"")),
        "philips": lambda: page.software.startswith("Philips") or 'ObjectType="DPUfsImport"' in text,
        "trestle": lambda: page.software.startswith("MedScan"),
        "ome": lambda: ome.is_ome(text),
    }
    return next((name for name, matches in marks.items() if matches()), "generic")


def declared(directories: list[tiff.Directory]) -> Declared:
    """µm/px that the file states for its finest level, with source or reason; call `levels` before."""
    first = finest(directories)
    assert first is not None, "levels() was called before"
    name = vendor(directories)
    if name == "aperio":
        return _aperio(directories, first)
    if name == "ome":
        return _ome(directories, first)
    return first.resolution, "tiff-tags", ""


def _aperio(directories: list[tiff.Directory], first: tiff.Directory) -> Declared:
    """The MPP of the finest level; if it has no description, that of another page which states this picture size."""
    texts = [page.description for page in [first, *directories] if page.description.startswith("Aperio")]
    for text in texts:
        mpp, source, reason = _aperio_text(text, first)
        if mpp is not None or text is first.description:
            return mpp, source, reason
    return None, "aperio", ""


def _aperio_text(description: str, first: tiff.Directory) -> Declared:
    match = re.search(r"\|\s*MPP\s*=\s*([0-9.,eE+-]+)", description)
    value = number(match.group(1)) if match else None
    if value is None:
        return None, "aperio", ""
    return _checked_size((value, value), "aperio", _aperio_size(description), first)


def _aperio_size(description: str) -> tuple[int, int] | None:
    """The size in the second line: `46000x32914 [0,100 46000x32914] (256x256) …`; in brackets, the cropped size."""
    line = next(iter(description.splitlines()[1:2]), "")
    match = re.match(r"\s*(\d+)\s*x\s*(\d+)(?:\s*\[[\d\s,]*?[\s,](\d+)x(\d+)\])?", line)
    if not match:
        return None
    across, down = match.group(3, 4) if match.group(3) else match.group(1, 2)
    return int(across), int(down)


def _ome(directories: list[tiff.Directory], first: tiff.Directory) -> Declared:
    images = _pixels(directories)
    if not images:
        return None, "ome", "the OME-XML has no readable Pixels"
    image = next((image for image in images if image.holds(first.ifd)), None)
    if image is None:
        return None, "ome", f"no Pixels of the OME-XML refers to directory {first.ifd}, the finest level"
    if image.mpp is None:
        return None, "ome", "PhysicalSizeX or PhysicalSizeY is missing, or its unit is no length"
    return _checked_size(image.mpp, "ome", image.size if all(image.size) else None, first)


def _pixels(directories: list[tiff.Directory]) -> list[ome.Pixels]:
    texts = (page.description for page in directories if ome.is_ome(page.description))
    return ome.pixels(next(texts, ""))


def _checked_size(
    mpp: tuple[float, float], source: str, stated: tuple[int, int] | None, first: tiff.Directory
) -> Declared:
    """The resolution, unless the file states it for another picture size: resizing tools may keep the old text."""
    actual = (first.width, first.height)
    if stated and any(abs(a - s) > _SIZE_TOLERANCE * s for a, s in zip(actual, stated, strict=True)):
        sizes = "{}x{} px, the description states {:g} µm/px for {}x{} px".format(*actual, mpp[0], *stated)
        return None, source, f"the picture has {sizes}"
    return mpp, source, ""


def number(text: str) -> float | None:
    """A resolution (µm/px) with a decimal point or comma, as scanners write it; None for other text."""
    try:
        return float(text.replace(",", "."))
    except ValueError:
        return None
