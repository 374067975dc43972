"""The status of a slide, and the errors that lead to it (docs/slides.md)."""

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
    NO_FEATURES = "NO_FEATURES"
    CONFLICTING_FEATURES = "CONFLICTING_FEATURES"


class SlideError(DataError):
    """One slide cannot be used. The other slides are processed; its row has `status` and `reason`."""

    def __init__(self, status: Status, what: str, hint: str = "", where: str = "") -> None:
        super().__init__(what, where, hint)
        self.status = status

    @property
    def reason(self) -> str:
        """Error and hint in one line; the row of the table already has the name of the slide."""
        return self.what + (f": {self.hint}" if self.hint else "")


class RegionError(Exception):
    """A region that does not decode: its tile is dropped and counted, other tiles are not affected."""
