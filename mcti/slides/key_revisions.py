"""Slides that are read in another way than when features were first keyed: their key changes, that of no other slide.

Until then the first tiled page was the slide, alpha was dropped, OME-XML was searched as text, and OpenSlide's lower
levels were used at any downsample. A key that stayed would keep the features made so.
"""

from mcti import pinned, storage
from mcti.params import ExtractParams
from mcti.slides import dicom, probe, pyramid, tiff
from mcti.slides.manifest import Row
from mcti.slides.reader import Level
from mcti.slides.slide_files import resolve
from mcti.slides.status import SlideError
from mcti.slides.tiles import Grid
from mcti.slides.tissue import coarsest_fitting

_NEW_CODECS = (32773, 50000)  # PackBits and Zstandard went through OpenSlide


def revision(row: Row, params: ExtractParams) -> str:
    """Which changes concern a slide, as part of its key; empty for a slide that is read as ever."""
    location = resolve(row.path)
    try:
        directories, plain = _directories(location)
    except SlideError:
        return "refused"
    if plain:
        return ""
    if params.reader == "openslide" or not directories or not probe.is_ours(directories):
        return "openslide-2"
    return "" if params.reader == "flat" else _of_tiff(directories, row, params)


def _directories(location: str) -> tuple[list[tiff.Directory], bool]:
    """The directories of a TIFF, and whether the slide is of a format that keeps its key."""
    if pinned.is_pinned(location):
        location = pinned.resolve_file(location, storage.read_bytes).object
    with probe.open_bytes(location) as (pread, length):
        head = pread(0, 132)
        if probe.is_flat(head) or dicom.has_preamble(head):  # the content id of DICOM has changed as a whole
            return [], True
        return (tiff.directories(pread, length) if probe.is_tiff(head, length) else []), False


def _of_tiff(directories: list[tiff.Directory], row: Row, params: ExtractParams) -> str:
    first = pyramid.finest(directories)
    if first is None:  # strips alone: the flat reader takes the largest page
        largest = max((page for page in directories if not page.sub), key=lambda page: page.width * page.height)
        return "" if largest is directories[0] else "finest-1"
    try:
        levels = pyramid.levels(directories)
    except SlideError:
        return "refused"
    mpp = (row.mpp, row.mpp) if row.mpp is not None else pyramid.declared(directories)[0]
    if mpp is None:
        return "refused"
    changes = {
        "ome-2": pyramid.vendor(directories) == "ome",
        "finest-1": first is not directories[0],
        "alpha-1": first.samples == 4,
        "codec-1": first.compression in _NEW_CODECS,
        "levels-2": _other_level(levels, mpp, params),
    }
    return "+".join(name for name, holds in changes.items() if holds)


def _other_level(levels: list[tiff.Directory], mpp: tuple[float, float], params: ExtractParams) -> bool:
    """Whether tiles come from another level since some give none (Level.exact)."""
    finest = (levels[0].width, levels[0].height)
    pyramid_of = [Level.of((page.width, page.height), finest, page.tile) for page in levels]
    grid = Grid.over(*finest, mpp, params.resolution, params.tile, params.overlap)
    wanted = min(footprint / grid.tile for footprint in grid.footprint)
    return coarsest_fitting(pyramid_of, wanted) != coarsest_fitting(pyramid_of, wanted, exact=True)
