"""The exit tasks: how the run ended, whether it succeeded or not (mcti/registry/run_outcome.py)."""

from kfp import dsl

from components import IMAGE


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def outcome(status: dsl.PipelineTaskFinalStatus, remote: str, report: dsl.Output[dsl.Artifact]):  # noqa: D103
    import sys

    from mcti import storage
    from mcti.registry import pipeline_run, run_outcome

    found = run_outcome.determine(pipeline_run.needed(), remote, status.state)
    storage.write_json(report.path, found.model_dump(mode="json"))
    run_outcome.close(found)
    print(f"run {found.run}: {found.state} {found.reason}", file=sys.stderr)  # noqa: T201


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def make_room(  # noqa: D103
    status: dsl.PipelineTaskFinalStatus, register: str, remote: str, report: dsl.Output[dsl.Artifact]
):
    import sys

    from mcti import storage
    from mcti.params import RegisterParams, from_json
    from mcti.registry import pipeline_run, run_outcome
    from mcti.steps.retraining import finish

    found = run_outcome.determine(pipeline_run.needed(), remote, status.state)
    finish(from_json(RegisterParams, register, "parameter register").name, remote, found.run)
    storage.write_json(report.path, found.model_dump(mode="json"))
    run_outcome.close(found)
    print(f"run {found.run}: {found.state} {found.reason}", file=sys.stderr)  # noqa: T201
