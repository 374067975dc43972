import os
import shlex
import ssl
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from kfp.cli.cli import cli as kfp_cli

from mcti import params, versions
from mcti.errors import DataError, OperationalError
from mcti.params import ClusterParams
from mcti.pipelines import schedule, status, submit
from tests.pipelines import certificates, fake_api
from tests.pipelines.conftest import DATA

ROOT = Path(__file__).parents[2]


def kfp(address: str, *words: str) -> subprocess.CompletedProcess[str]:
    """Call the official program as a user does."""
    program = str(Path(sys.executable).with_name("kfp"))
    environment = {**os.environ, "PYTHONWARNINGS": "ignore"}
    return subprocess.run([program, "--endpoint", address, *words], capture_output=True, text=True, env=environment)


def refuse(sent):
    raise AssertionError("the server fails")


def train_task_of(run):
    sent = run["pipeline_spec"]
    executor = sent["pipeline_spec"]["deploymentSpec"]["executors"]["exec-train"]["container"]
    kubernetes = sent["platform_spec"]["platforms"]["kubernetes"]["deploymentSpec"]["executors"]["exec-train"]
    return executor, kubernetes


@pytest.mark.slow
def test_the_official_program_submits_and_schedules_the_compiled_file(server, package, ir, settings):
    address, state = server
    words = ("-e", "mcti", "-r", "manual", "-f", str(package), "data=of another day")
    done = kfp(address, "run", "create", *words)
    assert done.returncode == 0, done.stderr
    words = ("--experiment-name", "mcti", "--job-name", "monthly", "--cron-expression", settings.cluster.cron)
    done = kfp(address, "recurring-run", "create", *words, "--enabled", "--no-catchup", "--max-concurrency", "1",
               "--pipeline-package-path", str(package))  # fmt: skip
    assert done.returncode == 0, done.stderr
    for run in [*state.runs.values(), *state.recurring.values()]:
        executor, kubernetes = train_task_of(run)
        assert executor["image"] == settings.cluster.image
        assert executor["resources"]["accelerator"]["resourceCount"] == "2"
        assert kubernetes["secretAsEnv"][0]["secretName"] == "mcti-s3"
        assert run["pipeline_spec"]["pipeline_spec"]["root"] == ir[0]["root"]
    assert [run["runtime_config"]["parameters"] for run in state.runs.values()] == [{"data": "of another day"}]
    (monthly,) = state.recurring.values()
    assert monthly["trigger"]["cron_schedule"]["cron"] == "0 0 3 1 * *"
    assert monthly["mode"] == "ENABLE"


def test_a_submitted_run_has_the_compiled_pipeline(server, settings, ir, capsys):
    address, state = server
    submitted = submit.submit(settings, DATA, address, None)
    assert capsys.readouterr().out == "", "standard output contains only the result"
    (run,) = state.runs.values()
    assert submitted["run"] == "run-0"
    assert run["pipeline_spec"]["pipeline_spec"]["root"] == ir[0]["root"]
    assert run["pipeline_spec"]["pipeline_spec"]["deploymentSpec"] == ir[0]["deploymentSpec"]
    assert run["pipeline_spec"]["platform_spec"] == ir[1]
    assert state.experiments[run["experiment_id"]]["display_name"] == "mcti"
    assert status.status("run-0", address).state == "RUNNING"
    with pytest.raises(DataError, match="no such run"):
        status.status("run-9", address)


def test_a_schedule_is_created_once_and_replaced_only_after_a_change(server, settings):
    address, state = server
    first = schedule.schedule(settings, DATA, address, None)
    again = schedule.schedule(settings, DATA, address, None)
    assert (first["changed"], again["changed"]) == (True, False)
    assert again["schedule"] == first["schedule"]
    assert first["status"] == again["status"] == "ENABLED"
    assert first["next"].endswith("-01 03:00:00 UTC"), "the first of a month"
    later = settings.model_copy(update={"cluster": settings.cluster.model_copy(update={"cron": "0 0 4 1 * *"})})
    assert schedule.schedule(later, DATA, address, None)["changed"]
    assert not schedule.schedule(later, "another version of the sources", address, None)["changed"], (
        "the data version is determined by each run"
    )
    bigger = later.model_copy(update={"train": later.train.model_copy(update={"epochs": 9})})
    assert schedule.schedule(bigger, DATA, address, None)["changed"]
    (only,) = state.recurring.values()
    assert only["trigger"]["cron_schedule"]["cron"] == "0 0 4 1 * *"
    assert (only["no_catchup"], only["max_concurrency"]) == (True, 1)


@pytest.mark.parametrize(
    "change", [{"status": "DISABLED"}, {"trigger": {"periodic_schedule": {"interval_second": "60"}}}]
)
def test_a_manually_changed_schedule_is_replaced_and_others_are_kept(server, settings, change):
    address, state = server
    schedule.schedule(settings, DATA, address, None)
    (created,) = state.recurring.values()
    state.recurring["other"] = {**created, "recurring_run_id": "other", "display_name": "other"}
    created.update(change)
    assert schedule.schedule(settings, DATA, address, None)["changed"]
    assert not schedule.schedule(settings, DATA, address, None)["changed"]
    other, replaced = sorted(state.recurring.values(), key=lambda run: run["display_name"] != "other")
    assert other["recurring_run_id"] == "other"
    assert (replaced["status"], replaced["trigger"]["cron_schedule"]["cron"]) == ("ENABLED", settings.cluster.cron)


def test_a_schedule_that_is_not_enabled_afterwards_is_an_error(server, settings, monkeypatch):
    address, _state = server
    created = schedule.client.Client.create_recurring_run
    monkeypatch.setattr(
        schedule.client.Client, "create_recurring_run", lambda *words, **named: created(*words, **named, enabled=False)
    )
    with pytest.raises(OperationalError, match=r"is DISABLED, not ENABLED.*recurring-run enable recurring-1"):
        schedule.schedule(settings, DATA, address, None)


def documented(first_words):
    """The command of docs/kubeflow.md that begins with these words, as a list of arguments."""
    text = (ROOT / "docs/kubeflow.md").read_text(encoding="utf-8").replace("\\\n", " ")
    (line,) = [line for line in text.splitlines() if line.startswith("kfp ") and f" {first_words} " in line]
    return shlex.split(line)[1:]


def test_a_schedule_that_no_controller_has_processed_is_an_error(server, settings, monkeypatch):
    address, state = server
    state.unprocessed = 1000
    monkeypatch.setattr(schedule, "CONFIRM_SECONDS", 0.3)
    monkeypatch.setattr(schedule, "PAUSE_SECONDS", 0.1)
    with pytest.raises(OperationalError, match=r"is STATUS_UNSPECIFIED after 0 s.*ml-pipeline-scheduledworkflow"):
        schedule.schedule(settings, DATA, address, None)


@pytest.mark.parametrize("words", ["run create", "recurring-run create"])
def test_the_official_program_accepts_the_documented_command(words, package, monkeypatch, tmp_path):
    """The program's parser refuses an unknown option; a schedule must be enabled."""
    monkeypatch.chdir(tmp_path)
    Path("training.yaml").write_bytes(package.read_bytes())
    line = documented(words)
    group, name = words.split()
    command = kfp_cli.commands[group].commands[name]
    context = command.make_context(name, line[line.index(name) + 1 :])
    if group == "recurring-run":
        options = context.params
        assert (options["enabled"], options["catchup"], options["max_concurrency"]) == (
            True,
            False,
            1,
        )
        ClusterParams(cron=options["cron_expression"])
    help_text = command.get_help(context)
    for option in [word for word in line if word.startswith("--") and word != "--endpoint"]:
        assert option in help_text


def test_the_error_reports_that_the_old_schedule_was_deleted(server, settings, monkeypatch):
    """The old schedule is deleted first, so that there are never two: the error must report that there is none."""
    address, state = server
    schedule.schedule(settings, DATA, address, None)
    monkeypatch.setattr(fake_api, "validate", refuse)
    later = settings.model_copy(update={"cluster": settings.cluster.model_copy(update={"cron": "0 0 4 1 * *"})})
    with pytest.raises(OperationalError, match="mcti-retraining has no schedule now"):
        schedule.schedule(later, DATA, address, None)
    assert state.recurring == {}


def test_the_token_is_sent_and_is_no_part_of_an_error(server, settings, monkeypatch):
    address, state = server
    monkeypatch.setenv("KFP_TOKEN", "a-secret-token")
    submit.submit(settings, DATA, address, None)
    assert {header for _, _, header in state.requests} == {"Bearer a-secret-token"}
    state.refuse = 403
    with pytest.raises(OperationalError, match="refused the request") as caught:
        submit.submit(settings, DATA, address, None)
    assert "a-secret-token" not in str(caught.value)


def test_the_cookies_of_a_login_page_are_sent(server, settings, monkeypatch):
    address, state = server
    monkeypatch.setenv("KFP_COOKIES", "authservice_session=of-dex")
    submit.submit(settings, DATA, address, None)
    schedule.schedule(settings, DATA, address, None)
    assert set(state.cookies) == {"authservice_session=of-dex"}
    assert {header for _, _, header in state.requests} == {None}
    state.refuse = 401
    with pytest.raises(OperationalError, match="KFP_COOKIES") as caught:
        submit.submit(settings, DATA, address, None)
    assert "of-dex" not in str(caught.value)


def test_mutual_tls_uses_the_client_certificate_and_the_authority(settings, monkeypatch, tmp_path):
    """A real handshake: without a client certificate the server refuses; without the authority the client refuses."""
    monkeypatch.setenv("HOME", str(tmp_path))
    folder = tmp_path / "certificates"
    certificates.write_certificates(folder)
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(folder / "server.pem", folder / "server.key")
    tls.load_verify_locations(folder / "authority.pem")
    tls.verify_mode = ssl.CERT_REQUIRED
    with fake_api.serving(tls) as (address, state):
        with pytest.raises(OperationalError, match="does not answer"):
            submit.submit(settings, DATA, address, None)
        monkeypatch.setenv("KFP_CA_CERT", str(folder / "authority.pem"))
        with pytest.raises(OperationalError, match="does not answer"):
            submit.submit(settings, DATA, address, None)
        assert state.runs == {}
        monkeypatch.setenv("KFP_CLIENT_CERT", str(folder / "client.pem"))
        monkeypatch.setenv("KFP_CLIENT_KEY", str(folder / "client.key"))
        submit.submit(settings, DATA, address, None)
        assert len(state.runs) == 1


def test_no_server_is_one_clear_error(settings, monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    with pytest.raises(OperationalError, match="does not answer"):
        submit.submit(settings, DATA, "http://127.0.0.1:9", None)


def test_the_version_of_the_sources_is_that_of_the_dvc_file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    settings = params.load(None)
    assert versions.source_md5(settings.ingest.clinical) == ""
    Path("data").mkdir()
    Path("data/raw.dvc").write_text(yaml.safe_dump({"outs": [{"md5": "abc.dir", "path": "raw"}]}), encoding="utf-8")
    assert versions.source_md5(settings.ingest.clinical) == "abc.dir"
