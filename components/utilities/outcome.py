"""The exit tasks: they record the outcome of every run (mcti/registry/run_outcome.py)."""

from kfp import dsl

from mcti.components import IMAGE


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def outcome(status: dsl.PipelineTaskFinalStatus, remote: str, report: dsl.Output[dsl.Artifact]):  # noqa: D103
    from pathlib import Path

    from mcti.registry import pipeline_run, run_outcome

    run_outcome.end(pipeline_run.required_run_id(), remote, status.state, Path(report.path))


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def release_lease(  # noqa: D103
    status: dsl.PipelineTaskFinalStatus, register: str, remote: str, report: dsl.Output[dsl.Artifact]
):
    from pathlib import Path

    from mcti.params import RegisterParams, from_json
    from mcti.registry import pipeline_run, run_outcome
    from mcti.steps.retraining import finish

    run = pipeline_run.required_run_id()
    finish(from_json(RegisterParams, register, "parameter register").name, remote, run)
    run_outcome.end(run, remote, status.state, Path(report.path))
