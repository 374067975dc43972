import dataclasses

import numpy as np
import pytest
import torch

from mcti.dataset.bags import Dataset, PatientBag, SlideTiles, TilePosition, check_training_part, digest
from mcti.errors import DataError
from mcti.model.categories import Category
from tests.training import factories


def test_bags_that_cannot_be_learned_from_are_named():
    people = factories.bags(6)
    with pytest.raises(DataError, match="no patient of subtype 'rare'"):
        check_training_part(people, ("IDC", "ILC", "rare"), "fold 1")
    with pytest.raises(DataError, match="with 0 events"):
        check_training_part([dataclasses.replace(bag, event=False) for bag in people], factories.CLASSES, "fold 1")
    broken = people[3].patches.clone()
    broken[0, 2] = float("nan")
    for wrong, words in (
        (torch.zeros(0, factories.WIDTH), "a bag without a patch"),
        (broken, "row 0 of the features is NaN"),
        (torch.zeros(3, factories.WIDTH + 1), "features of shape"),
    ):
        changed = [*people[:3], dataclasses.replace(people[3], patches=wrong), *people[4:]]
        with pytest.raises(DataError, match=f"{words}.*fold 1, patient P-003"):
            check_training_part(changed, factories.CLASSES, "fold 1")


def test_the_digest_depends_on_every_part_of_a_patient():
    people = factories.bags(3)
    plain = digest(people)
    assert plain == digest(factories.bags(3))
    changes = (
        {"patient_id": "Q"},
        {"time_months": 1.0},
        {"event": not people[1].event},
        {"subtype": 0},
        {"patches": people[1].patches + 1},
        {"genes": None},
        {"competing": False},
        {"entry_months": 2.0},
    )
    for change in changes:
        assert digest([people[0], dataclasses.replace(people[1], **change), people[2]]) != plain


def two_slide_bag() -> PatientBag:
    coordinates = np.array([[0, 0], [256, 512]], dtype=np.int64)
    slides = (SlideTiles("a", 2, coordinates), SlideTiles("b", 1))
    return PatientBag("P-1", torch.zeros(3, 2), torch.zeros(4), 1.0, True, 0, slides=slides)


def test_each_row_of_a_bag_has_the_position_of_its_tile():
    bag = two_slide_bag()
    assert bag.tile_position(1) == TilePosition("a", 256, 512, 2, 2)
    assert bag.tile_position(2) == TilePosition("b", None, None, 1, 1), "a feature file without coordinates"
    for row in (3, -1):
        with pytest.raises(IndexError, match="patient P-1 has no tile position"):
            bag.tile_position(row)


def test_coordinates_do_not_change_the_digest():
    bag = two_slide_bag()
    assert digest([bag]) == digest([dataclasses.replace(bag, slides=())])


def test_the_digest_is_a_constant_of_its_values():
    """MD5 computed once with hashlib over the same bytes: the identity of stored checkpoints must not change."""
    bag = PatientBag("P-1", torch.arange(6.0).reshape(3, 2), torch.tensor([0.5, -1.0]), 12.5, True, 1)
    assert digest([bag]) == "c28aa2229d88891048b43a93cfe13c5e"


def test_a_dataset_restricted_to_one_modality_has_no_trace_of_the_other():
    data = Dataset({"P-1": two_slide_bag()}, ("g1", "g2", "g3", "g4"), ("A",))
    genes, slides = data.restricted_to("genes").bags["P-1"], data.restricted_to("slides").bags["P-1"]
    assert (genes.patches, genes.slides) == (None, ())
    assert slides.genes is None
    assert len(slides.slides) == 2
    assert data.restricted_to("both") is data


def test_a_patient_outside_the_cohort_is_named():
    data = factories.dataset(3)
    assert [bag.patient_id for bag in data.select(["P-002", "P-000"], "fold 1")] == ["P-002", "P-000"]
    with pytest.raises(DataError, match="patient 'P-9' is not in the cohort in fold 1"):
        data.select(["P-000", "P-9"], "fold 1")


def test_the_covariates_of_another_cohort_count_only_in_the_form_that_the_model_reads():
    stage = Category(name="stage", levels=("I", "II"), ordered=True)
    bag = dataclasses.replace(two_slide_bag(), covariates={"age": 60.0, "stage": 2.0}, categories={"grade": "low"})
    read = bag.with_inputs(("age", "grade", stage))
    assert (read.covariates, read.categories) == ({"age": 60.0, "grade": None}, {"stage": None})
    assert read.clinical == {"age": 60.0, "grade": None, "stage": None}


def test_the_digest_depends_on_the_levels_that_the_model_reads():
    bag = dataclasses.replace(two_slide_bag(), categories={"stage": "I", "grade": "low"})
    other = dataclasses.replace(bag, categories={"stage": "I", "grade": "high"})
    assert digest([bag], ("stage",)) == digest([other], ("stage",))
    assert digest([bag], ("stage", "grade")) != digest([other], ("stage", "grade"))
