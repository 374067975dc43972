"""Drift, performance and age of the champion: whether it must be retrained, and which rule fired."""

from kfp import dsl

from mcti.components import IMAGE


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def monitor(  # noqa: D103
    params: str, model: str, cohort: dsl.Input[dsl.Dataset], features: dsl.Input[dsl.Dataset],
    monitoring: dsl.Output[dsl.Artifact], report_html: dsl.Output[dsl.HTML],
) -> bool:  # fmt: skip
    import shutil
    from pathlib import Path

    from mcti.params import MonitorParams, from_json
    from mcti.steps.monitor import monitor as step

    section = from_json(MonitorParams, params, "parameter monitor")
    result = step(model, cohort.path, features.path, section, Path(monitoring.path))
    monitoring.metadata.update(result.model_dump(mode="json"))
    shutil.copyfile(f"{monitoring.path}/report.html", report_html.path)
    return result.retrain
