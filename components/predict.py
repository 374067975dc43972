"""Risk and survival curve S(t) of each patient, predicted with a registered model."""

from kfp import dsl

from mcti.components import IMAGE


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def predict(  # noqa: D103
    params: str, model: str, cohort: dsl.Input[dsl.Dataset], features: dsl.Input[dsl.Dataset],
    predictions: dsl.Output[dsl.Dataset],
):  # fmt: skip
    from pathlib import Path

    from mcti.params import PredictParams, from_json
    from mcti.steps.predict.step import predict as step

    section = from_json(PredictParams, params, "parameter predict")
    result = step(model, cohort.path, features.path, section, Path(predictions.path, "predictions.csv"))
    predictions.metadata.update(result.headline())
