"""Every slide checked without decoding it: header, levels, resolution, completeness, duplicates of content."""

from collections import defaultdict
from dataclasses import dataclass, replace

from mcti import storage
from mcti.errors import DataError
from mcti.slides import probe, slide_files
from mcti.slides.manifest import SlideRow
from mcti.slides.probe import SlideInfo
from mcti.slides.status import SlideError, Status


@dataclass(frozen=True)
class InventoryRow:
    """A row of the inventory. mpp in µm/px; content_id as in the feature files; quickhash: of OpenSlide.

    duplicates: other rows of equal content, or of equal quickhash.
    """

    slide_id: str
    patient_id: str
    status: str
    reason: str = ""
    reader: str = ""
    vendor: str = ""
    compression: str = ""
    width: int | None = None
    height: int | None = None
    levels: int | None = None
    mpp_x: float | None = None
    mpp_y: float | None = None
    mpp_source: str = ""
    bytes: int | None = None
    content_id: str = ""
    quickhash: str = ""
    duplicates: int = 0


def check(row: SlideRow, choice: str = "auto") -> InventoryRow:
    """What the header of one slide says; never raises for what is wrong with the slide itself."""
    entry = InventoryRow(row.slide_id, row.patient_id, Status.OK.value)
    try:
        if row.problem:
            raise SlideError(Status.READ_ERROR, row.problem)
        entry = replace(
            entry, content_id=probe.content_id(row.path), bytes=slide_files.size(slide_files.resolve(row.path))
        )
        facts = probe.examine(row.path, mpp=row.mpp, choice=choice)
    except SlideError as error:
        entry = replace(entry, status=error.status.value, reason=error.reason)
        if error.status not in (Status.MISSING_MPP, Status.MPP_OUT_OF_RANGE):
            return entry
        # All but the resolution is known, and whoever fills it wants to see the rest.
        facts = probe.examine(row.path, mpp=1.0, choice=choice)
        return _with(entry, replace(facts, mpp_source=""))
    except OSError as error:
        why = storage.translate_os_error(error).what
        return replace(entry, status=Status.READ_ERROR.value, reason=f"{why}: check the disk it lies on")
    except DataError as error:  # staging: no such object
        return replace(entry, status=Status.READ_ERROR.value, reason=f"{error.what}: {error.hint}")
    return replace(_with(entry, facts), mpp_x=facts.mpp[0], mpp_y=facts.mpp[1])


def _with(entry: InventoryRow, facts: SlideInfo) -> InventoryRow:
    return replace(
        entry,
        reader=facts.reader,
        vendor=facts.vendor,
        compression=facts.compression,
        width=facts.width,
        height=facts.height,
        levels=facts.levels,
        mpp_source=facts.mpp_source,
        quickhash=facts.quickhash,
    )


def with_duplicates(entries: list[InventoryRow]) -> list[InventoryRow]:
    """The entries, each with the number of other rows whose content, or what OpenSlide opened, is the same."""
    same: defaultdict[str, set[int]] = defaultdict(set)
    for i, entry in enumerate(entries):
        for identity in (entry.content_id, entry.quickhash):
            if identity:
                same[identity].add(i)
    others = [(same[e.content_id] | same[e.quickhash]) - {i} for i, e in enumerate(entries)]
    return [replace(entry, duplicates=len(rows)) for entry, rows in zip(entries, others, strict=True)]
