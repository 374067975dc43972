"""Assign the patients to folds; the returned fold numbers are the items of the training loop."""

from typing import List  # noqa: UP035  (a bare `list` gives loop items of type STRING, which the server refuses)

from kfp import dsl

from mcti.components import IMAGE


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def split(  # noqa: D103
    params: str, key: str, cohort: dsl.Input[dsl.Dataset], features: dsl.Input[dsl.Dataset],
    folds: dsl.Output[dsl.Dataset],
) -> List[int]:  # noqa: UP006  # fmt: skip
    from pathlib import Path

    from mcti.params import SplitParams, from_json
    from mcti.steps.split import split as step

    section = from_json(SplitParams, params, "parameter split")
    result = step(cohort.path, features.path, section, Path(folds.path, "folds.csv"))
    return list(range(result.folds))
