"""Contributions to the risk of each patient, by modality, token, gene and tile."""

from kfp import dsl

from mcti.components import IMAGE


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def explain(  # noqa: D103
    params: str, model: str, patient_ids: list, cohort: dsl.Input[dsl.Dataset], features: dsl.Input[dsl.Dataset],
    explanation: dsl.Output[dsl.Artifact],
):  # fmt: skip
    from pathlib import Path

    from mcti.params import ExplainParams, from_json
    from mcti.steps.explain.step import explain as step

    section = from_json(ExplainParams, params, "parameter explain")
    result = step(model, cohort.path, features.path, section, Path(explanation.path), patient_ids=patient_ids)
    explanation.metadata.update(result.headline())
