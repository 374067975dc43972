"""The raw data of the demo cohort: real tables and painted slides, written once and resumed slide by slide."""

import json
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mcti import storage
from mcti.errors import OperationalError
from mcti.progress import Progress

if TYPE_CHECKING:  # imports pandas, which a demo without changes does not need
    from mcti.demo.public_cohort import DemoPatient

_CODE = ("demo/painting.py", "demo/tissue_drawing.py", "slides/pyramid_writer.py", "demo/public_cohort.py")
"""The painting code, below mcti/."""
SEED = 7
_MIDDLE_GRADE = 2  # used for the two patients without a grade
_RECORD = "painted.json"


def write(raw: Path, patients: int | None = None, progress: Progress = lambda *_: None) -> bool:
    """Write clinical.csv, expression.csv, slides.csv and slides/*.tif below `raw`; False where all files were current.

    A slide that is unchanged since it was painted is kept. `patients` limits the cohort to its first patients.

    Raises OperationalError when the disk is full, or the folder cannot be written.
    """
    if _is_current(raw, patients):
        return False
    from mcti.demo import painting
    from mcti.demo.public_cohort import demo_patients, demo_tables

    selected = demo_patients()[:patients]
    recorded = _read_record(raw)["md5"]
    _paint_all(raw, [patient for patient in selected if not _is_painted(raw, patient, recorded)], progress)
    tables = demo_tables()
    md5 = {patient.path: storage.md5(raw / patient.path) for patient in selected}
    ids = {patient.patient_id for patient in selected}
    slides = tables.slides[tables.slides["patient_id"].isin(ids)].copy()
    slides["mpp"], slides["md5"] = painting.MPP, slides["path"].map(md5)
    for name, table in (("clinical", tables.clinical), ("expression", tables.expression), ("slides", slides)):
        text = table[table["patient_id"].isin(ids)].to_csv(index=False, lineterminator="\n")
        storage.write_text(raw / f"{name}.csv", text)
        md5[f"{name}.csv"] = storage.md5(raw / f"{name}.csv")
    storage.write_json(raw / _RECORD, {"painter": _painter_identity(), "patients": patients, "md5": md5})
    return True


def is_demo(raw: Path) -> bool:
    """Whether `write` made the files of this folder."""
    return (raw / _RECORD).exists()


def _is_current(raw: Path, patients: int | None) -> bool:
    """Whether all files are those of the record of an earlier run, for the same patients and painting code."""
    if not (raw / _RECORD).exists():
        return False
    record = storage.read_json(raw / _RECORD)
    files: dict[str, str] = record["md5"]
    is_same_run = (record["painter"], record.get("patients")) == (_painter_identity(), patients)
    if not is_same_run or "slides.csv" not in files:
        return False
    return all((raw / name).exists() and storage.md5(raw / name) == md5 for name, md5 in files.items())


def _read_record(raw: Path) -> dict[str, Any]:
    """The record of the painted files ({file: MD5}); slides of other painting code are deleted."""
    path = raw / _RECORD
    empty: dict[str, Any] = {"painter": _painter_identity(), "md5": {}}
    record: dict[str, Any] = storage.read_json(path) if path.exists() else empty
    if record["painter"] != _painter_identity():
        with storage.translating_os_errors(raw):
            shutil.rmtree(raw / "slides", ignore_errors=True)
        record = empty
    # Written before the slides: after an interruption it records which code painted them.
    storage.write_json(path, record)
    return record


def _painter_identity() -> str:
    """The seed and the MD5s of the painting code: other code paints other slides."""
    md5s = [storage.md5(Path(__file__).parents[1] / file) for file in _CODE]
    return f"seed {SEED}, code {'-'.join(md5s)}"


def _is_painted(raw: Path, patient: "DemoPatient", recorded: dict[str, str]) -> bool:
    path = raw / patient.path
    if not path.exists():
        return False
    md5 = recorded.get(patient.path)
    return md5 is None or storage.md5(path) == md5  # slides are written atomically: without a record it is complete


def _paint_all(raw: Path, missing: "Sequence[DemoPatient]", progress: Progress) -> None:
    if not missing:
        return
    with storage.translating_os_errors(raw):
        (raw / "slides").mkdir(parents=True, exist_ok=True)
    patients, finished = iter(missing), iter(range(1, len(missing) + 1))
    lock = threading.Lock()

    def next_patient() -> "DemoPatient | None":
        with lock:
            return next(patients, None)

    def report() -> None:
        with lock:
            progress(next(finished), len(missing), "slides painted")

    count = min(os.cpu_count() or 1, len(missing))
    with ThreadPoolExecutor(count) as pool:
        for future in [pool.submit(_run_painter, raw, next_patient, report) for _ in range(count)]:
            future.result()


def _run_painter(raw: Path, next_patient: "Callable[[], DemoPatient | None]", report: Callable[[], None]) -> None:
    """Send jobs to one painter process; it ends with this process, since its input ends then."""
    command = [sys.executable, "-m", "mcti.demo.painter_process"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as painter:
        if painter.stdin is None or painter.stdout is None:
            raise OperationalError("no pipe to the painter", str(raw), "raise the limit of open files (ulimit -n)")
        while (patient := next_patient()) is not None:
            painter.stdin.write(json.dumps(_job(raw, patient)) + "\n")
            painter.stdin.flush()
            response = json.loads(painter.stdout.readline() or '{"what": "the painter process ended"}')
            if response:
                where, hint = response.get("where", str(raw)), response.get("hint", "run the same command again")
                raise OperationalError(response["what"], where, hint)
            report()


def _job(raw: Path, patient: "DemoPatient") -> dict[str, Any]:
    number = int(patient.slide_id.rpartition("-")[2])
    grade = _MIDDLE_GRADE if patient.grade is None else patient.grade
    out = str((raw / patient.path).resolve())
    return {"out": out, "seed": SEED * 100_000 + number, "grade": grade, "er_positive": patient.er_positive}
