#!/bin/sh
# The drill of infra/runbook.md on one machine: backup and restore, and the upgrade of MLflow to another release and back,
# with a real PostgreSQL and S3. Run: make drill MLFLOW=3.18.0 (a release other than the pinned one, newer or older).
# KFP=2.16.0 also compares the compiled pipelines of another release of Kubeflow's SDK with those of the pinned one;
# without MLFLOW it does only this.
# Needs PostgreSQL (Debian: apt-get install postgresql) and the package index; everything is in a temporary folder.
set -eu
python=$1
release=${2:-}
kfp=${3:-}
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT INT TERM
if [ -z "${MCTI_OTHER_MLFLOW:-}$release$kfp" ]; then
    echo "drill: name a release: make drill MLFLOW=3.18.0" >&2
    exit 2
fi
tests="" parts=""
if [ -n "${MCTI_OTHER_MLFLOW:-}$release" ]; then
    if [ -n "${MCTI_OTHER_MLFLOW:-}" ]; then
        echo "drill: MLflow of $MCTI_OTHER_MLFLOW"
    else
        echo "drill: installing mlflow==$release"
        "$python" -m venv "$folder/venv"
        "$folder/venv/bin/pip" install --quiet "mlflow==$release" psycopg[binary] boto3
        MCTI_OTHER_MLFLOW=$folder/venv/bin/mlflow
        export MCTI_OTHER_MLFLOW
    fi
    tests="tests/stack/test_backup.py tests/stack/test_upgrade.py"
    parts="backup, restore, upgrade and the way back"
fi
if [ -n "$kfp" ]; then
    echo "drill: installing kfp==$kfp"
    "$python" -m venv "$folder/pip"
    "$folder/pip/bin/pip" install --quiet --target "$folder/kfp" "kfp==$kfp"
    MCTI_OTHER_KFP=$folder/kfp
    export MCTI_OTHER_KFP
    tests="$tests tests/pipelines/test_other_kfp.py"
    parts="${parts:+$parts, }pipelines of kfp $kfp"
fi
report=$folder/report.xml
# shellcheck disable=SC2086  # the names of the files have no blanks
"$python" -m pytest -q -p no:cacheprovider --basetemp="$folder/tests" --junit-xml="$report" $tests
# A skipped test, such as without PostgreSQL, is no drill.
if grep -q '<skipped' "$report"; then
    echo "drill: a part was skipped: $(sed -n 's/.*<skipped[^>]*message="\([^"]*\)".*/\1/p' "$report" | head -n 1)" >&2
    exit 1
fi
echo "drill: $parts succeeded"
