"""Compare the out-of-fold risks with the baselines: metrics with intervals, and a report."""

from kfp import dsl

from mcti.components import IMAGE


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def evaluate(  # noqa: D103
    params: str, key: str, cohort: dsl.Input[dsl.Dataset], features: dsl.Input[dsl.Dataset],
    folds: dsl.Input[dsl.Dataset], models: dsl.Input[dsl.Model], report: dsl.Output[dsl.Artifact],
    report_html: dsl.Output[dsl.HTML], metrics: dsl.Output[dsl.Metrics],
):  # fmt: skip
    import shutil
    from pathlib import Path

    from mcti.params import EvaluateParams, from_json
    from mcti.steps.evaluate.step import evaluate as step

    section, table = from_json(EvaluateParams, params, "parameter evaluate"), f"{folds.path}/folds.csv"
    result = step(cohort.path, features.path, table, models.path, section, Path(report.path))
    for name, value in result.headline().items():
        metrics.log_metric(name, value)
    shutil.copyfile(f"{report.path}/report.html", report_html.path)
