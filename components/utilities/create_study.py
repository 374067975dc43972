"""Create the study that the parallel workers of the search share, before the first worker starts."""

from kfp import dsl

from mcti.components import IMAGE


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def create_study(  # noqa: D103
    params: str, train: str, key: str, cohort: dsl.Input[dsl.Dataset], features: dsl.Input[dsl.Dataset],
    folds: dsl.Input[dsl.Dataset], study: dsl.Output[dsl.Artifact],
):  # fmt: skip
    from pathlib import Path

    from mcti.params import SearchParams, TrainParams, from_json
    from mcti.steps.search.step import search

    search_params = from_json(SearchParams, params, "parameter search")
    train_params = from_json(TrainParams, train, "parameter train")
    table, out = f"{folds.path}/folds.csv", Path(study.path)
    result = search(cohort.path, features.path, table, search_params, train_params, out, init=True)
    study.metadata.update(result.model_dump(mode="json"))
