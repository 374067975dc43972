"""The demo cohort on disk: real tables, painted slides; made once, resumed slide by slide, found again unchanged."""

import json
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from mcti import storage
from mcti.demo import painting, public_cohort, tissue_drawing
from mcti.demo.public_cohort import Patient, demo_patients, demo_tables
from mcti.errors import OperationalError
from mcti.progress import Progress

SEED = 7
_MIDDLE = 2  # the grade two patients of the source have not is painted as the middle one
_RECORD = "painted.json"


def make(raw: Path, patients: int | None = None, progress: Progress = lambda *_: None) -> bool:
    """Write clinical.csv, expression.csv, slides.csv and slides/*.tif below `raw`; whether anything had to be written.

    `patients` limits the cohort to the first so many. A slide that stands as it was painted is left alone.

    Raises
        OperationalError: no room, or the folder cannot be written.
    """
    if _unchanged(raw, patients):
        return False
    wanted = demo_patients()[:patients]
    known = _record(raw)["md5"]
    _paint_all(raw, [patient for patient in wanted if not _stands(raw, patient, known)], progress)
    tables = demo_tables()
    md5 = {patient.path: storage.md5(raw / patient.path) for patient in wanted}
    ids = {patient.patient_id for patient in wanted}
    slides = tables.slides[tables.slides["patient_id"].isin(ids)].copy()
    slides["mpp"], slides["md5"] = painting.MPP, slides["path"].map(md5)
    for name, table in (("clinical", tables.clinical), ("expression", tables.expression), ("slides", slides)):
        text = table[table["patient_id"].isin(ids)].to_csv(index=False, lineterminator="\n")
        storage.write_text(raw / f"{name}.csv", text)
        md5[f"{name}.csv"] = storage.md5(raw / f"{name}.csv")
    storage.write_json(raw / _RECORD, {"painter": _painter(), "patients": patients, "md5": md5})
    return True


def _unchanged(raw: Path, patients: int | None) -> bool:
    """Whether everything stands as an earlier run left it; known from the record alone, in a second."""
    if not (raw / _RECORD).exists():
        return False
    record = storage.read_json(raw / _RECORD)
    files: dict[str, str] = record["md5"]
    asked = (record["painter"], record.get("patients"), "slides.csv" in files) == (_painter(), patients, True)
    return asked and all((raw / name).exists() and storage.md5(raw / name) == md5 for name, md5 in files.items())


def _record(raw: Path) -> dict[str, Any]:
    """What was painted, MD5 by file; slides of another painter are thrown away."""
    path = raw / _RECORD
    fresh: dict[str, Any] = {"painter": _painter(), "md5": {}}
    found: dict[str, Any] = storage.read_json(path) if path.exists() else fresh
    if found["painter"] != _painter():
        with storage.translating_os_errors(raw):
            shutil.rmtree(raw / "slides", ignore_errors=True)
        found = fresh
    # Written first: slides of a run cut short are then known to be this painter's.
    storage.write_json(path, found)
    return found


def _painter() -> str:
    """Identity of the painting code and seed: other code paints other slides."""
    code = [storage.md5(module.__file__) for module in (painting, tissue_drawing, public_cohort) if module.__file__]
    return f"seed {SEED}, code {'-'.join(code)}"


def _stands(raw: Path, patient: Patient, record: dict[str, str]) -> bool:
    path = raw / patient.path
    if not path.exists():
        return False
    known = record.get(patient.path)
    return known is None or storage.md5(path) == known  # a slide appears whole or not at all


def _paint_all(raw: Path, missing: Sequence[Patient], progress: Progress) -> None:
    if not missing:
        return
    with storage.translating_os_errors(raw):
        (raw / "slides").mkdir(parents=True, exist_ok=True)
    jobs, done = iter(missing), iter(range(1, len(missing) + 1))
    lock = threading.Lock()

    def next_job() -> Patient | None:
        with lock:
            return next(jobs, None)

    def tell() -> None:
        with lock:
            progress(next(done), len(missing), "slides painted")

    count = min(os.cpu_count() or 1, len(missing))
    with ThreadPoolExecutor(count) as pool:
        for ended in [pool.submit(_employ, raw, next_job, tell) for _ in range(count)]:
            ended.result()


def _employ(raw: Path, next_job: Callable[[], Patient | None], tell: Callable[[], None]) -> None:
    """Feed one painter process; it ends when we do, since its input ends then."""
    command = [sys.executable, "-m", "mcti.demo.painter_process"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as painter:
        if painter.stdin is None or painter.stdout is None:
            raise OperationalError("no pipe to the painter", str(raw), "raise the limit of open files (ulimit -n)")
        while (patient := next_job()) is not None:
            painter.stdin.write(json.dumps(_job(raw, patient)) + "\n")
            painter.stdin.flush()
            answer = json.loads(painter.stdout.readline() or '{"what": "the painter ended"}')
            if answer:
                raise OperationalError(answer["what"], answer.get("where", str(raw)), answer.get("hint", "try again"))
            tell()


def _job(raw: Path, patient: Patient) -> dict[str, Any]:
    number = int(patient.slide_id.rpartition("-")[2])
    grade = _MIDDLE if patient.grade is None else patient.grade
    out = str((raw / patient.path).resolve())
    return {"out": out, "seed": SEED * 100_000 + number, "grade": grade, "er_positive": patient.er_positive}


def _write_if_new(path: Path, text: str) -> bool:
    if path.exists() and path.read_text(encoding="utf-8") == text:
        return False
    storage.write_text(path, text)
    return True
