"""Each expectation fails for its mutation, and holds for a similar change within its limit."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mcti.contracts import expectations, measurements, suites
from mcti.params import ValidateParams
from tests.contracts import factories
from tests.contracts.factories import (
    Mutation,
    copy_cell,
    gene_cells,
    genes,
    put,
    shift_site,
    swap,
    swap_within,
    whole,
)

PARAMS = ValidateParams(min_events_per_site=3)
COHORT_RULES = [
    rule
    for part in (
        expectations.cohort_rules,
        expectations.balance_rules,
        expectations.expression_rules,
        expectations.slide_rules,
    )
    for rule in part(PARAMS)
]
FEATURE_RULES = expectations.feature_rules(PARAMS)
RULES = [*COHORT_RULES, *FEATURE_RULES]


def first_events(count):
    """Exactly `count` events, the others censored, times as they are."""
    return whole("patients", event=lambda t: (np.arange(len(t)) < count).astype("int8"))


def censored_early(share):
    def times(table):
        rows = np.flatnonzero(table["event"] == 0)[: int(share * len(table))]
        months = table["time_months"].to_numpy().copy()
        months[rows] = 1 + np.arange(len(rows)) / 1000
        return months

    return whole("patients", time_months=times)


def staged(order, last, count=20):
    """A covariate stage of this order, I but for `count` patients with the level `last`."""

    def change(data, rng):
        stages = ["I"] * (len(data.patients) - count) + [last] * count
        return replace(data, patients=data.patients.assign(stage=stages), ordered_levels={"stage": order})

    return change


def flipped(data, rng):
    """The censoring flag of MCAT's layout used as the event flag."""
    return replace(data, patients=data.patients.assign(event=1 - data.patients["event"]))


def flags_exchanged(pairs):
    """The same number of events and censorings exchanged: a few typing errors, not an inverted table."""

    def change(data, rng):
        event = data.patients["event"].to_numpy().copy()
        events = rng.choice(np.flatnonzero(event == 1), pairs, replace=False)
        censored = rng.choice(np.flatnonzero(event == 0), pairs, replace=False)
        event[events], event[censored] = 0, 1
        return replace(data, patients=data.patients.assign(event=event))

    return change


def no_patches(slides):
    """Some slides without a patch: their empty features are equal."""

    def change(data, rng):
        bags = data.bags.copy()
        bags.loc[rng.choice(len(bags), slides, replace=False), ["tiles", "contents"]] = [0, "empty"]
        return replace(data, bags=bags)

    return change


def duplicate_gene(noise):
    def edit(frame, rng, _):
        a, b = rng.choice(factories.GENES, 2, replace=False)
        frame.iloc[:, b] = frame.iloc[:, a] + noise
        return frame

    return genes(edit)


def renamed(name):
    return genes(lambda frame, rng, _: frame.rename(columns={"G5": name}))


def scaled(scale, low):
    def change(data, rng):
        values = factories.genes_of(data)
        return replace(factories.with_genes(data, values - values.min().min() + low), scale=scale)

    return change


def extreme(value, scale):
    """One cell of one gene."""

    def edit(frame, rng, _):
        frame.iloc[int(rng.integers(len(frame))), int(rng.integers(factories.GENES))] = value
        return frame

    return lambda data, rng: replace(genes(edit)(data, rng), scale=scale)


def many_slides(count):
    def change(data, rng):
        chosen = data.patients["patient_id"].sample(1, random_state=int(rng.integers(1000))).iloc[0]
        frame = data.slides
        more = frame[frame["patient_id"] == chosen].sample(count - 1, replace=True)
        number = np.arange(count - 1)
        more = more.assign(  # new names and new contents: only the number is wrong
            slide_id=[f"X-{i}" for i in number], md5=[f"{10**6 + i:032x}" for i in number]
        )
        return replace(data, slides=pd.concat([frame, more], ignore_index=True))

    return change


def rows_left(count):
    return lambda data, rng: replace(data, patients=data.patients.head(count))


def rare_subtype(events):
    def subtype(table):
        chosen = np.flatnonzero(table["event"] == 1)[:events]
        others = np.flatnonzero(table["event"] == 0)[:5]
        values = table["subtype"].to_numpy().copy()
        values[[*chosen, *others]] = "rare"
        return values

    return whole("patients", subtype=subtype)


def rare_site(events):
    def site(table):
        chosen = np.flatnonzero(table["event"] == 1)[:events]
        values = table["site"].to_numpy().copy()
        values[[*chosen, *np.flatnonzero(table["event"] == 0)[:3]]] = "S9"
        return values

    return whole("patients", site=site)


def tied(share):
    def times(table):
        months = table["time_months"].to_numpy().copy()
        months[np.flatnonzero(table["event"] == 0)[: int(share * len(table))]] = 60.0
        return months

    return whole("patients", time_months=times)


def failed_slides(share):
    return put("slide_statuses", "status", "NO_TISSUE", rows=int(share * factories.PATIENTS))


def without_followup(count):
    return lambda data, rng: replace(data, no_followup=count)


def shared(what):
    return lambda data, rng: replace(data, shared_pairs=[("P-0003", "P-0007", what)] if what else [])


MUTATIONS = [
    Mutation("patient_id_unique", copy_cell("patients", "patient_id"), put("patients", "patient_id", "P-9999")),
    *[
        Mutation("patient_id_well_formed", put("patients", "patient_id", bad), put("patients", "patient_id", "Ä-1.b+c"))
        for bad in ("../../x", "<script>", "=cmd()", "a/b", "x" * 129, " P-1", "P-1 ", "a\nb", "-1", "")
    ],
    Mutation("patient_id_one_spelling", copy_cell("patients", "patient_id", str.lower),
             put("patients", "patient_id", "p")),
    Mutation("event_is_flag", put("patients", "event", 2), put("patients", "event", 1)),
    Mutation("event_is_flag", put("patients", "event", -1), put("patients", "event", 0)),
    Mutation("event_filled", put("patients", "event", float("nan")), put("patients", "event", 0)),
    Mutation("time_filled", put("patients", "time_months", float("nan")), put("patients", "time_months", 0.5)),
    Mutation("site_filled", put("patients", "site", None), put("patients", "site", "another site")),
    Mutation("subtype_filled", put("patients", "subtype", None), put("patients", "subtype", "rare")),
    Mutation("time_positive", put("patients", "time_months", 0.0), put("patients", "time_months", 0.001)),
    Mutation("time_positive", put("patients", "time_months", -3.0), put("patients", "time_months", 3.0)),
    Mutation("time_plausible", put("patients", "time_months", 1200.1), put("patients", "time_months", 1200.0)),
    Mutation("time_plausible", put("patients", "time_months", 20140506.0), put("patients", "time_months", 600.0)),
    Mutation("age_plausible", put("patients", "age", 120.5), put("patients", "age", 120.0)),
    Mutation("age_plausible", put("patients", "age", -1.0), put("patients", "age", 0.0)),
    Mutation("age_plausible", put("patients", "age", 18_250.0), put("patients", "age", float("nan"))),  # days
    Mutation("sex_is_flag", put("patients", "is_female", 2), put("patients", "is_female", pd.NA)),
    Mutation("patients_enough", rows_left(29), rows_left(30)),
    Mutation("events_enough", first_events(19), first_events(20)),
    Mutation("event_rate_plausible", first_events(3), first_events(4)),
    Mutation("event_rate_plausible", first_events(0), first_events(4)),
    Mutation("event_rate_plausible", first_events(157), first_events(156)),
    Mutation("event_rate_plausible", first_events(160), first_events(156)),
    Mutation("event_not_inverted", flipped, flags_exchanged(12)),
    Mutation("events_not_later", flipped, flags_exchanged(4)),
    Mutation("followup_plausible", whole("patients", time_months=lambda t: t["time_months"] * 30.4375),
             whole("patients", time_months=lambda t: t["time_months"] * 2)),
    Mutation("followup_plausible", whole("patients", time_months=lambda t: t["time_months"] / 144),
             whole("patients", time_months=lambda t: t["time_months"] / 12)),
    Mutation("subtypes_two", whole("patients", subtype="one"),
             whole("patients", subtype=lambda t: np.where(np.arange(len(t)) == 7, "two", "one"))),
    Mutation("events_per_fold", first_events(24), first_events(25)),
    Mutation("events_per_subtype", rare_subtype(2), rare_subtype(3)),
    Mutation("events_per_site", rare_site(2), rare_site(3)),
    Mutation("times_not_tied", tied(0.15), tied(0.09)),
    Mutation("followup_complete", censored_early(0.25), censored_early(0.15)),
    Mutation("followup_known", without_followup(20), without_followup(15)),
    Mutation("columns_filled", put("patients", "age", float("nan"), rows=33),
             put("patients", "age", float("nan"), rows=32)),
    Mutation("levels_of_ordered", staged(["I", "II"], "III"), staged(["I", "II", "III"], "III")),
    Mutation("levels_frequent", staged(["I", "II"], "II", 9), staged(["I", "II"], "II", 10)),
    Mutation("genes_finite", gene_cells(np.inf, 0.01), gene_cells(1e30, 0.01)),
    Mutation("genes_finite", gene_cells(-np.inf, 0.01), gene_cells(-1e30, 0.01)),
    Mutation("genes_have_values", gene_cells(np.nan, 1.0), gene_cells(np.nan, 0.9)),
    Mutation("genes_filled", gene_cells(np.nan, 0.21), gene_cells(np.nan, 0.2)),
    Mutation("genes_vary", gene_cells(7.25, 1.0), gene_cells(7.25, 0.99)),
    Mutation("genes_vary", gene_cells(0.1, 1.0), gene_cells(0.1, 0.99)),
    Mutation("genes_differ", duplicate_gene(0.0), duplicate_gene(1e-3)),
    Mutation("gene_names_differ", renamed("xist"), renamed("XIST2")),
    *[
        Mutation("texts_plain", put("patients", column, bad), put("patients", column, fine))
        for column, bad, fine in (
            ("site", "=cmd()", "a=b"),
            ("subtype", "<script>alert(1)</script>", "< 2 cm"),
            ("site", "../../x", "NY / NJ"),
            ("cohort", "a\nb", "a.b, c"),
        )
    ],
    Mutation("texts_plain", whole("patients", **{"<b>": 1.0}), whole("patients", **{"ki67 <14%": 1.0})),
    Mutation("gene_names_plain", renamed("<script>"), renamed("HLA-A")),
    Mutation("gene_names_plain", renamed("=1+1"), renamed("MARCH1")),
    Mutation("gene_names_not_dates", renamed("1-Mar"), renamed("MARCH1")),
    Mutation("gene_names_not_dates", renamed("Sep-02"), renamed("SEPTIN2")),
    Mutation("gene_names_not_dates", renamed("2001-03-01"), renamed("2001-A")),
    Mutation("expression_of_patients", rows_left(159), genes(lambda frame, rng, _: frame.iloc[1:])),
    Mutation("expression_scale", scaled("tpm", -0.01), scaled("tpm", 0.0)),
    Mutation("expression_scale", scaled("counts", -1.0), scaled("log2", -1.0)),
    Mutation("z_scores_plausible", extreme(20.5, "z-score"), extreme(19.5, "z-score")),
    Mutation("z_scores_plausible", extreme(-17036.0, "z-score"), extreme(-17036.0, "log2")),
    Mutation("site_variance", shift_site(("S1",), 2.0), shift_site(("S1",), 0.2)),
    Mutation("site_predictability", shift_site(("S0", "S1", "S2"), 3.0), shift_site(("S1",), 0.1)),
    Mutation("sex_agrees_with_genes", swap("XIST", "is_female", 1), swap_within("XIST", "is_female")),
    Mutation("sex_agrees_with_genes", whole("patients", is_female=lambda t: 1 - t["is_female"]),
             put("patients", "is_female", pd.NA, rows=60)),
    Mutation("receptor_agrees_with_gene", swap("ESR1", "subtype", 16), swap("ESR1", "subtype", 8)),
    Mutation("patients_differ", shared("expression profile"), shared("")),
    Mutation("slide_id_well_formed", put("slides", "slide_id", "a/../b"), put("slides", "slide_id", "CMU 1-Small.x")),
    Mutation("slide_of_one_patient", copy_cell("slides", "slide_id"), put("slides", "slide_id", "other")),
    Mutation("slide_contents_differ", copy_cell("slides", "md5"), put("slides", "md5", None, rows=9)),
    Mutation("slides_per_patient", many_slides(21), many_slides(20)),
    Mutation("features_one_width", put("bags", "width", 45), whole("bags", width=45)),
    Mutation("features_one_encoder", put("bags", "encoder", "lite0"), whole("bags", encoder="lite0")),
    Mutation("features_one_resolution", put("bags", "resolution", 0.25), put("bags", "resolution", float("nan"))),
    Mutation("features_finite", put("bags", "nan_rows", 1), put("bags", "constant_rows", 1)),
    Mutation("features_differ", put("bags", "constant_rows", 1), put("bags", "nan_rows", 1)),
    Mutation("features_of_one_slide", copy_cell("bags", "contents"), no_patches(2)),
    Mutation("coordinates_inside", put("bags", "outside", 1), put("bags", "tiles", 100_000)),
    Mutation("slides_failed_few", failed_slides(0.11), failed_slides(0.1)),
    Mutation("tiles_per_patient", put("bags", "tiles", 0), put("bags", "tiles", 1)),
]  # fmt: skip


def holds(data, expectation):
    """The result of one expectation, of the cohort or of its features."""
    (rule,) = [rule for rule in RULES if rule.id == expectation]
    measured = features_of(data) if rule in FEATURE_RULES else measurements.measure(data)
    (result,) = suites.run(measured, [rule])
    return result


def features_of(data: factories.CheckedData) -> dict[str, pd.DataFrame]:
    return measurements.measure_features(data.patients, data.bags, data.slide_statuses)


@pytest.mark.parametrize("number", range(len(MUTATIONS)), ids=lambda i: f"{i}-{MUTATIONS[i].expectation}")
def test_an_expectation_fails_for_its_mutation_and_holds_within_its_limit(number):
    mutation = MUTATIONS[number]
    base = factories.good(number)
    broken = holds(mutation.broken(base, np.random.default_rng(number)), mutation.expectation)
    near = holds(mutation.near(base, np.random.default_rng(number)), mutation.expectation)
    assert not broken.passed
    assert broken.failing >= 1
    assert 1 <= len(broken.first) <= 10
    assert near.passed, near


@pytest.mark.slow
@settings(max_examples=20, deadline=None, derandomize=True)
@given(st.sampled_from(MUTATIONS), st.integers(100, 10**6))
def test_a_mutation_of_any_cohort_fails_its_expectation(mutation, seed):
    base = factories.good(seed)
    assert not holds(mutation.broken(base, np.random.default_rng(seed)), mutation.expectation).passed
    assert holds(mutation.near(base, np.random.default_rng(seed)), mutation.expectation).passed


def test_every_expectation_has_a_mutation_and_there_are_sixty():
    assert {mutation.expectation for mutation in MUTATIONS} == {rule.id for rule in RULES}
    assert len(MUTATIONS) >= 60
    assert len({rule.id for rule in RULES}) == len(RULES)


def with_competing_events(data):
    """The later half of the censored patients had a competing event."""
    late = (data.patients["event"] == 0) & (data.patients["time_months"] > data.patients["time_months"].median())
    return replace(data, patients=data.patients.assign(competing=late.astype("int8")))


def test_the_rules_on_competing_events_fail_for_their_mutations_and_hold_else():
    rules = expectations.competing_rules()
    data = with_competing_events(factories.good())
    wrong = {
        "competing_is_flag": data.patients.assign(competing=2 * data.patients["competing"]),
        "competing_without_event": data.patients.assign(event=np.int8(1)),
    }
    assert set(wrong) == {rule.id for rule in rules}
    assert all(result.passed for result in suites.run(measurements.measure(data), rules))
    for name, patients in wrong.items():
        results = suites.run(measurements.measure(replace(data, patients=patients)), rules)
        assert [result.id for result in results if not result.passed] == [name]


def test_a_competing_event_ends_the_observation_but_not_the_follow_up():
    """As an event it is censored in the reverse Kaplan-Meier curve; a censored patient shortens the follow-up."""
    data = factories.good()
    plain, competing = (measurements.measure(one)["cohort"].iloc[0] for one in (data, with_competing_events(data)))
    assert "competing_events" not in plain
    assert competing["competing_events"] > 10
    assert not competing["median_followup"] < plain["median_followup"]
    assert competing["early_censored_share"] <= plain["early_censored_share"]


@pytest.mark.slow
def test_no_expectation_fails_in_resamples_of_a_valid_cohort():
    """Four resamples; benchmarks/contracts_false_alarms.py runs two hundred."""
    base = factories.good(1, patients=400)
    for seed in range(4):
        sample = factories.resample(base, seed)
        results = suites.run(measurements.measure(sample), COHORT_RULES)
        results += suites.run(features_of(sample), FEATURE_RULES)
        assert [result.id for result in results if not result.passed] == []


def test_the_first_ten_failing_rows_are_listed_in_order():
    broken = put("patients", "age", 150.0, rows=25)(factories.good(), np.random.default_rng(0))
    result = holds(broken, "age_plausible")
    keys = [row.key for row in result.first]
    assert (result.failing, len(keys), keys == sorted(keys)) == (25, 10, True)
    assert {row.value for row in result.first} == {"150"}


def test_an_orientation_that_the_user_confirmed_is_accepted():
    data = flipped(factories.good(), None)
    assert "is probably inverted" in holds(data, "event_not_inverted").first[0].value
    assert holds(replace(data, event_confirmed=True), "event_not_inverted").passed
