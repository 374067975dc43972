"""Error responses without the data of the request."""

from types import SimpleNamespace

from mcti.registry.http_errors import error_body, mlflow_reason


def test_the_body_has_the_keys_of_both_protocols():
    assert error_body("no patient", "INVALID") == {
        "error": "no patient",
        "error_code": "INVALID",
        "message": "no patient",
    }


def test_the_table_before_the_reason_is_removed():
    message = "Failed to predict data '  patient_id  genes\n0 P-1 {}'. \nError: gene 'ESR1' is missing"
    assert mlflow_reason(SimpleNamespace(message=message)) == "gene 'ESR1' is missing"
    assert mlflow_reason(SimpleNamespace(message="no model")) == "no model"
