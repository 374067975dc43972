"""The steps behind `mcti features import` and `mcti features export`: feature sets of other tools."""

import logging
import math
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path

from pydantic import Field

from mcti import storage
from mcti.errors import DataError, UsageError
from mcti.slides import exchange, features, manifest, slide_table
from mcti.slides.feature_sets import entries as set_entries
from mcti.slides.feature_sets import names
from mcti.slides.feature_sets.checks import SetFacts, check_set
from mcti.slides.feature_sets.entries import SetEntry
from mcti.slides.feature_sets.names import Identity, Matches
from mcti.slides.portable import PATCH, PATIENT, SLIDE, MissingMpp, PortableFeatures
from mcti.slides.slide_table import SlideOutcome
from mcti.slides.status import Status
from mcti.steps.result import StepResult
from mcti.storage import Location

_log = logging.getLogger(__name__)


class ExchangeResult(StepResult):
    """Counts of slides (or patients, where a vector stands for a patient) and tiles, and the width of the features.

    level        patch | slide | patient: what one row of the features stands for
    failed       {slide: reason} of the files that were not imported
    unlisted     entries of the set that are not in the table of slides
    missing      slides of the table without features
    rows_removed number of rows that were not finite and were left out
    """

    slides: int
    tiles: int
    width: int
    level: str = PATCH
    encoder: str = "unknown"
    failed: dict[str, str] = Field(default_factory=dict)
    unlisted: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()
    rows_removed: int = 0


@dataclass(frozen=True)
class Declared:
    """What the user states of slides whose files do not: mpp (µm/px of level 0), encoder, edge of a tile (level 0)."""

    mpp: float | None = None
    encoder: str | None = None
    patch_size_level0: int | None = None


def import_features(
    source: Location,
    format_name: str,
    out: Path,
    *,
    mpp: float | None = None,
    slides: Location | None = None,
    encoder: str | None = None,
    patch_size_level0: int | None = None,
    coordinates: Location | None = None,
) -> ExchangeResult:
    """Import features of another tool as a feature store that `train` reads.

    Reads   source, a file or folder in the format (docs/slides.md); slides, a table with patient_id, slide_id and, for
            each slide, mpp (without it: TCGA patients by barcode, else each slide is its own patient); coordinates,
            the tiling where another step of the tool writes it (CLAM's `patches`, hs2p's `tiles`)
    Writes  out/<slide_id>.h5 (vectors of patients: out/<patient_id>.h5) and out/slides.csv: all of it or nothing. A
            file that cannot be read is listed in slides.csv with its reason; the others are imported.
    mpp, encoder, patch_size_level0     of the slides whose files, and rows of the table, do not state them

    Raises  DataError when no file can be read, the set mixes levels, widths, encoders, resolutions or tile sizes, two
            files are of one slide, or a file contradicts `encoder` or `patch_size_level0`
            UsageError when the format is unknown, or its coordinates need an mpp that is not known
    """
    declared = Declared(mpp, encoder, patch_size_level0)
    exchange.check_format(format_name)
    if mpp is not None and not 0 < mpp < math.inf:
        raise UsageError(f"mpp is {mpp}", "--mpp", "write the µm/px of level 0, e.g. 0.25")
    if coordinates is not None and format_name not in exchange.WITH_TILING:
        hint = f"omit it: only {' and '.join(exchange.WITH_TILING)} write the tiling elsewhere"
        raise UsageError(f"--format {format_name} has its coordinates in the feature files", "--coordinates", hint)
    with storage.replacing(out) as draft, storage.local_copy(source) as local, _local_tiling(coordinates) as tiling:
        draft.mkdir()
        entries = exchange.find_entries(local, format_name, tiling)
        matches = _matches(entries, slides)
        if not matches.by_name:
            what = f"none of the {len(entries)} names is in the table, the first is {entries[0].name}"
            raise DataError(what, str(slides), "name the slides as the feature files, without the suffix")
        work = _Import(draft, format_name, declared, str(source))
        for entry in entries:
            if entry.name in matches.by_name:
                work.add(entry, matches.by_name[entry.name])
        return work.finish(matches)


class _Import:
    """The import of a set into a draft of the store, entry by entry."""

    def __init__(self, draft: Path, format_name: str, declared: Declared, source: str) -> None:
        self._draft, self._format, self._declared, self._source = draft, format_name, declared, source
        self._facts: list[SetFacts] = []
        self._outcomes: list[SlideOutcome] = []
        self._failed: dict[str, str] = {}
        self._without_mpp: list[str] = []
        self._encoder, self._removed = "unknown", 0

    def add(self, entry: SetEntry, identity: Identity) -> None:
        """Write the feature file of an entry, or note why it cannot be read."""
        try:
            slide = self._read(entry, identity)
        except MissingMpp:
            self._without_mpp.append(identity.name)
            return
        except DataError as error:
            reason = str(error)
            self._failed[identity.name] = reason
            self._outcomes.append(_failed(identity, reason, self._format))
            _log.warning("not imported: %s", reason)
            return
        exchange.to_store(slide, self._draft / f"{identity.name}.h5", self._format)
        self._facts.append(SetFacts.of(slide))
        self._encoder = str(slide.attributes.get("encoder", self._encoder))
        self._removed += slide.removed
        self._outcomes.append(_outcome(slide, identity.patient_id, self._format))

    def finish(self, matches: Matches) -> ExchangeResult:
        """Check the set, write the table and return the result."""
        if self._without_mpp:
            what = f"STAMP stores coordinates in µm, and the mpp of {len(self._without_mpp)} slides is not known"
            hint = "enter mpp (µm/px of level 0) in the table of slides, or give one for all, e.g. --mpp 0.25"
            raise UsageError(f"{what}, the first is {self._without_mpp[0]}", f"--format {self._format}", hint)
        if not self._facts:
            name, reason = next(iter(self._failed.items()))
            what = f"none of {len(self._failed)} files can be read, the first is that of {name}: {reason}"
            raise DataError(what, self._source, "check --format")
        check_set(self._facts)
        missing = [_missing(s, self._format, self._source) for s in matches.without_features]
        slide_table.write(self._draft / "slides.csv", [*self._outcomes, *missing])
        self._report(matches)
        imported = [row for row in self._outcomes if row.status == Status.OK]
        return ExchangeResult(
            slides=len(imported),
            tiles=sum(row.tiles for row in imported),
            width=self._facts[0].width,
            level=next((fact.level for fact in self._facts if fact.level), SLIDE),
            encoder=self._encoder,
            failed=self._failed,
            unlisted=matches.unlisted,
            missing=tuple(row.slide_id for row in missing),
            rows_removed=self._removed,
        )

    def _read(self, entry: SetEntry, identity: Identity) -> PortableFeatures:
        mpp = identity.mpp or self._declared.mpp
        slide = entry.read(mpp)
        level = PATIENT if identity.of_patient and slide.level in ("", SLIDE) else slide.level
        named = replace(slide, slide_id=identity.name, level=level)
        return _with_declared(named, mpp, "manifest" if identity.mpp else "option", self._declared, entry.where)

    def _report(self, matches: Matches) -> None:
        """Log what was left out."""
        for count, what in (
            (self._removed, "rows are not finite and were left out"),
            (len(matches.unlisted), "files are of no slide of the table and were left out"),
            (len(matches.without_features), "slides of the table have no features"),
        ):
            if count:
                _log.warning("%d %s", count, what)


def export_features(source: Location, format_name: str, out: Path) -> ExchangeResult:
    """Export a feature store as a feature set of TRIDENT, CLAM, STAMP or plain `.pt` files.

    Reads   source/*.h5
    Writes  out, in the layout of the format: all of it or nothing
    Raises  DataError when there are no features, or a slide lacks data that the format requires
            UsageError when the format is unknown
    """
    exchange.check_format(format_name, exchange.EXPORT_FORMATS)
    slides = tiles = width = 0
    levels, encoders = set(), set()
    with storage.replacing(out) as draft, storage.local_copy(source) as folder:
        draft.mkdir()
        for file in sorted(folder.glob("*.h5")):
            slide = exchange.from_store(file)
            exchange.write_slide(slide, draft, format_name)
            slides, tiles, width = slides + 1, tiles + len(slide.features), _common_width(width, slide)
            levels.add(slide.level)
            encoders.add(str(slide.attributes.get("encoder", "unknown")))
        if not slides:
            raise DataError("no feature files", str(source), "run mcti extract first")
    level = next(iter(sorted(levels - {""})), SLIDE)
    return ExchangeResult(slides=slides, tiles=tiles, width=width, level=level, encoder=", ".join(sorted(encoders)))


def _local_tiling(coordinates: Location | None) -> AbstractContextManager[Path | None]:
    return nullcontext() if coordinates is None else storage.local_copy(coordinates)


def _matches(entries: Sequence[SetEntry], slides: Location | None) -> Matches:
    """The identity of each entry by its name.

    Raises DataError when two entries have one name, in the set or in the store.
    """
    by_name = set_entries.by_name(entries)
    if slides is None:
        return names.identify(by_name, {name: entry.patient_id for name, entry in by_name.items()})
    return names.match(by_name, manifest.read_listed(slides))


def _with_declared(
    slide: PortableFeatures, mpp: float | None, mpp_source: str, declared: Declared, where: str
) -> PortableFeatures:
    """The slide with what its file does not state.

    Raises DataError when the file states another encoder or tile size.
    """
    grid, attributes = dict(slide.grid), dict(slide.attributes)
    if mpp is not None:
        attributes |= {"mpp_x": mpp, "mpp_y": mpp, "mpp_source": mpp_source}
    for option, owner, name, value in (
        ("--encoder", attributes, "encoder", declared.encoder),
        ("--patch-size-level0", grid, "patch_size_level0", declared.patch_size_level0),
    ):
        if value is None or (name == "patch_size_level0" and slide.coords is None):
            continue
        stated = owner.get(name)
        if stated not in (None, "", 0, "unknown", value):
            raise DataError(f"the file states {name} {stated}, not {value}", where, f"correct or omit {option}")
        owner[name] = value
    return replace(slide, grid=grid, attributes=attributes)


def _common_width(width: int, slide: PortableFeatures) -> int:
    """The width of a slide's features, which must equal that of the previous slides (0: first slide)."""
    slide_width = int(slide.features.shape[1])
    if width not in (0, slide_width):
        what = f"features of width {slide_width}, other slides have width {width}"
        raise DataError(what, slide.slide_id, "use one folder per encoder")
    return slide_width


def _outcome(slide: PortableFeatures, patient_id: str, format_name: str) -> SlideOutcome:
    mpp = slide.attributes.get("mpp_x")
    return SlideOutcome(
        slide.slide_id,
        patient_id,
        Status.OK.value,
        tiles=len(slide.features),
        failed_tiles=slide.removed,
        mpp=None if mpp is None else float(mpp),
        mpp_source=str(slide.attributes.get("mpp_source", "")),
        reader=format_name,
        width=slide.grid.get("level0_width") or None,
        height=slide.grid.get("level0_height") or None,
        key=features.IMPORTED_PREFIX + format_name,
    )


def _failed(identity: Identity, reason: str, format_name: str) -> SlideOutcome:
    return SlideOutcome(identity.name, identity.patient_id, Status.READ_ERROR.value, reason, reader=format_name)


def _missing(slide: manifest.ListedSlide, format_name: str, source: str) -> SlideOutcome:
    reason = f"no features in {Path(source).name}"
    return SlideOutcome(slide.slide_id, slide.patient_id, Status.NO_FEATURES.value, reason, reader=format_name)
