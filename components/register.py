"""The trained folds as one version of the registry, alias `challenger`."""

from kfp import dsl

from components import IMAGE


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def register(  # noqa: D103
    params: str, run: str, pipeline: str, image: str, data: str, models: dsl.Input[dsl.Model],
    evaluation: dsl.Input[dsl.Artifact], validation: dsl.Input[dsl.Artifact], version: dsl.Output[dsl.Artifact],
):  # fmt: skip
    from pathlib import Path

    from mcti.params import RegisterParams, from_json
    from mcti.registry.lineage import Origin
    from mcti.steps.register import register as step

    section = from_json(RegisterParams, params, "parameter register")
    origin = Origin(run=run, pipeline=pipeline, image=image, data=data)
    out = Path(version.path)
    result = step(models.path, evaluation.path, section, out, validation.path, origin=origin)
    version.metadata.update(result.model_dump(mode="json"))
