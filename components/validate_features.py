"""Check the features against their data contract."""

from kfp import dsl

from mcti.components import IMAGE


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def validate_features(  # noqa: D103
    params: str, key: str, cohort: dsl.Input[dsl.Dataset], features: dsl.Input[dsl.Dataset],
    report: dsl.Output[dsl.Artifact], report_html: dsl.Output[dsl.HTML],
):  # fmt: skip
    import shutil
    from pathlib import Path

    from mcti.params import ValidateParams, from_json
    from mcti.steps.validate_features import validate_features as step

    section = from_json(ValidateParams, params, "parameter validate")
    step(cohort.path, features.path, section, Path(report.path))
    shutil.copyfile(f"{report.path}/report.html", report_html.path)
