"""The model card: its Markdown, its counts and its gaps."""

from mcti.registry import card

CARD = {
    "name": "lung-os", "intended_use": "research", "not_intended": "treatment", "contact": card.GAP, "notice": "demo",
    "new_patients": "the mean of all fold models",
    "evaluation": {
        "metrics": {"c_index": {"value": 0.6123, "low": 0.55, "high": 0.67}, "ibs": {"value": None}},
        "data_contract": "passed", "patients": 40, "events": 12, "excluded": {"split": {"no slide": 3}},
    },
    "lineage": {"digest": "d", "commit": "c", "image": "i", "folds": "f"},
    "licences": {"code": "Apache-2.0", "encoder": card.GAP, "data": "CC-BY-4.0"},
}  # fmt: skip


def test_the_markdown_has_labels_values_and_counts():
    text = card.markdown(CARD)
    assert "| Harrell's C (1 is best, 0.5 is chance) | 0.612 [0.550, 0.670] |" in text
    assert "| integrated Brier score (lower is better) | not defined |" in text
    assert "**Evaluated:** 40 patients, 12 events; excluded: 3 at split (no slide)" in text
    assert text.startswith("# lung-os\n\n**Notice:** demo")


def test_the_gaps_are_listed_by_their_path():
    assert card.gaps(CARD) == ["contact", "licences.encoder"]


def test_without_excluded_patients_the_counts_state_none():
    evaluation = {"patients": 40, "events": 12}
    assert card.evaluated({"evaluation": evaluation}) == "40 patients, 12 events; excluded: none"
    competing = card.evaluated({"evaluation": evaluation | {"competing_events": 7}})
    assert competing.startswith(
        "40 patients, 12 events, 7 competing events (S(t) is cause-specific: 1 - S(t) is larger"
    )
    late = card.evaluated({"evaluation": evaluation | {"late_entries": 9}})
    assert late.startswith("40 patients, 12 events, 9 under observation from a time after the origin (they count from")


def test_the_card_states_the_incidence_that_a_model_of_competing_events_predicts():
    spec = {"horizons_months": [12.0, 60.0], "fitted": {"edges_months": [0.0, 1.0]}}
    assert list(card.outputs(spec)) == ["risk", "survival_months"]
    spec["fitted"]["competing_hazard"] = {"months": [], "cumulative": []}
    outputs = card.outputs(spec)
    assert outputs["cumulative_incidence_months"] == [12.0, 60.0]
    evaluation = {"patients": 40, "events": 12, "competing_events": 7}
    assert "the probability of the event, which is the output F(t))" in card.evaluated(
        {"evaluation": evaluation, "outputs": outputs}
    )


def test_a_categorical_covariate_is_listed_with_its_levels():
    stage = {"name": "stage", "levels": ["I", "II"], "ordered": True}
    assert card.covariates({"covariates": ["age", "stage"], "categories": [stage]}) == ["age", "stage (I < II)"]
    assert card.covariates({"covariates": ["age"]}) == ["age"]
