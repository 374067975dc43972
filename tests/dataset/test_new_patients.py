import h5py
import numpy as np
import pandas as pd
import pytest

from mcti.dataset import new_patients
from mcti.dataset.new_patients import NewPatientTables
from mcti.errors import DataError


@pytest.fixture
def folder(tmp_path):
    """Two patients with genes, one of them with a slide and covariates, and one with a slide alone."""
    pd.DataFrame({"patient_id": ["P1", "P2"], "g1": [1.0, 2.0], "g2": [3.0, np.nan]}).to_csv(
        tmp_path / "expression.csv", index=False
    )
    pd.DataFrame({"patient_id": ["P1"], "age": [61.0]}).to_csv(tmp_path / "clinical.csv", index=False)
    slides = {"patient_id": ["P1", "P3"], "slide_id": ["s1", "s3"], "path": ["s1.tif", "s3.tif"]}
    pd.DataFrame(slides).to_csv(tmp_path / "slides.csv", index=False)
    (tmp_path / "features").mkdir()
    with h5py.File(tmp_path / "features" / "s1.h5", "w") as file:
        file["features"] = np.ones((2, 3), dtype=np.float32)
        file["coords"] = np.array([[0, 0], [0, 256]])
    return tmp_path


def test_all_patients_of_any_table_are_listed(folder):
    assert new_patients.patient_ids(folder) == ["P1", "P2", "P3"]
    assert new_patients.slides_by_patient(folder) == {"P1": ["s1"], "P3": ["s3"]}
    assert new_patients.slides_with_features(folder, folder / "features") == {"P1": ["s1"]}
    assert new_patients.slides_with_features(folder, None) == {}


def test_new_patients_are_loaded_with_what_each_of_them_has(folder):
    data = NewPatientTables.read(folder, folder / "features").load(["P1", "P2"])
    first, second = data.bags["P1"], data.bags["P2"]
    assert data.genes == ("g1", "g2")
    assert first.genes.tolist() == [1.0, 3.0]
    assert first.covariates == {"age": 61.0}
    assert first.tile_position(1).y == 256
    assert (second.patches, second.covariates, second.slides) == (None, {"age": None}, ())


def test_the_embedding_of_a_patient_stands_for_the_patient_without_features_of_slides(folder):
    with h5py.File(folder / "features" / "P2.h5", "w") as file:
        file["features"] = np.full((1, 2), 5.0, np.float32)
    tables = NewPatientTables.read(folder, folder / "features")
    assert tables.slides == {"P1": ["s1"], "P2": ["P2"]}
    bag = tables.load(["P2"]).bags["P2"]
    assert bag.patches.tolist() == [[5.0, 5.0]]
    assert bag.slides[0].coordinates is None


def test_features_of_the_folder_are_used_and_missing_ones_are_extracted(folder, tmp_path):
    calls = []
    scratch = tmp_path / "scratch"
    assert new_patients.feature_folder(folder, scratch, lambda *call: calls.append(call)) == folder / "features"
    assert calls == []
    (folder / "features").rename(folder / "elsewhere")
    assert new_patients.feature_folder(folder, scratch, lambda *call: calls.append(call)) == scratch
    assert calls == [(folder / "slides.csv", scratch)]
    (folder / "slides.csv").unlink()
    assert new_patients.feature_folder(folder, scratch, lambda *call: calls.append(call)) is None


def test_a_folder_without_patients_and_an_id_that_is_a_path_are_refused(tmp_path):
    with pytest.raises(DataError, match="there is no patient"):
        new_patients.patient_ids(tmp_path)
    with pytest.raises(DataError, match="no such folder"):
        new_patients.patient_ids(tmp_path / "none")
    pd.DataFrame({"patient_id": ["a/b"], "g1": [1.0]}).to_csv(tmp_path / "expression.csv", index=False)
    with pytest.raises(DataError, match="'a/b' cannot name a patient"):
        new_patients.patient_ids(tmp_path)


def test_a_table_in_another_format_is_named(tmp_path):
    (tmp_path / "expression.xlsx").touch()
    with pytest.raises(DataError, match=r"'expression\.xlsx' is not read"):
        new_patients.patient_ids(tmp_path)


def test_masked_ages_of_new_patients_are_mapped_as_those_of_a_cohort(tmp_path):
    """`>89`, ` > 89` and `<18` are cells of the GDC and of CPTAC; the other covariates are read as before."""
    (tmp_path / "clinical.csv").write_text("patient_id,age,size_cm\nP1,>89,2.5\nP2, > 89,\nP3,<18,1\nP4,61,3\nP5,,4\n")
    assert new_patients.patient_ids(tmp_path) == ["P1", "P2", "P3", "P4", "P5"]
    tables = NewPatientTables.read(tmp_path, None, {">89": 90, "<18": 17})
    bags = tables.load(["P1", "P2", "P3", "P4", "P5"]).bags
    assert [bag.covariates["age"] for bag in bags.values()] == [90, 90, 17, 61, None]
    assert [bag.covariates["size_cm"] for bag in bags.values()] == [2.5, None, 1, 3, 4]
    with pytest.raises(DataError, match=r"row 2, .*ingest\.age_values: \{'>89': YEARS\}"):
        NewPatientTables.read(tmp_path, None)


def test_a_duplicate_or_malformed_row_of_covariates_is_refused(tmp_path):
    (tmp_path / "clinical.csv").write_text("patient_id,grade\nP1,1\nP1,2\n")
    with pytest.raises(DataError, match="'P1' has two rows"):
        new_patients.patient_ids(tmp_path)
    (tmp_path / "clinical.csv").write_text("patient_id,grade\nP1,high\n")
    with pytest.raises(DataError, match=r"'high' is not a number in .*clinical\.csv, row 2, column grade"):
        NewPatientTables.read(tmp_path, None)
    (tmp_path / "clinical.csv").write_text("patient,grade\nP1,1\n")
    with pytest.raises(DataError, match="column 'patient_id' is missing"):
        new_patients.patient_ids(tmp_path)
