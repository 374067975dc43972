"""Register the models of all folds as one version with the alias `challenger`."""

from kfp import dsl

from mcti.components import IMAGE


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def register(  # noqa: D103
    params: str, data: str, models: dsl.Input[dsl.Model], evaluation: dsl.Input[dsl.Artifact],
    validation: dsl.Input[dsl.Artifact], version: dsl.Output[dsl.Artifact],
):  # fmt: skip
    from pathlib import Path

    from mcti.params import RegisterParams, from_json
    from mcti.registry import pipeline_run
    from mcti.steps.register import register as step

    section, origin = from_json(RegisterParams, params, "parameter register"), pipeline_run.origin(data)
    pipeline_run.tag_data_version(data)
    result = step(models.path, evaluation.path, validation.path, section, Path(version.path), origin=origin)
    version.metadata.update(result.model_dump(mode="json"))
