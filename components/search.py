"""Search the training settings over the inner folds."""

from kfp import dsl

from mcti.components import IMAGE


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def search(  # noqa: D103
    params: str, train: str, key: str, cohort: dsl.Input[dsl.Dataset], features: dsl.Input[dsl.Dataset],
    folds: dsl.Input[dsl.Dataset], best: dsl.Output[dsl.Artifact], metrics: dsl.Output[dsl.Metrics],
):  # fmt: skip
    from pathlib import Path

    from mcti.params import SearchParams, TrainParams, from_json
    from mcti.steps.search.step import search as step

    search_params = from_json(SearchParams, params, "parameter search")
    train_params = from_json(TrainParams, train, "parameter train")
    result = step(cohort.path, features.path, f"{folds.path}/folds.csv", search_params, train_params, Path(best.path))
    for name, value in result.headline().items():
        metrics.log_metric(name, value)
