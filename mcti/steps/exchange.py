"""The steps behind `mcti features import` and `mcti features export`: feature sets of other tools."""

from pathlib import Path

from mcti import storage
from mcti.errors import DataError
from mcti.slides import exchange, features, manifest, slide_table
from mcti.slides.exchange import PortableFeatures
from mcti.slides.slide_table import SlideOutcome
from mcti.steps.result import StepResult
from mcti.storage import Location


class ExchangeResult(StepResult):
    """Counts of slides and tiles, and the width of the features."""

    slides: int
    tiles: int
    width: int


def import_features(
    source: Location, format_name: str, out: Path, *, mpp: float | None = None, slides: Location | None = None
) -> ExchangeResult:
    """Import features of TRIDENT, CLAM, STAMP or plain `.pt` files as a feature store that `train` reads.

    Reads   source, a folder in the format (trident | clam | stamp | pt); slides, a table with patient_id and slide_id
            (without it, each slide is its own patient)
    Writes  out/<slide_id>.h5 and out/slides.csv: all of it or nothing
    Raises  DataError when a file is broken, or the table lacks a slide
            UsageError when the format is unknown, or STAMP is imported without `mpp`
    """
    patient_ids = manifest.read_patient_ids(slides) if slides is not None else None
    outcomes, width = [], 0
    with storage.replacing(out) as draft, storage.local_copy(source) as folder:
        draft.mkdir()
        for slide in exchange.read_set(folder, format_name, mpp):
            exchange.to_store(slide, draft / f"{slide.slide_id}.h5", format_name)
            outcomes.append(_outcome(slide, _patient_id(slide.slide_id, patient_ids, slides), format_name))
            width = _common_width(width, slide)
        slide_table.write(draft / "slides.csv", outcomes)
    return ExchangeResult(slides=len(outcomes), tiles=sum(o.tiles for o in outcomes), width=width)


def export_features(source: Location, format_name: str, out: Path) -> ExchangeResult:
    """Export a feature store as a feature set of TRIDENT, CLAM, STAMP or plain `.pt` files.

    Reads   source/*.h5
    Writes  out, in the layout of the format: all of it or nothing
    Raises  DataError when there are no features, or a slide lacks data that the format requires
            UsageError when the format is unknown
    """
    exchange.check_format(format_name)
    slides = tiles = width = 0
    with storage.replacing(out) as draft, storage.local_copy(source) as folder:
        draft.mkdir()
        for file in sorted(folder.glob("*.h5")):
            slide = exchange.from_store(file)
            exchange.write_slide(slide, draft, format_name)
            slides, tiles, width = slides + 1, tiles + len(slide.features), _common_width(width, slide)
        if not slides:
            raise DataError("no feature files", str(source), "run mcti extract first")
    return ExchangeResult(slides=slides, tiles=tiles, width=width)


def _common_width(width: int, slide: PortableFeatures) -> int:
    """The width of a slide's features, which must equal that of the previous slides (0: first slide)."""
    slide_width = int(slide.features.shape[1])
    if width not in (0, slide_width):
        what = f"features of width {slide_width}, other slides have width {width}"
        raise DataError(what, slide.slide_id, "use one folder per encoder")
    return slide_width


def _patient_id(slide_id: str, patient_ids: dict[str, str] | None, slides: Location | None) -> str:
    if patient_ids is None:
        return slide_id
    if slide_id not in patient_ids:
        raise DataError(f"slide {slide_id} is not in the table", str(slides), "add its row, or omit --slides")
    return patient_ids[slide_id]


def _outcome(slide: PortableFeatures, patient_id: str, format_name: str) -> SlideOutcome:
    mpp = slide.attributes.get("mpp_x")
    return SlideOutcome(
        slide.slide_id,
        patient_id,
        "OK",
        tiles=len(slide.features),
        mpp=None if mpp is None else float(mpp),
        mpp_source=str(slide.attributes.get("mpp_source", "manifest" if mpp is not None else "")),
        reader=format_name,
        width=slide.grid.get("level0_width"),
        height=slide.grid.get("level0_height"),
        key=features.IMPORTED_PREFIX + format_name,
    )
