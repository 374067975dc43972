"""Texts of table cells in the release dossier."""

import pytest

from mcti.registry import dossier_document


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.123456789, "0.123457"), (12, "12"), ({}, "none"), ([], "none"), ((1.5, "a"), "1.5, a"),
        ({"low": 1, "high": [2, 3]}, "low 1, high 2, 3"), (None, "none"), (True, "yes"), ({"early": False}, "early no"),
    ],
)  # fmt: skip
def test_a_value_becomes_one_text(value, text):
    assert dossier_document.cell(value) == text


def test_an_interval_has_three_cells():
    assert dossier_document.interval({"value": 0.5, "low": None}) == ("0.500", "not defined", "not defined")


def test_pairs_are_rows_of_name_and_value():
    table = dossier_document.pairs({"genes": 3}, "inputs")
    assert (table.title, table.headers, table.rows) == ("inputs", (), (("genes", "3"),))
