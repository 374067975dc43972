"""The risk table of the dossier, from the file of the installed package."""

from importlib import resources

from mcti.registry import dossier_risks
from tests.registry.test_dossier import source


def test_each_threat_is_a_hazard_with_controls_and_the_tests_that_verify_them():
    section = dossier_risks.risks(source())
    hazards, controls = section.tables
    names = [row[0] for row in hazards.rows]
    assert {"A malicious slide", "A stolen S3 key", "A manipulated registry"} <= set(names)
    assert len(names) == len(set(names)) == len(dossier_risks.known()) >= 7
    assert {row[0] for row in controls.rows} == set(names)
    assert all(row[1] and row[2].startswith("tests/") for row in controls.rows)
    slide = next(row for row in hazards.rows if row[0] == "A malicious slide")
    assert slide[1].startswith("execute code in a decoder")
    assert slide[2].startswith("the decoders (OpenSlide")


def test_what_a_person_must_decide_is_a_gap():
    gaps = " ".join(dossier_risks.risks(source()).gaps)
    for word in ("severity and probability", "acceptance", "clinical hazards", "post-production"):
        assert word in gaps


def test_the_file_is_part_of_the_package():
    assert resources.files("mcti.registry").joinpath(dossier_risks.FILE).is_file()
