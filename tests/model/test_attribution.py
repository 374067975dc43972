"""Attribution of a risk: completeness, planted inputs, and the unchanged network."""

import dataclasses

import pytest
import torch

from mcti.model import attribution
from mcti.model.attribution import attribute, attribute_members
from mcti.model.guidance import Coupler, GuidedAttention
from mcti.model.member_predictions import StackedModels
from mcti.training import folds, loop
from tests.training import factories

ARCHITECTURES = {
    "plain": {},
    "absent": {"missing": True},
    "low rank": {"solver": "low_rank"},
    "sinkhorn": {"solver": "sinkhorn"},
    "rates": {"head": "continuous"},
    "dense": {"gene_branch": "dense", "gene_width": 16},
    "no skip": {"linear_skip": False},
    "clinical": {"covariates": ["age"]},
}
"""Configurations of the network; all but the first include the Cox model that `train` fits by default."""


def trained(patients=16, **changes):
    """A model and its patients with four patches or more; the age of one is missing."""
    data = factories.dataset(patients)
    ages = (None if number == 3 else 50.0 + number for number in range(patients))
    bags = [
        dataclasses.replace(bag, covariates={"age": age}) for bag, age in zip(data.bags.values(), ages, strict=True)
    ]
    settings = factories.settings(**{"epochs": 6, "learning_rate": 3e-3, **changes})
    model = loop.train(folds.prepare(data, bags, settings, ("fold", 0), "fold 0")).model
    return model, [bag for bag in bags if len(bag.patches) >= 4]


@pytest.fixture(scope="module", params=ARCHITECTURES)
def world(request):
    share = 0.0 if request.param == "plain" else 0.5
    return trained(architecture=ARCHITECTURES[request.param], cox_weight=share)


def test_the_parts_add_up_to_the_risk_of_predict_less_the_baseline(world):
    """Completeness (Sundararajan et al. 2017, proposition 1) for inputs and tokens; the rule has an error."""
    model, bags = world
    for bag in bags[:3]:
        parts = attribute(model, bag.patches, bag.genes, bag.covariates, steps=128)
        way = parts.risk - parts.baseline
        assert parts.risk == pytest.approx(
            model.predict(bag.patches, bag.genes, (12,), bag.covariates)["risk"], abs=2e-5
        )
        assert sum(parts.modalities.values()) + parts.gap == pytest.approx(way, abs=1e-12)
        assert abs(parts.gap) < 0.02 * abs(way) + 1e-4
        assert sum(parts.tokens.values()) == pytest.approx(way, abs=0.02 * abs(way) + 1e-4)


def test_shapes_and_shares(world):
    model, bags = world
    bag = bags[0]
    parts = attribute(model, bag.patches, bag.genes, bag.covariates, steps=8)
    kept, tokens = len(parts.critical), model.config.tokens
    assert parts.tiles.shape == (len(bag.patches),)
    assert parts.genes.shape == (len(factories.GENES),)
    assert parts.plan.shape == (kept, tokens)
    torch.testing.assert_close(parts.shares.sum(1), torch.ones(len(bag.patches)).double(), rtol=0, atol=1e-9)
    torch.testing.assert_close(parts.groups.sum(1), torch.ones(tokens).double(), rtol=0, atol=1e-5)


def test_the_network_is_unchanged(world):
    model, bags = world
    before = {name: value.clone() for name, value in model.net.state_dict().items()}
    attribute(model, bags[0].patches, bags[0].genes, bags[0].covariates, steps=8)
    assert all(torch.equal(value, before[name]) for name, value in model.net.state_dict().items())
    assert all(p.requires_grad for p in model.net.parameters())
    layers = [module for module in model.net.modules() if isinstance(module, GuidedAttention)]
    assert all(type(layer.coupler) is Coupler for layer in layers)


def test_the_gap_falls_as_the_steps_grow(monkeypatch):
    monkeypatch.setattr(attribution, "GAP_SHARE", 0.0)  # all points, whatever the gap is
    model, bags = trained()
    gaps = [sum(abs(attribute(model, b.patches, b.genes, steps=n).gap) for b in bags[:2]) for n in (8, 256)]
    assert gaps[1] < gaps[0]
    assert gaps[1] < 1e-3


def test_points_are_added_until_the_parts_add_up(monkeypatch):
    """The gap that ends the search is that of the sum of the parts; the limit of the points holds."""
    model, bags = trained()
    used = []
    counted = attribution._Path.integrate
    monkeypatch.setattr(
        attribution._Path, "integrate", lambda path, points: used.append(points) or counted(path, points)
    )
    for share, expected in ((1.0, [16]), (0.0, [16, 32, 40])):
        monkeypatch.setattr(attribution, "GAP_SHARE", share)
        used.clear()
        attribute(model, bags[0].patches, bags[0].genes, steps=40)
        assert used == expected


def test_the_parts_are_those_of_a_fine_midpoint_rule(world):
    """An independent rule: differences of the risk along the path are not used, only gradients at 500 midpoints."""
    model, bags = world
    bag = max(bags, key=lambda bag: len(bag.patches))
    actual = attribute(model, bag.patches, bag.genes, bag.covariates)
    expected = midpoints(model, bag, 500)
    way = abs(actual.risk - actual.baseline)
    for part in ("genes", "tiles", "covariates"):
        difference = (getattr(actual, part) - expected[part]).abs()
        assert float(difference.max() if len(difference) else 0.0) < 0.005 * way


def midpoints(model, bag, points):
    """Parts of the inputs by the midpoint rule."""
    import numpy as np

    rule = np.polynomial.legendre.leggauss
    even = (2 * np.arange(points) + 1) / points - 1
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(attribution, "FIRST_POINTS", points)
        patch.setattr(np.polynomial.legendre, "leggauss", lambda count: (even, np.full(count, 2 / count)))
        parts = vars(attribute(model, bag.patches, bag.genes, bag.covariates, steps=points))
    assert np.polynomial.legendre.leggauss is rule
    return parts


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_members_in_one_pass_have_the_parts_of_each_alone(name):
    models = {}
    for seed in range(2):
        model, bags = trained(architecture=ARCHITECTURES[name], cox_weight=0.5, seed=seed, epochs=2)
        models[f"fold_{seed}"] = model
    bag = bags[0]
    together = attribute_members(StackedModels.of(models), bag.patches, bag.genes, bag.covariates, steps=16)
    for member, model in models.items():
        alone, part = attribute(model, bag.patches, bag.genes, bag.covariates, steps=16), together[member]
        assert part.risk == pytest.approx(alone.risk, abs=1e-6)
        assert part.baseline == pytest.approx(alone.baseline, abs=1e-6)
        assert part.tokens == pytest.approx(alone.tokens, abs=1e-6)
        for field in ("tiles", "genes", "covariates", "critical", "shares", "plan", "groups"):
            torch.testing.assert_close(getattr(part, field), getattr(alone, field), rtol=1e-5, atol=1e-6)


def test_a_gene_and_a_patch_at_the_mean_have_no_part_and_what_is_absent_has_none():
    model, bags = trained(architecture={"missing": True})
    bag = bags[0]
    genes = bag.genes.clone()
    genes[2] = float("nan")  # not measured: the training mean
    assert attribute(model, bag.patches, genes, steps=8).genes[2] == 0
    without = attribute(model, None, bag.genes, steps=64)
    assert without.modalities["slides"] == 0
    assert len(without.tiles) == len(without.critical) == 0
    alone = attribute(model, bag.patches, None, steps=64)
    assert alone.modalities["genes"] == 0
    assert alone.risk == pytest.approx(model.predict(bag.patches, None, (12,))["risk"], abs=2e-5)


def test_the_gene_that_shortens_the_life_has_the_largest_part():
    """The first gene of the patients determines the time (tests/training/factories.py), the others are noise."""
    model, bags = trained(60, learning_rate=1e-2, lambda_subtype=0.0, lambda_instance=0.0)
    total = sum(attribute(model, bag.patches, bag.genes, steps=16).genes.abs() for bag in bags[::3])
    assert int(total.argmax()) == 0
