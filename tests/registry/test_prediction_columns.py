"""Names, order and types of the columns of a prediction."""

from mcti.registry import prediction_columns


def test_the_incidence_follows_the_survival_for_a_model_with_competing_events():
    types = prediction_columns.column_types((12, 36.5), competing=True)
    names = ["F_12", "F_12_low", "F_12_high", "F_36.5", "F_36.5_low", "F_36.5_high"]
    assert list(types)[8:16] == ["S_36.5_high", *names, "ood_score"]
    assert {types[name] for name in names} == {"number"}
    without = prediction_columns.column_types((12, 36.5))
    assert [name for name in types if name not in names] == list(without)


def test_each_horizon_has_three_columns_in_the_place_of_s():
    types = prediction_columns.column_types((12, 36.5))
    assert list(types)[:10] == [
        "patient_id", "risk", "risk_group", "S_12", "S_12_low", "S_12_high", "S_36.5", "S_36.5_low", "S_36.5_high",
        "ood_score",
    ]  # fmt: skip
    assert {types[name] for name in prediction_columns.survival_columns((12, 36.5))} == {"number"}
    assert types["out_of_distribution"] == "flag"
    assert types["unknown_genes"] == "count"
