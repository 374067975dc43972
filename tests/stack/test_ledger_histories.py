"""Short fault histories on real servers: a correct one, and three planted faults that the check must find.

The benchmark `registry_histories` runs hundreds with all kinds of faults.
"""

import pytest

from mcti.registry.trust import keys
from tests.histories.run import History, Proxy, run
from tests.registry.trust.factories import new_key, private_pem

pytestmark = [pytest.mark.slow, pytest.mark.stack]
ATTEMPTS = 30  # a short history of a loaded machine may contain no occasion for the planted fault


@pytest.fixture
def history(servers_of, tmp_path, monkeypatch):
    """A function from a seed and settings to the verdict of a history."""
    (tmp_path / "key.pem").write_bytes(private_pem(new_key()))
    monkeypatch.setenv(keys.KEY, str(tmp_path / "key.pem"))
    with Proxy(History(seed=0, folder=tmp_path).clients) as proxy:
        yield lambda seed, **settings: run(History(seed, tmp_path / str(seed), seconds=6, **settings), proxy)


def test_a_history_with_faults_is_correct(history, servers_of):
    verdict = history(1, servers=tuple(server.pid for server in servers_of.servers))
    assert verdict.violations == ()
    assert sum(verdict.faults.values()) >= 3
    assert verdict.operations


@pytest.mark.parametrize(
    ("planted", "faults", "violation"),
    [
        ("unconditional put", ("lost replies",), "which the ledger has lost"),
        ("lost reply is a conflict", ("lost replies",), "reported that nothing was written, but wrote entry"),
        ("cached reads", (), "is not linearizable"),
    ],
)
def test_a_planted_fault_is_found(history, planted, faults, violation):
    violations = []
    for seed in range(2, 2 + ATTEMPTS):
        violations += history(seed, planted=planted, faults=faults).violations
        if any(violation in text for text in violations):
            return
    pytest.fail(f"{planted}: not found in {ATTEMPTS} histories: {violations}")
