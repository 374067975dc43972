"""How the run ended, whether it did well or not."""

from kfp import dsl

from components import IMAGE


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def outcome(status: dsl.PipelineTaskFinalStatus, report: dsl.Output[dsl.Artifact]):  # noqa: D103
    import sys

    from mcti.registry.refusals import clear

    clear()

    from mcti import storage
    from mcti.registry import pipeline_run

    found = {"run": pipeline_run.needed(), "state": status.state, "error": status.error_message}
    storage.write_json(report.path, found)
    pipeline_run.close(status.state, status.error_message)
    print(f"run {found['run']}: {found['state']} {found['error']}", file=sys.stderr)  # noqa: T201


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def make_room(  # noqa: D103
    status: dsl.PipelineTaskFinalStatus, register: str, remote: str, report: dsl.Output[dsl.Artifact]
):
    import sys

    from mcti import storage
    from mcti.params import RegisterParams, from_json
    from mcti.registry import pipeline_run
    from mcti.steps.retraining import finish

    found = {"run": pipeline_run.needed(), "state": status.state, "error": status.error_message}
    finish(from_json(RegisterParams, register, "parameter register").name, remote, found["run"])
    storage.write_json(report.path, found)
    pipeline_run.close(status.state, status.error_message)
    print(f"run {found['run']}: {found['state']} {found['error']}", file=sys.stderr)  # noqa: T201
