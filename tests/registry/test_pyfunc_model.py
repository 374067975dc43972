"""The model as MLflow serves it: one line of reason for each invalid patient, by a real server and in this process."""

import base64
import json
from importlib.metadata import version

import pandas as pd
import pytest

from mcti.errors import DataError
from mcti.model.competing_hazard import CompetingHazard
from mcti.registry import ensemble_files, models, prediction_columns, pyfunc_model
from tests.registry.factories import FEATURES, GENES, Run
from tests.registry.http_client import post, records

pytestmark = [pytest.mark.slow]


def without(row, *path):
    changed = json.loads(json.dumps(row))
    inner = changed
    for key in path[:-1]:
        inner = inner[key]
    del inner[path[-1]]
    return changed


def bad_rows(row):
    wrong = json.loads(json.dumps(row))
    return {
        "wrong genes": (row | {"genes": {"NOPE": 1.0}}, "gene 'ESR1' is missing"),
        "no genes": (row | {"genes": None}, "no genes"),
        "a gene left out": (without(row, "genes", "MKI67"), "gene 'MKI67' is missing"),
        "a NaN feature": (row | {"features": [[float("nan")] * FEATURES]}, "NaN or infinite"),
        "a wrong width": (row | {"features": [[1.0] * (FEATURES + 1)]}, f"not (N, {FEATURES})"),
        "a ragged table": (row | {"features": [[1.0] * FEATURES, [1.0]]}, "not a table of numbers"),
        "text for numbers": (row | {"genes": dict.fromkeys(GENES, "high")}, "genes: 'ESR1' is 'high', not a number"),
        "a number as text": (row | {"genes": row["genes"] | {"MKI67": "2.5"}}, "genes: 'MKI67' is '2.5', not a number"),
        "genes without names": (row | {"genes": [1.0, 2.0]}, "genes"),
        "a feature as text": (row | {"features": [["0.5"] * FEATURES]}, "not a table of numbers"),
        "a null feature": (row | {"features": [[None] * FEATURES]}, "not a table of numbers"),
        "no base64": (row | {"features": {"shape": [1, FEATURES], "float32": "%%%"}}, "not base64"),
        "too few bytes": (row | {"features": {"shape": [9, FEATURES], "float32": "AAAA"}}, "3 bytes of features"),
        "an object without a shape": (row | {"features": {"float32": "AAAA"}}, "without shape [N, D]"),
        "a boolean": (row | {"features": [[True] * FEATURES]}, "not a table of numbers"),
        "a text as features": (row | {"features": "many"}, "features"),
        "no patient_id": (without(wrong, "patient_id"), "patient_id"),
        "a null for patient_id": (row | {"patient_id": None}, "patient_id is empty"),
        "not one gene measured": (row | {"genes": dict.fromkeys(GENES)}, "no genes"),
        "an integer of 400 digits": (row | {"genes": row["genes"] | {"MKI67": 10**400}}, "genes: 'MKI67' is 1000"),
        "a boolean as a count": (
            row | {"features": {"shape": [True, FEATURES], "float32": base64.b64encode(bytes(4 * FEATURES)).decode()}},
            "without shape [N, D]",
        ),
        "nested lists": (row | {"features": json.loads("[" * 500 + "]" * 500)}, "not a table of numbers"),
    }


CASES = list(bad_rows({"patient_id": "x", "genes": dict.fromkeys(GENES, 0.0), "features": []}))


@pytest.mark.parametrize("case", CASES)
def test_an_invalid_patient_gets_400_with_the_reason(saved, server, case):
    run, *_ = saved
    row, message = bad_rows(records(run)[0])[case]
    status, response = post(server, {"dataframe_records": [row]})
    assert status == 400
    assert message in response["message"]
    assert "\n" not in response["message"], "one line, without the table that MLflow would prepend"


def test_a_patient_twice_in_one_request_is_refused(saved, server):
    row, other = records(saved[0])[:2]
    status, response = post(server, {"dataframe_records": [row, other, row]})
    assert status == 400
    assert f"two rows of one patient_id in the request, patient {row['patient_id']}" in response["message"]
    texts = [
        {"name": name, "shape": [2], "datatype": "BYTES", "data": [json.dumps(row[name])] * 2}
        for name in ("genes", "features")
    ]
    ids = {"name": "patient_id", "shape": [2], "datatype": "BYTES", "data": [row["patient_id"]] * 2}
    status, response = post(server, {"inputs": [ids, *texts]}, "/v2/models/mcti/infer")
    assert (status, "two rows of one patient_id" in response["error"]) == (400, True)


@pytest.mark.parametrize(
    ("months", "message"),
    [
        ([12.0] * 101, "101 horizons_months"),
        ([-5.0], "horizons_months -5"),
        ([float("nan")], "horizons_months nan"),
        ([float("inf")], "horizons_months inf"),
        (["soon"], "horizons_months"),
    ],
)
def test_invalid_or_too_many_horizons_are_refused(saved, server, months, message):
    status, response = post(server, {"dataframe_records": records(saved[0])[:1], "params": {"horizons_months": months}})
    assert status == 400
    assert message in response["message"]


def test_a_patient_with_too_many_patches_is_refused_by_the_model(saved, monkeypatch):
    """Also with MLflow's own server: 10^7 patches are refused before they become a tensor."""
    import mlflow

    run, _, folder = saved
    loaded = mlflow.pyfunc.load_model(str(folder)).unwrap_python_model()

    class Endless(list):
        def __len__(self):
            return 10**7

    frame = pd.DataFrame([records(run)[0] | {"features": Endless([[0.0] * FEATURES])}])
    with pytest.raises(mlflow.exceptions.MlflowException, match="10000000 patches of one patient") as caught:
        loaded.predict(None, frame)
    assert caught.value.get_http_status_code() == 400


def test_the_incidence_of_a_model_with_competing_events_is_in_the_response_and_the_signature(tmp_path):
    import mlflow

    run = Run(tmp_path / "run", competing=CompetingHazard((5.0, 30.0), (0.1, 0.5)))
    ensemble_files.assemble(run.models, tmp_path / "ensemble")
    models.save(tmp_path / "ensemble", tmp_path / "saved")
    loaded = mlflow.pyfunc.load_model(str(tmp_path / "saved"))
    response = loaded.predict(run.frame(), params={"horizons_months": [60.0, 6.0]})
    assert list(response.columns[3:15]) == [f"{curve}_{t}{end}" for curve in "SF" for t in (60, 6)
                                            for end in ("", "_low", "_high")]  # fmt: skip
    assert ((response["F_6"] < response["F_60"]) & (response["F_60"] < 1 - response["S_60"])).all()
    names = loaded.metadata.get_output_schema().input_names()
    assert [name for name in names if name.startswith("F_")] == prediction_columns.incidence_columns((12.0, 60.0))


def test_a_model_is_saved_without_a_search_of_all_installed_packages(saved, tmp_path, monkeypatch):
    """It takes longer than the files; the requirements are in the saved model as before."""
    from mlflow.utils import requirements_utils

    for name in ("_MODULES_TO_PACKAGES", "_PACKAGES_TO_MODULES"):
        monkeypatch.setattr(requirements_utils, name, None)
    search = requirements_utils.importlib_metadata
    monkeypatch.setattr(search, "packages_distributions", lambda: pytest.fail("all packages are searched"))
    models.save(saved[1], tmp_path / "again")
    required = (tmp_path / "again" / "requirements.txt").read_text(encoding="utf-8").split()
    assert required == [f"mlflow=={version('mlflow')}", *models.requirements()]
    assert list(tmp_path.rglob("__pycache__")) == []
    assert requirements_utils._MODULES_TO_PACKAGES is None, "other calls of MLflow search when they need it"


def test_with_redact_responses_and_refusals_contain_no_patient_id(saved, monkeypatch):
    import mlflow

    from mcti.redaction import hashed

    run, _, folder = saved
    loaded = mlflow.pyfunc.load_model(str(folder)).unwrap_python_model()
    plain = loaded.predict(None, run.frame())
    monkeypatch.setenv("MCTI_REDACT", "1")
    response = loaded.predict(None, run.frame())
    assert list(response["patient_id"]) == [hashed(name) for name in run.ids]
    assert list(response["risk"]) == list(plain["risk"]), "the patient is still identified by the id of the request"
    assert list(response["model"]) == list(plain["model"])
    bad = run.frame().assign(patient_id="Anna", genes=[{"NOPE": 1.0}] * len(run.ids))
    with pytest.raises(mlflow.exceptions.MlflowException, match=rf"patient {hashed('Anna')}") as caught:
        loaded.predict(None, bad)
    assert "Anna" not in str(caught.value)


def test_a_categorical_covariate_is_sent_as_text():
    read = pyfunc_model.values_by_name
    assert read({"stage": "II", "age": 61}, "covariates", {"stage": ("I", "II")}) == {"stage": "II", "age": 61}
    assert read({"stage": None}, "covariates", {"stage": ("I",)}) == {"stage": None}
    for value in (2, True, ["II"]):
        with pytest.raises(DataError, match=r"covariates: 'stage' is .*, not a text"):
            read({"stage": value}, "covariates", {"stage": ("I", "II")})
    with pytest.raises(DataError, match="covariates: 'age' is 'old', not a number"):
        read({"age": "old"}, "covariates", {"stage": ("I", "II")})
