"""The budget of a test set: increments that add up to alpha, looks that are read from the ledger."""

import math

import pytest
from scipy import stats

from mcti.errors import DataError
from mcti.params import PromoteParams
from mcti.registry import alpha_spending
from mcti.registry.ledger import LedgerEntry

PARAMS = PromoteParams(alpha=0.05, looks=10)
PATIENTS = [(f"P{i:03d}", float(i + 1), i % 2) for i in range(200)]


def entry(look, number):
    return LedgerEntry(
        number=number, id="x", before="", time="", who="", action="reject", model="m", version=1, champion=None,
        previous=None, evidence={"look": look.model_dump(mode="json")},
    )  # fmt: skip


def looks(count, params=PARAMS, patients=PATIENTS, entries=()):
    entries = list(entries)
    for _ in range(count):
        look = alpha_spending.next_look(entries, patients, f"c{len(entries)}:champion", params)
        entries.append(entry(look, len(entries) + 1))
        yield look


@pytest.mark.parametrize("function", ["pocock", "obrien-fleming"])
def test_the_increments_of_all_looks_add_up_to_alpha(function):
    params = PARAMS.model_copy(update={"spending": function})
    alphas = [look.alpha for look in looks(12, params)]
    assert math.fsum(alphas[:10]) == pytest.approx(0.05, rel=1e-12)
    assert all(alpha > 0 for alpha in alphas[:10])
    assert alphas[10:] == pytest.approx([0, 0], abs=1e-15)


def test_the_first_increments_are_those_of_lan_and_demets():
    """Oracle: the two formulas of Lan and DeMets (1983) with scipy's normal distribution."""
    first = next(looks(1))
    assert first.alpha == pytest.approx(0.05 * math.log(1 + (math.e - 1) / 10), rel=1e-12)
    late = next(looks(1, PARAMS.model_copy(update={"spending": "obrien-fleming", "looks": 2})))
    assert late.alpha == pytest.approx(2 - 2 * stats.norm.cdf(stats.norm.ppf(0.975) / math.sqrt(0.5)), rel=1e-9)


def test_the_same_pair_on_the_same_patients_is_the_same_look():
    before = list(looks(3))
    entries = [entry(look, i) for i, look in enumerate(before, 1)]
    assert alpha_spending.next_look(entries, PATIENTS, "c1:champion", PARAMS) == before[1]
    assert alpha_spending.next_look([*entries, entry(before[1], 4)], PATIENTS, "c9:champion", PARAMS).number == 4


def test_a_look_of_an_earlier_version_is_read():
    """Its signature was named `sketch`; the ledger keeps it, and its level counts for the budget."""
    current = [entry(look, i) for i, look in enumerate(looks(3), 1)]
    earlier = []
    for line in current:
        tree = dict(line.evidence["look"])
        tree["sketch"] = tree.pop("signature")
        earlier.append(line.model_copy(update={"evidence": {"look": tree}}))
    pairs = ("c1:champion", "c9:champion")  # a repeated pair and a new one
    expected = [alpha_spending.next_look(current, PATIENTS, pair, PARAMS) for pair in pairs]
    assert [alpha_spending.next_look(earlier, PATIENTS, pair, PARAMS) for pair in pairs] == expected
    assert (expected[1].number, expected[1].spent) == (4, pytest.approx(math.fsum(look.alpha for look in looks(3))))


def test_a_look_that_cannot_be_read_is_one_error():
    line = entry(next(looks(1)), 7)
    tree = {name: value for name, value in line.evidence["look"].items() if name != "alpha"}
    with pytest.raises(DataError, match=r"evidence.look.alpha cannot be read .* in entry 7 of the ledger of m: use"):
        alpha_spending.next_look([line.model_copy(update={"evidence": {"look": tree}})], PATIENTS, "a:b", PARAMS)


def test_one_new_patient_is_no_new_test_set_and_half_a_new_cohort_is():
    entries = [entry(look, i) for i, look in enumerate(looks(3), 1)]
    more = [*PATIENTS, ("Q", 3.0, 1)]
    assert alpha_spending.next_look(entries, more, "c0:champion", PARAMS).number == 4
    others = [(f"Q{i}", months, event) for i, (_, months, event) in enumerate(PATIENTS)]
    assert alpha_spending.next_look(entries, [*PATIENTS[:50], *others], "c0:champion", PARAMS).number == 1


def test_changed_settings_cannot_spend_more_than_alpha():
    entries = [entry(look, i) for i, look in enumerate(looks(9), 1)]
    spent = math.fsum(look.alpha for look in looks(9))
    generous = PARAMS.model_copy(update={"looks": 12})
    rest = [look.alpha for look in looks(20, generous, entries=entries)]
    assert spent + math.fsum(rest) <= 0.05 + 1e-12


def test_the_overlap_of_small_sets_is_exact_and_of_large_ones_close():
    one, other = [f"P{i}" for i in range(40)], [f"P{i}" for i in range(10, 50)]
    assert alpha_spending.overlap(alpha_spending.minhash(one), alpha_spending.minhash(other)) == 30 / 50
    big, half = [f"P{i}" for i in range(3000)], [f"P{i}" for i in range(1000, 4000)]
    # 64 hashes: standard error sqrt(0.5 * 0.5 / 64) = 0.06
    assert abs(alpha_spending.overlap(alpha_spending.minhash(big), alpha_spending.minhash(half)) - 0.5) < 0.19
