"""Is there a version of the sources that no model was trained on, and is nobody else at it?"""

from typing import NamedTuple

from kfp import dsl

from components import IMAGE

# Its first output is named Output, since a condition on any other name is false in kfp.local (2.17), whatever it holds.


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def detect(  # noqa: D103
    params: str, register: str, remote: str, hours: int, report: dsl.Output[dsl.Artifact]
) -> NamedTuple("Found", Output=bool, data=str, model=str, ingest=str, reason=str, lease=str):
    from pathlib import Path

    from mcti.params import IngestParams, RegisterParams, from_json
    from mcti.registry import pipeline_run
    from mcti.steps.retraining import detect as look

    ingest = from_json(IngestParams, params, "parameter ingest")
    name = from_json(RegisterParams, register, "parameter register").name
    found = look(name, ingest, remote, pipeline_run.required_run_id(), hours, Path(report.path))
    settings = found.ingest.model_dump_json(by_alias=True)
    return (found.retrain, found.data, found.model, settings, found.reason, found.lease)
