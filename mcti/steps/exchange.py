"""The steps behind `mcti features import` and `mcti features export`: feature sets of other tools, in and out."""

from pathlib import Path

from mcti import storage
from mcti.errors import DataError
from mcti.slides import exchange, manifest
from mcti.slides.extraction import Outcome
from mcti.steps.extract import write_table
from mcti.steps.result import StepResult
from mcti.storage import Location


class ExchangeResult(StepResult):
    """Counts of what went over, and the width of the features."""

    slides: int
    tiles: int
    width: int


def import_features(
    source: Location, form: str, out: Path, *, mpp: float | None = None, slides: Location | None = None
) -> ExchangeResult:
    """Features made by TRIDENT, CLAM, STAMP or as plain `.pt`, as a store that `train` reads.

    Reads   source, a folder of `form` (trident | clam | stamp | pt); slides, a table that says whose they are
            (patient_id, slide_id; without it each slide is its own patient)
    Writes  out/<slide_id>.h5 and out/slides.csv: all of it or nothing
    Raises  DataError for a broken file or a slide that the manifest lacks; UsageError for STAMP without `mpp`
    """
    patients = manifest.owners(slides) if slides is not None else None
    outcomes, width = [], 0
    with storage.replacing(out) as draft, storage.local_copy(source) as folder:
        draft.mkdir()
        for bag in exchange.read_set(folder, form, mpp):
            exchange.to_store(bag, draft / f"{bag.slide_id}.h5", form)
            outcomes.append(_outcome(bag, _patient(bag.slide_id, patients, slides), form))
            width = _same(width, bag)
        write_table(draft / "slides.csv", outcomes)
    return ExchangeResult(slides=len(outcomes), tiles=sum(o.tiles for o in outcomes), width=width)


def export_features(features: Location, form: str, out: Path) -> ExchangeResult:
    """Our store as a feature set that TRIDENT, CLAM, STAMP or any reader of `.pt` opens.

    Reads   features/*.h5
    Writes  out, in the layout of `form`: all of it or nothing
    Raises  DataError when there are no features, or a slide lacks what the format must have
    """
    exchange.check_format(form)
    slides = tiles = width = 0
    with storage.replacing(out) as draft, storage.local_copy(features) as folder:
        draft.mkdir()
        for file in sorted(folder.glob("*.h5")):
            bag = exchange.from_store(file)
            exchange.write_bag(bag, draft, form)
            slides, tiles, width = slides + 1, tiles + len(bag.numbers), _same(width, bag)
        if not slides:
            raise DataError("no feature files", str(features), "run mcti extract first")
    return ExchangeResult(slides=slides, tiles=tiles, width=width)


def _same(width: int, bag: exchange.Bag) -> int:
    found = int(bag.numbers.shape[1])
    if width not in (0, found):
        raise DataError(f"features of width {found} beside width {width}", bag.slide_id, "keep one encoder a folder")
    return found


def _patient(slide_id: str, patients: dict[str, str] | None, slides: Location | None) -> str:
    if patients is None:
        return slide_id
    if slide_id not in patients:
        raise DataError(f"slide {slide_id} is not in the manifest", str(slides), "add its row, or leave --slides out")
    return patients[slide_id]


def _outcome(bag: exchange.Bag, patient_id: str, form: str) -> Outcome:
    mpp = bag.root.get("mpp_x")
    return Outcome(
        bag.slide_id,
        patient_id,
        "OK",
        tiles=len(bag.numbers),
        mpp=None if mpp is None else float(mpp),
        mpp_source=str(bag.root.get("mpp_source", "manifest" if mpp is not None else "")),
        reader=form,
        width=bag.grid.get("level0_width"),
        height=bag.grid.get("level0_height"),
        key=f"imported from {form}",
    )
