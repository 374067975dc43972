"""Names of files matched to slides and patients."""

import pytest

from mcti.errors import DataError
from mcti.slides.feature_sets import names
from mcti.slides.manifest import ListedSlide

UUID = "0A1B2C3D-0000-4000-8000-123456789ABC"
SLIDE = "TCGA-05-4249-01Z-00-DX1"


def listed(*rows):
    return {slide: ListedSlide(slide, patient, mpp) for slide, patient, mpp in rows}


@pytest.mark.parametrize(
    ("name", "slide"),
    [
        ("A.1", "A.1"),
        ("A.1.svs", "A.1"),
        ("A.1.SVS", "A.1"),
        (f"{SLIDE}.{UUID}", f"{SLIDE}.{UUID}"),
        (f"{SLIDE}.{UUID}.svs", f"{SLIDE}.{UUID}"),
        (SLIDE, f"{SLIDE}.{UUID}"),  # without its UUID
    ],
)
def test_names_with_and_without_suffix_or_uuid(name, slide):
    table = listed((slide, "P1", 0.25), ("B", "P2", None))
    matches = names.match([name], table)
    assert matches.by_name[name] == names.Identity(slide, "P1", mpp=0.25)
    assert [s.slide_id for s in matches.without_features] == ["B"]


def test_a_uuid_that_the_table_does_not_have():
    matches = names.match([f"{SLIDE}.{UUID}"], listed((SLIDE, "TCGA-05-4249", None)))
    assert matches.by_name[f"{SLIDE}.{UUID}"].name == SLIDE


def test_another_uuid_is_another_slide():
    table = listed((f"{SLIDE}.{UUID}", "P1", None))
    assert names.match([f"{SLIDE}.{UUID[:-1]}0"], table).unlisted == (f"{SLIDE}.{UUID[:-1]}0",)


def test_entries_of_patients_stand_for_all_their_slides():
    matches = names.match(["P1", "x"], listed(("A", "P1", None), ("B", "P1", None), ("C", "P2", None)))
    assert matches.by_name["P1"] == names.Identity("P1", "P1", of_patient=True)
    assert matches.unlisted == ("x",)
    assert [slide.slide_id for slide in matches.without_features] == ["C"]


def test_without_a_table_tcga_slides_belong_to_the_patient_of_their_barcode():
    matches = names.identify([f"{SLIDE}.{UUID}", "A.svs", "B"], {"B": "P7"})
    assert [(i.name, i.patient_id) for i in matches.by_name.values()] == [
        (f"{SLIDE}.{UUID}", "TCGA-05-4249"),
        ("A", "A"),
        ("B", "P7"),
    ]


def test_two_files_of_one_slide_are_refused():
    with pytest.raises(DataError, match=r"2 sets of features of A in A, A\.svs"):
        names.match(["A", "A.svs"], listed(("A", "P1", None)))
    with pytest.raises(DataError, match="2 sets of features of A"):
        names.identify(["A", "A.svs"], {})


def test_folders_of_a_name_are_left_out_and_names_that_are_no_file_names_refused():
    assert [i.name for i in names.identify(["site/A.svs", r"D:\slides\B.svs"], {}).by_name.values()] == ["A", "B"]
    with pytest.raises(DataError, match="no valid file name"):
        names.identify([".."], {})
    with pytest.raises(DataError, match="no valid file name"):
        names.match(["A"], {"A": ListedSlide("../A", "P1")})
