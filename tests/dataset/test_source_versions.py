import pytest

from mcti import storage
from mcti.dataset.source_versions import list_files, version_of
from mcti.errors import DataError
from mcti.params.training import SourceParams
from tests.training import factories


@pytest.fixture
def source(tmp_path):
    cohort, features, _ = factories.folders(tmp_path / "source", patients=8)
    return SourceParams(cohort=str(cohort), features=str(features))


def test_the_files_of_a_source_are_its_four_tables_and_its_features(source):
    (factories.Path(source.features) / "notes.txt").write_text("no features")
    files = list_files([source])
    tables = ("cohort.json", "expression.parquet", "patients.parquet", "slides.parquet")
    expected = [f"{source.cohort}/{name}" for name in tables]
    expected += [f"{source.features}/P-{number:03}-S.h5" for number in range(8)]
    assert list(files) == sorted(expected)
    assert set(files.values()) == {""}
    assert version_of(expected[0], "") == storage.md5(expected[0])
    assert version_of(expected[0], "etag") == "etag"


def test_features_that_are_not_listed_are_not_read(source):
    assert len(list_files([SourceParams(cohort=source.cohort)])) == 4
    assert list_files([]) == {}


def test_a_missing_folder_is_refused_with_its_path(source, tmp_path):
    for params in (
        SourceParams(cohort=str(tmp_path / "missing")),
        SourceParams(cohort=source.cohort, features=str(tmp_path / "missing")),
    ):
        with pytest.raises(DataError, match="no such folder") as caught:
            list_files([params])
        assert caught.value.where == str(tmp_path / "missing")
