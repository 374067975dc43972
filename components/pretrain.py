"""Pool the cohorts of train.sources and train one model per fold of the pool."""

from kfp import dsl

from mcti.components import IMAGE


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def pretrain(  # noqa: D103
    params: str, split: str, cohort: dsl.Output[dsl.Dataset], features: dsl.Output[dsl.Dataset],
    folds: dsl.Output[dsl.Dataset], models: dsl.Output[dsl.Model],
):  # fmt: skip
    import shutil
    from pathlib import Path

    from mcti.params import SplitParams, TrainParams, from_json
    from mcti.steps.pretrain import pretrain as step

    section, assignment = from_json(TrainParams, params, "parameter train"), from_json(SplitParams, split, "split")
    result = step(section, assignment, Path(f"{models.path}-pool"))
    for name, output in {"cohort": cohort, "features": features, "folds": folds, "models": models}.items():
        shutil.move(f"{models.path}-pool/{name}", output.path)
    models.metadata.update(result.headline())
