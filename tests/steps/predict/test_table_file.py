import json

import pandas as pd
import pytest

from mcti import storage
from mcti.steps.predict.table_file import writing

ROWS = [
    {"patient_id": "a\u2028b", "risk": 0.1 + 0.2, "low": None, "flag": True, "count": 3},
    {"patient_id": 'c,"d"\n', "risk": -1e-17, "low": 0.25, "flag": None, "count": 0},
    {"patient_id": "é", "risk": 2.0, "low": 1e300, "flag": False, "count": 12},
]


@pytest.mark.parametrize("sizes", [(3,), (1, 1, 1), (0, 2, 0, 1)])
def test_any_division_into_parts_gives_the_bytes_of_the_whole(tmp_path, sizes):
    """Oracles: pandas on all rows at once, and the JSON document of storage."""
    for name in ("t.csv", "t.json"):
        with writing(tmp_path / name) as write:
            start = 0
            for size in sizes:
                write(ROWS[start : start + size])
                start += size
    expected = pd.DataFrame(ROWS).to_csv(index=False, lineterminator="\n").encode()
    assert (tmp_path / "t.csv").read_bytes() == expected
    assert (tmp_path / "t.json").read_bytes() == storage.to_json(ROWS).encode()


def test_a_json_table_without_rows_is_an_empty_list(tmp_path):
    with writing(tmp_path / "t.json"):
        pass
    assert json.loads((tmp_path / "t.json").read_text()) == []


def fail_after_writing(path):
    with writing(path) as write:
        write(ROWS)
        assert path.read_text() == "earlier", "nothing appears before the last part"
        raise ValueError("bad")


def test_after_an_error_the_earlier_file_remains_and_no_draft(tmp_path):
    (tmp_path / "t.csv").write_text("earlier")
    with pytest.raises(ValueError, match="bad"):
        fail_after_writing(tmp_path / "t.csv")
    assert [path.name for path in tmp_path.iterdir()] == ["t.csv"]
    assert (tmp_path / "t.csv").read_text() == "earlier"
