"""Checks a slide without decoding it: header, levels, resolution, completeness, duplicates of content."""

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

    duplicates: number of other rows with the same content_id or quickhash.
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
    """The row of one slide. A fault of the slide is stated in the row and never raised.

    Raises ChecksumMismatch when a pinned slide has changed.
    """
    result = InventoryRow(row.slide_id, row.patient_id, Status.OK.value)
    try:
        if row.problem:
            raise SlideError(Status.READ_ERROR, row.problem)
        size = slide_files.size(slide_files.resolve(row.path))
        result = replace(result, content_id=probe.content_id(row.path), bytes=size)
        info = probe.examine(row.path, mpp=row.mpp, choice=choice)
    except SlideError as error:
        result = replace(result, status=error.status.value, reason=error.reason)
        if error.status not in (Status.MISSING_MPP, Status.MPP_OUT_OF_RANGE):
            return result
        # Everything except the resolution is valid; the user who enters it needs the other columns.
        info = probe.examine(row.path, mpp=1.0, choice=choice)
        return _with_info(result, replace(info, mpp_source=""))
    except OSError as error:
        reason = f"{storage.translate_os_error(error).what}: check the disk of the slide"
        return replace(result, status=Status.READ_ERROR.value, reason=reason)
    except DataError as error:  # from staging: no such object
        return replace(result, status=Status.READ_ERROR.value, reason=f"{error.what}: {error.hint}")
    return replace(_with_info(result, info), mpp_x=info.mpp[0], mpp_y=info.mpp[1])


def _with_info(row: InventoryRow, info: SlideInfo) -> InventoryRow:
    return replace(
        row,
        reader=info.reader,
        vendor=info.vendor,
        compression=info.compression,
        width=info.width,
        height=info.height,
        levels=info.levels,
        mpp_source=info.mpp_source,
        quickhash=info.quickhash,
    )


def with_duplicates(rows: list[InventoryRow]) -> list[InventoryRow]:
    """The rows, each with the number of other rows that have the same content_id or quickhash."""
    by_identity: defaultdict[str, set[int]] = defaultdict(set)
    for i, row in enumerate(rows):
        for identity in (row.content_id, row.quickhash):
            if identity:
                by_identity[identity].add(i)
    duplicates = [(by_identity[row.content_id] | by_identity[row.quickhash]) - {i} for i, row in enumerate(rows)]
    return [replace(row, duplicates=len(indices)) for row, indices in zip(rows, duplicates, strict=True)]
