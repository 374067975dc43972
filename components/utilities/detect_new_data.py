"""Check whether the newest version of the sources was used for training, and whether another retraining runs."""

from typing import NamedTuple

from kfp import dsl

from mcti.components import IMAGE

# The first output is named Output: kfp.local 2.17 evaluates a condition on any other name as false.


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def detect_new_data(  # noqa: D103
    params: str, register: str, remote: str, hours: int, report: dsl.Output[dsl.Artifact]
) -> NamedTuple("Detected", Output=bool, data=str, model=str, ingest=str, reason=str, lease=str):
    from pathlib import Path

    from mcti.params import IngestParams, RegisterParams, from_json
    from mcti.registry import pipeline_run
    from mcti.steps.retraining import detect

    ingest = from_json(IngestParams, params, "parameter ingest")
    name = from_json(RegisterParams, register, "parameter register").name
    result = detect(name, ingest, remote, pipeline_run.required_run_id(), hours, Path(report.path))
    settings = result.ingest.model_dump_json(by_alias=True)
    return (result.retrain, result.data, result.model, settings, result.reason, result.lease)
