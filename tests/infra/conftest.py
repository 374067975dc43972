import pytest

from tests.infra.manifests import KUBERNETES, OPTIONAL, OVERLAYS, kubectl_is_new_enough, kustomize, with_components
from tests.infra.rehearsal import fake_cluster, full_rehearsal  # noqa: F401  (fixtures)


@pytest.fixture(scope="session")
def rendered():
    """Every overlay without optional components."""
    if not kubectl_is_new_enough():
        pytest.skip("needs kubectl 1.27 or later to render")
    return {name: kustomize(KUBERNETES / "overlays" / name) for name in OVERLAYS}


@pytest.fixture(scope="session")
def complete(rendered, tmp_path_factory):
    """Every overlay with the optional components."""
    return {name: with_components(tmp_path_factory.mktemp(name), name, *OPTIONAL) for name in rendered}
