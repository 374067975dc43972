"""Risk and S(t) of patients, with a registered model."""

from kfp import dsl

from components import IMAGE


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def predict(  # noqa: D103
    model: str, cohort: dsl.Input[dsl.Dataset], features: dsl.Input[dsl.Dataset], predictions: dsl.Output[dsl.Dataset]
):
    from pathlib import Path

    from mcti.steps.predict import predict as step

    result = step(model, cohort.path, features.path, Path(predictions.path, "predictions.csv"))
    predictions.metadata.update(result.headline())
