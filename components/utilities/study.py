"""The study that parallel workers of the search will find: made once, before any of them looks."""

from kfp import dsl

from components import IMAGE


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def open_study(  # noqa: D103
    params: str, train: str, key: str, cohort: dsl.Input[dsl.Dataset], features: dsl.Input[dsl.Dataset],
    folds: dsl.Input[dsl.Dataset], study: dsl.Output[dsl.Artifact],
):  # fmt: skip
    from pathlib import Path

    from mcti.params import SearchParams, TrainParams, from_json
    from mcti.steps.search.step import search

    section, base = (
        from_json(SearchParams, params, "parameter search"),
        from_json(TrainParams, train, "parameter train"),
    )
    table = f"{folds.path}/folds.csv"
    made = search(cohort.path, features.path, table, section, base, Path(study.path), init=True)
    study.metadata.update(made.model_dump(mode="json"))
