"""Read the source tables into the canonical cohort; `data`, the version of the sources, is part of the cache key."""

from kfp import dsl

from mcti.components import IMAGE


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def ingest(params: str, data: str, cohort: dsl.Output[dsl.Dataset]):  # noqa: D103
    from pathlib import Path

    from mcti.params import IngestParams, from_json
    from mcti.registry import pipeline_run
    from mcti.steps.ingest import ingest as step

    section = from_json(IngestParams, params, "parameter ingest")
    pipeline_run.tag_data_version(data)
    result = step(section.clinical, section.expression, section.slides, section, Path(cohort.path))
    cohort.metadata.update(result.headline())
