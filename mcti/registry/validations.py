"""The validation of a data version as a run of MLflow: its numbers and its report, linked to the data by MD5."""

import os
from pathlib import Path

from mcti import storage
from mcti.registry import lineage, mlflow_client, tracking


def log(report: Path, experiment: str) -> str:
    """Log the files that `validate` wrote into the folder `report`; the id of the run.

    The run of a cohort that fails its contract ends as FAILED; Kubeflow ends a run that it created.

    Raises OperationalError when no server is configured, or it does not respond, or it fails.
    """
    results = storage.read_json(report / "results.json")
    failed = [expectation for expectation in results["expectations"] if not expectation["passed"]]
    critical = sum(expectation["severity"] == "critical" for expectation in failed)
    numbers = {f"validation.{name}": value for name, value in results["numbers"].items()}
    counts = {"validation.failed_critical": critical, "validation.failed_warnings": len(failed) - critical}
    tags = {
        "mcti.step": "validate",
        "mcti.contract": "passed" if results["passed"] else "failed",
        "mcti.failed": ", ".join(expectation["id"] for expectation in failed) or "none",
        "mcti.commit": lineage.commit(),
        "mcti.data.cohort": results["md5"],
        **{f"mcti.data.{name}": md5 for name, md5 in results["sources"].items()},
        **({"mcti.notice": results["notice"]} if results["notice"] else {}),
    }
    with tracking.service() as client:
        with tracking.run(experiment, f"validate-{results['md5'][:8]}", tags) as run_id:
            mlflow_client.load().log_metrics({**numbers, **counts})
            rows = {name: int(results["numbers"][name]) for name in ("patients", "events", "genes", "slides")}
            tracking.log_dataset(results["name"], results["md5"], rows, context="validation")
            tracking.log_files({report: "validation"})
        if not results["passed"] and "MLFLOW_RUN_ID" not in os.environ:
            client.set_terminated(run_id, "FAILED")
    return run_id
