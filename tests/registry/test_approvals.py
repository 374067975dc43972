"""Approvals of a version, with a registry in memory."""

import pytest

from mcti.errors import DataError
from mcti.registry import approvals
from tests.registry.tagged_version import Client


def approved_by(client, monkeypatch, who):
    monkeypatch.setenv("MCTI_ACTOR", who)
    return approvals.approve(client, client.version)


def test_an_approval_is_valid_for_the_current_weights_and_evaluation(monkeypatch):
    client = Client()
    assert approved_by(client, monkeypatch, "anna") == "anna"
    assert approved_by(client, monkeypatch, "ben") == "ben"
    assert approvals.approvers(client.version) == ["anna", "ben"]
    client.version.tags["mcti.evaluation_md5"] = "e2"
    assert approvals.approvers(client.version) == []


def test_the_one_who_registered_cannot_approve(monkeypatch):
    client = Client()
    with pytest.raises(DataError, match="rita registered this version in model m, version 3"):
        approved_by(client, monkeypatch, "rita")
    client.version.tags["mcti.approved.rita"] = "d1:e1"
    assert approvals.approvers(client.version) == []
