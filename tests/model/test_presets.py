import dataclasses
import json
import typing
from pathlib import Path

import pytest

from mcti.errors import DataError, UsageError
from mcti.model.presets import DATA_FIELDS, PRESETS, ModelConfig, preset
from mcti.params import TrainParams
from tests.model.cases import config


@pytest.mark.parametrize("name", sorted(PRESETS))
def test_a_configuration_survives_the_way_through_json(name):
    built = config(name)
    assert ModelConfig.from_json(built.to_json()) == built


def test_the_paper_has_the_papers_sizes():
    """Values of the column "paper preset" in docs/model.md."""
    built = config("paper")
    assert (built.width, built.critical, built.tokens, built.task_tokens, built.length) == (1024, 256, 8, 240, 512)
    assert (built.encoder_depths, built.bottleneck_depth, built.decoder_depths) == ((2, 4), 2, (2, 4))
    assert (built.solver, built.gene_entropy, built.gene_marginal, built.heads) == ("assignment", 0.1, 0.5, 1)


def test_an_unknown_preset_is_met_with_the_nearest_name():
    with pytest.raises(UsageError, match="did you mean compact"):
        config("compct")


def test_an_unknown_field_is_met_with_the_nearest_name():
    with pytest.raises(UsageError, match="did you mean critical"):
        config(critcal=4)


@pytest.mark.parametrize("wrong", [{"width": 2.5}, {"encoder_depths": 2}, {"solver": 1}, {"linear_skip": 1}])
def test_a_field_of_another_type_is_refused(wrong):
    with pytest.raises(UsageError, match=next(iter(wrong))):
        config(**wrong)


@pytest.mark.parametrize(
    "wrong",
    [
        {"width": 0},
        {"heads": 3},
        {"decoder_depths": (1, 1)},
        {"encoder_depths": (), "decoder_depths": ()},
        {"solver": "sinkhorm"},
        {"dropout": 1.0},
        {"critical_share": 0.0},
        {"gene_entropy": 0.0},
        {"inverse_temperature": -1.0},
        {"plan_gradient": True, "solver": "assignment"},
    ],
)
def test_a_shape_that_cannot_be_built_is_refused(wrong):
    with pytest.raises(UsageError):
        config(**wrong)


@pytest.mark.parametrize("wrong", [{"genes": ("A", "A")}, {"classes": ()}, {"genes": ()}])
def test_names_that_are_empty_or_double_are_refused(wrong):
    with pytest.raises(UsageError, match=next(iter(wrong))):
        config(**wrong)


def test_json_with_an_unknown_key_is_refused_with_the_nearest_name():
    tree = json.loads(config().to_json()) | {"widht": 3}
    with pytest.raises(DataError, match="did you mean width"):
        ModelConfig.from_json(json.dumps(tree))


@pytest.mark.parametrize("text", ["[]", "{", "null"])
def test_text_that_is_no_json_object_is_refused(text):
    with pytest.raises(DataError):
        ModelConfig.from_json(text)


def test_json_without_a_key_or_with_a_wrong_value_is_refused():
    tree = json.loads(config().to_json())
    with pytest.raises(DataError, match="width"):
        ModelConfig.from_json(json.dumps({key: value for key, value in tree.items() if key != "width"}))
    with pytest.raises(DataError, match="width"):
        ModelConfig.from_json(json.dumps(tree | {"width": "wide"}))
    with pytest.raises(DataError, match="solver"):
        ModelConfig.from_json(json.dumps(tree | {"solver": "magic"}))


def test_overrides_may_be_lists_as_yaml_gives_them():
    built = preset("tiny", features=3, genes=["A"], classes=["x"], bins=2, encoder_depths=[1, 2], decoder_depths=[2, 1])
    assert built.encoder_depths == (1, 2)
    assert dataclasses.replace(built, bins=3).bins == 3


def test_the_page_shows_every_field_of_every_preset():
    """docs/model.md, the table of presets: one row per field, as in the code."""
    page = (Path(__file__).parents[2] / "docs" / "model.md").read_text(encoding="utf-8")
    built = [config(name) for name in ("paper", "compact", "tiny")]
    for field in dataclasses.fields(ModelConfig):
        if field.name not in DATA_FIELDS:
            values = [getattr(one, field.name) for one in built]
            shown = [", ".join(map(str, value)) if isinstance(value, tuple) else str(value) for value in values]
            assert f"| {field.name} | {' | '.join(shown)} |" in page


def test_every_preset_can_be_named_in_the_settings():
    assert set(typing.get_args(TrainParams.model_fields["preset"].annotation)) == set(PRESETS)
