"""Store a result as a version in DVC's remote; `dvc pull` fetches it on any machine."""

from kfp import dsl

from mcti.components import IMAGE


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def publish(remote: str, name: str, result: dsl.Input[dsl.Artifact], version: dsl.Output[dsl.Artifact]):  # noqa: D103
    from mcti import storage, versions
    from mcti.registry import pipeline_run

    published = versions.publish(result.path, remote, name)
    versions.save_run_pointer(published, remote, pipeline_run.required_run_id(), name)
    storage.write_json(version.path, published.model_dump(mode="json"))
    version.metadata.update(md5=published.md5, address=published.address, uploaded=published.uploaded)
