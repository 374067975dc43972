"""A saved model, and a server of it for all tests of the package."""

import pytest

from mcti.registry import ensemble_files, models
from tests.registry.factories import Run
from tests.registry.http_client import BIN, running


@pytest.fixture(scope="session")
def saved(tmp_path_factory):
    root = tmp_path_factory.mktemp("serving")
    run = Run(root)
    ensemble_files.assemble(run.models, root / "ensemble")
    models.save(root / "ensemble", root / "saved")
    return run, root / "ensemble", root / "saved"


@pytest.fixture(scope="session")
def server(saved, tmp_path_factory):
    log = tmp_path_factory.mktemp("log") / "serve.log"
    command = ("serve", "--model", str(saved[2]), "--set", "serve.max_request_mb=1")
    with running(log, str(BIN / "mcti"), *command) as address:
        yield address
