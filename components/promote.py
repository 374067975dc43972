"""Judge the version that `register` made against the champion, and move the alias, or not: a no is a result too."""

from kfp import dsl

from components import IMAGE


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def promote(params: str, version: dsl.Input[dsl.Artifact], verdict: dsl.Output[dsl.Artifact]):  # noqa: D103
    from mcti import errors, storage
    from mcti.params import PromoteParams, from_json
    from mcti.steps.promote.step import promote as step

    found, section = storage.read_json(version.path), from_json(PromoteParams, params, "parameter promote")
    try:
        verdict.metadata.update(step(found["name"], section, version=found["version"]).model_dump(mode="json"))
    except (errors.Rejected, errors.NotEnoughEvidence) as no:
        verdict.metadata.update(outcome=no.code, reason=str(no))
    storage.write_json(verdict.path, verdict.metadata)
