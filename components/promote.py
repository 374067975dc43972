"""Evaluate the gates for the registered version and move the alias `champion` if it passes; a rejection is a result."""

from kfp import dsl

from mcti.components import IMAGE


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def promote(params: str, version: dsl.Input[dsl.Artifact], verdict: dsl.Output[dsl.Artifact]):  # noqa: D103
    from mcti import errors, storage
    from mcti.params import PromoteParams, from_json
    from mcti.steps.promote.step import promote as step

    registered, section = storage.read_json(version.path), from_json(PromoteParams, params, "parameter promote")
    try:
        result = step(registered["name"], section, version=registered["version"])
        verdict.metadata.update(result.model_dump(mode="json"))
    except (errors.Rejected, errors.NotEnoughEvidence) as refusal:
        verdict.metadata.update(outcome=refusal.code, reason=str(refusal))
    storage.write_json(verdict.path, verdict.metadata)
