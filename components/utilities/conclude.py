"""The last task of a branch. It runs only after all others succeeded, and records this for the exit task."""

from kfp import dsl

from mcti.components import IMAGE


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def conclude(reason: str, remote: str, lease: str):  # noqa: D103
    from mcti.registry import pipeline_run
    from mcti.steps import retraining

    retraining.conclude(pipeline_run.required_run_id(), remote, lease, reason)


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def conclude_verdict(verdict: dsl.Input[dsl.Artifact], remote: str, lease: str):  # noqa: D103
    from mcti import storage
    from mcti.registry import pipeline_run
    from mcti.steps import retraining

    result = storage.read_json(verdict.path)
    retraining.conclude(pipeline_run.required_run_id(), remote, lease, f"{result['outcome']}: {result['reason']}")
