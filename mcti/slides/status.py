"""What became of a slide, in one word and one reason (docs/slides.md)."""

from enum import StrEnum

from mcti.errors import DataError


class Status(StrEnum):
    """The statuses of `slides.csv` and of the inventory."""

    OK = "OK"
    UNSUPPORTED_FORMAT = "UNSUPPORTED_FORMAT"
    UNSUPPORTED_COMPRESSION = "UNSUPPORTED_COMPRESSION"
    TRUNCATED = "TRUNCATED"
    READ_ERROR = "READ_ERROR"
    MISSING_MPP = "MISSING_MPP"
    MPP_OUT_OF_RANGE = "MPP_OUT_OF_RANGE"
    NOT_PYRAMIDAL = "NOT_PYRAMIDAL"
    NO_TISSUE = "NO_TISSUE"
    OUT_OF_FOCUS = "OUT_OF_FOCUS"
    NOT_HE = "NOT_HE"
    TIMED_OUT = "TIMED_OUT"


class SlideError(DataError):
    """One slide is in the way. The cohort goes on; its row says `status` and the reason."""

    def __init__(self, status: Status, what: str, hint: str = "", where: str = "") -> None:
        super().__init__(what, where, hint)
        self.status = status

    @property
    def reason(self) -> str:
        """Reason and mend in one line, without the place: the row of the table already names the slide."""
        return self.what + (f": {self.hint}" if self.hint else "")


class RegionError(Exception):
    """A region that cannot be decoded: its tile is dropped and counted, its neighbours are not touched."""
