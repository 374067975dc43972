"""A result as a version in DVC's remote, for `dvc pull` on any machine."""

from kfp import dsl

from components import IMAGE


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def publish(remote: str, name: str, result: dsl.Input[dsl.Artifact], version: dsl.Output[dsl.Artifact]):  # noqa: D103
    from mcti import storage, versions
    from mcti.registry import pipeline_run

    made = versions.publish(result.path, remote, name)
    versions.save_run_pointer(made, remote, pipeline_run.needed(), name)
    storage.write_json(version.path, made.model_dump(mode="json"))
    version.metadata.update(md5=made.md5, address=made.address, uploaded=made.uploaded)
