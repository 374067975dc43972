"""The steps of the rehearsal in their order."""

from infra.rehearse import backup, clean, faults, install, keys, offline, retry, runs, upgrade
from infra.rehearse.runner import Step

STEPS = (
    Step("render", "renders every overlay; no cluster", "every overlay renders", offline.render_overlays),
    Step("check", "compiles and checks the three pipelines; no cluster", "no rule violated", offline.check_pipelines),
    Step(
        "look",
        "checks version, rights, storage class and HOST; changes nothing",
        "cluster and Kubeflow Pipelines are usable",
        install.check_cluster,
    ),
    Step(
        "install",
        "creates missing namespace and Secrets, applies overlay `local` twice",
        "all services ready; the second apply changes nothing",
        install.install_services,
        ("look",),
    ),
    Step("doctor", "runs `mcti pipeline doctor`; changes nothing", "nothing missing", install.run_doctor, ("install",)),
    Step(
        "retry",
        "runs a pipeline of two tasks that fail once, one of them in a ParallelFor; checks the one outside",
        "SUCCEEDED after 2 attempts",
        retry.retry_outside_loop,
        ("install",),
    ),
    Step(
        "retry-in-loop",
        "checks the task in the ParallelFor of the same run",
        "SUCCEEDED after 2 attempts",
        retry.retry_in_loop,
        ("install",),
    ),
    Step(
        "submit",
        "uploads 32 patients of the demo cohort with synthetic slides to S3, submits a training",
        "a task starts",
        runs.submit_training,
        ("install",),
    ),
    Step("kill-task", "deletes the pod of a task with retries by force", "pod deleted", faults.kill_task, ("submit",)),
    Step(
        "kill-mlflow",
        "deletes the pod of MLflow by force",
        "another pod is ready",
        faults.kill_service("mlflow"),
        ("install",),
    ),
    Step(
        "kill-postgresql",
        "deletes the pod of PostgreSQL by force",
        "another pod is ready",
        faults.kill_service("postgresql"),
        ("install",),
    ),
    Step("kill-s3", "deletes the pod of S3 by force", "another pod is ready", faults.kill_service("s3"), ("install",)),
    Step(
        "training",
        "waits for the training",
        "succeeds, FINISHED in MLflow, a version registered",
        runs.await_training,
        ("submit",),
    ),
    Step(
        "retraining",
        "uploads 8 more patients to S3, runs a retraining",
        "a challenger trained and evaluated",
        runs.run_retraining,
        ("training",),
    ),
    Step(
        "nothing-new",
        "repeats the retraining",
        "ends after detect-new-data: nothing new",
        runs.retrain_without_new_data,
        ("retraining",),
    ),
    Step("inference", "runs an inference on the latest cohort", "succeeds", runs.run_inference, ("training",)),
    Step(
        "recurring",
        "schedules the retraining for every three minutes, waits for one run, deletes the schedule",
        "a scheduled run succeeds",
        runs.run_by_schedule,
        ("training",),
    ),
    Step(
        "rotate",
        "replaces the keys of S3 and the password of PostgreSQL, restarts S3 and MLflow",
        "the new key works, the old one is refused",
        keys.rotate_keys,
        ("training",),
    ),
    Step("backup", "runs the backup twice", "two objects", backup.back_up_twice, ("install",)),
    Step(
        "restore",
        "stops MLflow, replaces every database of PostgreSQL by the backup, starts MLflow",
        "later tables do not exist, registry and ledger agree",
        backup.restore_backup,
        ("backup", "training"),
    ),
    Step(
        "upgrade",
        "stops MLflow, runs the migration, applies the overlay",
        "migrated without a writer, registry and ledger agree",
        upgrade.upgrade_services,
        ("training",),
    ),
    Step(
        "stuck",
        "sets an image of PostgreSQL that does not exist, then the right one, deletes the pod",
        "PostgreSQL ready again",
        upgrade.correct_image,
        ("install",),
    ),
)
CLEAN = Step(
    "clean", "deletes the objects that the rehearsal created, data included", "objects deleted", clean.delete_rehearsal
)
OFFLINE = ("render", "check")
