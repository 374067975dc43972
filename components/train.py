"""Train the model of one fold."""

from kfp import dsl

from mcti.components import IMAGE


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def train(  # noqa: D103
    params: str, key: str, fold: int, cohort: dsl.Input[dsl.Dataset], features: dsl.Input[dsl.Dataset],
    folds: dsl.Input[dsl.Dataset], best: dsl.Input[dsl.Artifact], model: dsl.Output[dsl.Model],
):  # fmt: skip
    from pathlib import Path

    from mcti.params import TrainParams, from_json
    from mcti.steps.train import train as step

    section, chosen = from_json(TrainParams, params, "parameter train"), f"{best.path}/best.yaml"
    table = f"{folds.path}/folds.csv"
    result = step(cohort.path, features.path, table, section, Path(model.path), best=chosen, fold=fold)
    model.metadata.update(result.headline())
