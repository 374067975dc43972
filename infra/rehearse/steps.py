"""The steps in their order."""

from infra.rehearse import backup, clean, faults, install, keys, offline, retry, runs, upgrade
from infra.rehearse.runner import Step

STEPS = (
    Step("render", "renders every overlay; needs no cluster", "every overlay renders", offline.rendered),
    Step("check", "compiles the three pipelines and checks them; needs no cluster", "no rule broken", offline.checked),
    Step(
        "look", "asks for version, rights and storage; changes nothing", "a cluster that can be used", install.looked_at
    ),
    Step(
        "install",
        "makes namespace and Secrets where absent, applies overlay `local` twice",
        "all services ready; the second apply changes nothing",
        install.installed,
        ("look",),
    ),
    Step("doctor", "`mcti pipeline doctor`; changes nothing", "nothing missing", install.diagnosed, ("install",)),
    Step(
        "retry",
        "submits a pipeline of two tasks that fail once, one of them in a ParallelFor; judges the other",
        "SUCCEEDED after 2 attempts",
        retry.retried,
        ("install",),
    ),
    Step(
        "retry-in-loop",
        "judges the task of the same run in the ParallelFor",
        "SUCCEEDED after 2 attempts",
        retry.retried_in_loop,
        ("install",),
    ),
    Step(
        "submit",
        "paints 32 patients of the demo cohort, sends them to S3, submits the training",
        "a task of the run starts",
        runs.submitted,
        ("install",),
    ),
    Step("kill-task", "deletes a pod of the training by force", "a pod deleted", faults.killed_task, ("submit",)),
    Step(
        "kill-mlflow", "deletes the pod of MLflow by force", "another one ready", faults.killed("mlflow"), ("install",)
    ),
    Step(
        "kill-postgresql",
        "deletes the pod of PostgreSQL by force",
        "another one ready",
        faults.killed("postgresql"),
        ("install",),
    ),
    Step("kill-s3", "deletes the pod of S3 by force", "another one ready", faults.killed("s3"), ("install",)),
    Step(
        "training",
        "waits for the training",
        "succeeds, FINISHED in MLflow, a version registered",
        runs.trained,
        ("submit",),
    ),
    Step(
        "retraining",
        "sends 8 patients more to S3, submits a retraining",
        "a challenger trained and judged",
        runs.retrained,
        ("training",),
    ),
    Step(
        "nothing-new",
        "submits the retraining again",
        "ends after detect-new-data: nothing new",
        runs.nothing_new,
        ("retraining",),
    ),
    Step("inference", "submits an inference on the newest cohort", "succeeds", runs.inferred, ("training",)),
    Step(
        "recurring",
        "schedules the retraining every three minutes, waits for one run, deletes the schedule",
        "a run starts by the clock and succeeds",
        runs.scheduled,
        ("training",),
    ),
    Step(
        "rotate",
        "changes the keys of S3 and the password of PostgreSQL, restarts S3 and MLflow",
        "new keys work, the old one is refused",
        keys.rotated,
        ("training",),
    ),
    Step("backup", "runs the backup twice", "two objects", backup.backed_up, ("install",)),
    Step(
        "restore",
        "stops MLflow, replaces every database of PostgreSQL by the backup, starts MLflow",
        "what came after the backup is gone, the ledger agrees",
        backup.restored,
        ("backup", "training"),
    ),
    Step(
        "upgrade",
        "stops MLflow, runs the migration, applies the overlay",
        "migrated without a writer, the ledger agrees",
        upgrade.upgraded,
        ("training",),
    ),
    Step(
        "stuck",
        "gives PostgreSQL an image that does not exist, then the right one, and deletes its pod",
        "PostgreSQL ready again",
        upgrade.unstuck,
        ("install",),
    ),
)
CLEAN = Step("clean", "deletes what the rehearsal made, data included", "nothing of it left", clean.cleaned)
OFFLINE = ("render", "check")
