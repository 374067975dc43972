"""How the run ended, whether it did well or not."""

from kfp import dsl

from components import IMAGE


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def outcome(status: dsl.PipelineTaskFinalStatus, report: dsl.Output[dsl.Artifact]):  # noqa: D103
    import sys

    from mcti import storage

    found = {"run": status.pipeline_job_resource_name, "state": status.state, "error": status.error_message}
    storage.write_json(report.path, found)
    print(f"run {found['run']}: {found['state']} {found['error']}", file=sys.stderr)  # noqa: T201


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def make_room(  # noqa: D103
    status: dsl.PipelineTaskFinalStatus, register: str, remote: str, run: str, report: dsl.Output[dsl.Artifact]
):
    import sys

    from mcti import storage
    from mcti.params import RegisterParams, from_json
    from mcti.steps.retraining import finish

    finish(from_json(RegisterParams, register, "parameter register").name, remote, run)
    found = {"run": run, "state": status.state, "error": status.error_message}
    storage.write_json(report.path, found)
    print(f"run {run}: {found['state']} {found['error']}", file=sys.stderr)  # noqa: T201
