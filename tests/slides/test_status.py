"""Errors of single slides."""

from mcti.errors import DataError
from mcti.slides.status import SlideError, Status


def test_the_reason_is_error_and_hint_without_the_place():
    error = SlideError(Status.TRUNCATED, "the file is empty", "copy it again", where="a.svs")
    assert error.reason == "the file is empty: copy it again"
    assert SlideError(Status.NO_TISSUE, "no tissue").reason == "no tissue"
    assert isinstance(error, DataError)
    assert error.status == "TRUNCATED"
