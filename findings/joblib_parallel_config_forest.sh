#!/usr/bin/env bash
# scikit-survival 0.28.0 with joblib 1.6.0: inside joblib.parallel_config(n_jobs=2) a random survival forest grows its
# trees one after the other in the calling thread. The forest prefers threads, and joblib then replaces the configured
# number of jobs by 1, without a message. With the backend named, parallel_config("threading", n_jobs=2), two threads
# grow the trees. Seen: 1 job without and 2 jobs with the name of the backend. Exits with 1 if that changes.
set -euo pipefail
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
python3 -m venv "$scratch/venv"
"$scratch/venv/bin/pip" install --quiet --disable-pip-version-check scikit-survival==0.28.0 joblib==1.6.0
"$scratch/venv/bin/python" - <<'PYTHON'
import threading

import joblib
import numpy as np
from sksurv.ensemble import RandomSurvivalForest, forest
from sksurv.util import Surv

generator = np.random.default_rng(0)
table, months = generator.normal(size=(60, 5)), generator.exponential(24, 60)
labels = Surv.from_arrays(generator.random(60) < 0.5, months)
build = forest._parallel_build_trees
used = set()


def recorded(*arguments, **options):
    used.add(threading.get_ident())
    return build(*arguments, **options)


forest._parallel_build_trees = recorded
for backend in (None, "threading"):
    used.clear()
    named = {} if backend is None else {"backend": backend}
    with joblib.parallel_config(**named, n_jobs=2):
        jobs = joblib.Parallel(prefer="threads").n_jobs
        RandomSurvivalForest(20, random_state=0).fit(table, labels)
    in_caller = used == {threading.get_ident()}
    print(f"backend {backend}: {jobs} jobs, all trees in the calling thread: {in_caller}")
    if (jobs, in_caller) != ((1, True) if backend is None else (2, False)):
        raise SystemExit("this has changed")
PYTHON
