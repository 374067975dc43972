"""Checks run at the same time, each with a limit; no result contains a secret."""

import sys
import threading

import pytest

from mcti.diagnosis.check import Check, Task, exit_code, hide_secrets, run_all
from mcti.errors import OperationalError


def ok(name="one"):
    return Check(name=name, state="OK")


def test_a_check_that_does_not_end_is_reported_and_the_others_complete():
    blocked = threading.Event()

    def wait():
        blocked.wait()
        return ok()

    tasks = [Task("slow", 0.2, wait), Task("optional", 0.2, wait, needed=False), Task("one", 30, ok)]
    slow, optional, one = run_all(tasks)
    blocked.set()
    assert (slow.state, slow.detail) == ("failed", "no result within 0.2 s")
    assert (optional.state, one.state) == ("unknown", "OK")


def test_an_exception_of_one_check_is_its_result():
    def refuse():
        raise OperationalError("the disk is full", "/data", "delete files")

    def defect():
        raise KeyError("x")

    refused, defective, one = run_all([Task("a", 30, refuse), Task("b", 30, defect), Task("one", 30, ok)])
    assert (refused.state, refused.detail, refused.hint) == ("failed", "the disk is full", "delete files")
    assert defective.detail == "the check failed with KeyError: 'x'"
    assert one == ok()


def test_a_check_may_have_several_results_and_their_order_is_kept():
    checks = run_all([Task("a", 30, lambda: [ok("1"), ok("2")]), Task("b", 30, lambda: ok("3"))])
    assert [check.name for check in checks] == ["1", "2", "3"]


def test_stdout_is_restored_although_a_running_check_redirected_it():
    before, blocked = sys.stdout, threading.Event()

    def redirect():
        sys.stdout = sys.stderr
        blocked.wait()
        return ok()

    run_all([Task("a", 0.2, redirect)])
    blocked.set()
    assert sys.stdout is before


@pytest.mark.parametrize(
    ("state", "code"),
    [("OK", 0), ("warning", 0), ("unknown", 0), ("not configured", 0), ("missing", 4), ("failed", 4)],
)
def test_only_something_needed_sets_the_exit_code(state, code):
    assert exit_code([ok(), Check(name="two", state=state)]) == code


def test_secrets_are_replaced_in_every_detail_and_hint(monkeypatch):
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "hush+hush")
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "pass-word")
    monkeypatch.setenv("KF_PIPELINES_SA_TOKEN_PATH", "/var/run/token")
    text = "no answer from https://user:p4ss@host/x with hush+hush, pass-word; see /var/run/token"
    assert hide_secrets(text) == "no answer from https://***@host/x with ***, ***; see /var/run/token"
    (check,) = run_all([Task("a", 30, lambda: Check(name="a", state="failed", detail=text, hint=text))])
    assert "hush" not in check.line()
    assert "p4ss" not in check.line()


def test_a_line_has_state_name_detail_and_hint():
    assert Check(name="disk", state="failed", detail="full", hint="delete").line(10) == "failed     disk: full: delete"
