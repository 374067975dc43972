"""Test the registered version, unchanged, on an external cohort; the validation is logged at the version."""

from kfp import dsl

from mcti.components import IMAGE


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def test(  # noqa: D103
    params: str, cohort: str, features: str, version: dsl.Input[dsl.Artifact], report: dsl.Output[dsl.Artifact],
    report_html: dsl.Output[dsl.HTML],
):  # fmt: skip
    import shutil
    from pathlib import Path

    from mcti import storage
    from mcti.params import EvaluateParams, from_json
    from mcti.steps.test.step import test as step

    section = from_json(EvaluateParams, params, "parameter evaluate")
    registered = "models:/{name}/{version}".format(**storage.read_json(version.path))
    result = step(registered, cohort, features or None, section, Path(report.path))
    report.metadata.update(result.model_dump(mode="json"))
    shutil.copyfile(f"{report.path}/report.html", report_html.path)
