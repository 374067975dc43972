"""A site with a key and a trust file, and versions that are registered and promoted at it, on real servers."""

import contextlib

from mcti.errors import NotEnoughEvidence, Rejected
from mcti.params import PromoteParams, RegisterParams, TrustParams
from mcti.registry.trust import keys
from mcti.steps.promote.step import promote
from mcti.steps.register import register
from tests.registry.trust.factories import write_site

PARAMS = PromoteParams(min_events=1, bootstrap=100)


def activate(folder, monkeypatch):
    """Configure a new signing key and its trust file in `folder`; the policy is `lineage`."""
    key_file, trust_file = write_site(folder)
    monkeypatch.setenv(keys.KEY, str(key_file))
    return TrustParams(require="lineage", keys=str(trust_file))


def registered(run, name, tmp_path):
    params = RegisterParams(name=name, experiment="tests")
    return register(run.models, run.evaluation, run.validation, params, tmp_path / "r.json")


def promoted(name, trust=None):
    with contextlib.suppress(Rejected, NotEnoughEvidence):
        promote(name, PARAMS, trust=trust)
