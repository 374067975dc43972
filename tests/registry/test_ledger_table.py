"""The CSV of the ledger, read by Python's own reader."""

import csv
import io

from mcti.registry import ledger_table
from mcti.registry.trust.ledger_signatures import EntrySignature
from tests.registry.trust.factories import signed_chain


def rows(entries):
    text = ledger_table.to_csv(entries, [EntrySignature("verified", "site", "")] * len(entries))
    return list(csv.DictReader(io.StringIO(text, newline="")))


def test_each_entry_is_a_row_with_who_when_what_and_why():
    table = rows(signed_chain())
    assert [row["number"] for row in table] == ["1", "2", "3", "4", "5", "6"]
    second = table[1]
    assert (second["who"], second["action"], second["champion"], second["previous"]) == ("paul", "promote", "2", "1")
    assert (second["time"], second["reason"]) == ("2025-05-29T12:00:00+00:00", "reason 2")
    assert (second["signature"], second["signer"]) == ("verified", "site")
    assert second["hash_before"] == table[0]["hash"]
    assert table[0]["previous"] == ""


def test_quotes_line_breaks_and_commas_survive_and_formulas_are_text():
    entry = signed_chain()[0]
    texts = ['=HYPERLINK("http://x")', "+1", "-1", "@SUM(A1)", 'a "quoted", text\nof two lines', "\tTab"]
    table = rows([entry.model_copy(update={"who": text, "evidence": {"reason": text}}) for text in texts])
    assert [row["who"] for row in table] == [f"'{t}" if t[0] in "=+-@\t" else t for t in texts]
    assert table[4]["reason"] == texts[4]


def test_settings_looser_than_params_and_the_reason_for_them_are_columns():
    evidence = {"reason": "r", "looser": ["promote.margin", "promote.alpha"], "override_reason": "urgent"}
    (row,) = rows([signed_chain()[0].model_copy(update={"evidence": evidence})])
    assert row["looser_than_params"] == "promote.margin; promote.alpha"
    assert row["override_reason"] == "urgent"
