"""The software bill of materials. Oracle: importlib.metadata."""

from importlib import metadata

from mcti.registry import sbom


def test_every_installed_package_is_listed_once_with_version_and_licence():
    document = sbom.build()
    components = {component["name"]: component for component in document["components"]}
    assert len(components) == len(document["components"])
    assert components["numpy"]["version"] == metadata.version("numpy")
    assert (
        components["prometheus-client"]["purl"] == f"pkg:pypi/prometheus-client@{metadata.version('prometheus-client')}"
    )
    assert sbom.licence(components["scikit-survival"]).startswith("GPL")
    assert sbom.licence({"name": "x"}) == ""
    assert document["metadata"]["component"]["name"] == "mcti"
    assert sbom.build() == document
