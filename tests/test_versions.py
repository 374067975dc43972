"""Versions in DVC's remote, with the real dvc and a real S3: one pushes what the other pulls, byte for byte."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from mcti import pinned, s3, storage, versions
from mcti.errors import DataError, OperationalError
from mcti.local import dvc_program
from mcti.slides import manifest
from mcti.storage import tree_md5

pytestmark = [pytest.mark.slow, pytest.mark.stack]
REMOTE = "s3://mcti-data/versions-test"


def dvc(project: Path, *words: str) -> str:
    done = subprocess.run([sys.executable, "-m", "dvc", *words], cwd=project, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture
def project(servers_of, tmp_path):
    """A DVC project without git, whose remote is that of the running stack, with a folder of data in it."""
    folder = tmp_path / "a project"
    (folder / ".dvc").mkdir(parents=True)
    config = f"[core]\n    remote = storage\n    no_scm = true\n['remote \"storage\"']\n    url = {REMOTE}\n"
    (folder / ".dvc" / "config").write_text(config)
    dvc_program.configure_remote(folder, Path(servers_of.folder))
    files = {"clinical.csv": "patient_id,é\n", "slides/a.tif": "A" * 3_000_000, "slides/b b.tif": "", "slides.csv": ""}
    files["slides.csv"] = "patient_id,slide_id,path\np1,a,slides/a.tif\np2,b,slides/b b.tif\n"
    for name, text in files.items():
        path = folder / "raw" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return folder


@pytest.fixture
def version(project) -> str:
    """The folder in the remote; its pinned address."""
    return versions.publish(project / "raw", REMOTE).address


def test_a_version_pushed_by_dvc_is_read_without_dvc(project):
    dvc(project, "add", "raw")
    dvc(project, "push")
    assert storage.addresses(f"{REMOTE}/files"), "DVC must not use the remote of another stack"
    (md5,) = [w for w in (project / "raw.dvc").read_text(encoding="utf-8").split() if w.endswith(".dir")]
    version = f"dvc+{REMOTE}/{md5}"
    assert storage.read_bytes(f"{version}/clinical.csv") == (project / "raw/clinical.csv").read_bytes()
    assert versions.publish(project / "raw", REMOTE).uploaded == 0, "equal bytes are the same version"
    with storage.local_copy(version) as copy:
        assert tree_md5(copy) == tree_md5(project / "raw")
    with storage.local_copy(f"{version}/slides/a.tif") as slide:
        assert slide.name == "a.tif"  # the readers use the suffix
        assert slide.stat().st_size == 3_000_000
    assert storage.size(f"{version}/slides/a.tif") == 3_000_000
    assert storage.addresses(f"{version}/slides") == [f"{version}/slides/a.tif", f"{version}/slides/b b.tif"]
    assert storage.exists(f"{version}/slides.csv")
    assert not storage.exists(f"{version}/no.csv")
    with pytest.raises(DataError, match=r"no file no\.csv in this version"):
        storage.read_bytes(f"{version}/no.csv")


def test_a_slide_manifest_in_a_version_refers_to_slides_of_that_version(project, version):
    """So a shard fetches its own slides, one by one, each checked against its MD5."""
    from mcti.cohort.assembly import resolve_slide_path

    (row, _) = manifest.read(f"{version}/slides.csv")
    assert resolve_slide_path(row.path, f"{version}/slides.csv") == f"{version}/slides/a.tif"
    (a, b) = manifest.read(f"{version}/slides")
    assert (a.slide_id, a.path, b.slide_id) == ("a", f"{version}/slides/a.tif", "b b")


def test_an_object_changed_under_its_name_is_refused(project, version):
    target = pinned.resolve_file(f"{version}/slides/a.tif", storage.read_bytes).object
    s3.put(target, b"A" * 2_999_999 + b"B")
    with pytest.raises(DataError, match=r"the bytes have MD5 .* changed or truncated"), storage.local_copy(version):
        pass
    with pytest.raises(DataError, match="the bytes have MD5"):
        storage.read_bytes(f"{version}/slides/a.tif")
    (fault,) = versions.verify(version)
    assert fault.startswith("slides/a.tif: ")
    s3.put(target, (project / "raw/slides/a.tif").read_bytes())  # the remote is shared with the other tests
    assert versions.verify(version) == []


def test_a_published_version_is_pulled_by_dvc(project, version, tmp_path):
    again = versions.publish(project / "raw", REMOTE)
    assert (again.address, again.uploaded) == (version, 0)
    (project / "raw/more.csv").write_text("x")
    more = versions.publish(project / "raw", REMOTE)
    assert (more.uploaded, more.files) == (1, 5)
    laptop = tmp_path / "laptop"
    shutil.copytree(project / ".dvc", laptop / ".dvc", ignore=shutil.ignore_patterns("cache", "tmp"))
    (laptop / "raw.dvc").write_text(more.pointer)
    single = versions.publish(project / "raw/clinical.csv", REMOTE)
    (laptop / "clinical.csv.dvc").write_text(single.pointer)
    dvc(laptop, "pull")
    assert tree_md5(laptop / "raw") == tree_md5(project / "raw")
    assert (laptop / "clinical.csv").read_bytes() == (project / "raw/clinical.csv").read_bytes()
    assert "up to date" in dvc(laptop, "status")


def test_a_small_file_that_the_remote_lacks_is_one_request(tmp_path, monkeypatch):
    (tmp_path / "small").write_text("a new text")
    sent = []
    monkeypatch.setattr(storage, "exists", lambda address: pytest.fail(f"a request for {address}"))
    monkeypatch.setattr(s3, "put", lambda address, body, **condition: sent.append((body, condition)))
    assert versions.publish(tmp_path / "small", REMOTE).uploaded == 1
    assert sent == [(b"a new text", {"only_if_absent": True})]


def test_a_small_file_that_the_remote_has_is_one_request(project, monkeypatch):
    (project / "small").write_text("a published text")
    versions.publish(project / "small", REMOTE)
    monkeypatch.setattr(storage, "exists", lambda address: pytest.fail(f"a request for {address}"))
    assert versions.publish(project / "small", REMOTE).uploaded == 0


def test_a_file_whose_conditional_write_was_refused_is_in_the_remote_afterwards(project, monkeypatch):
    """S3 answers 409 while another process writes the object, which it may not complete."""
    (project / "small").write_text("another new text")

    def refused(address, *_, **__):
        raise s3.ConcurrentWrite("another process wrote first", address)

    monkeypatch.setattr(s3, "put", refused)
    version = versions.publish(project / "small", REMOTE)
    assert version.uploaded == 1
    assert storage.read_bytes(pinned.object_address(REMOTE, version.md5)) == b"another new text"


def test_the_version_of_a_source_is_in_the_dvc_file_of_its_folder(tmp_path):
    """What `dvc add data/raw` writes; an unversioned folder and a folder in S3 have none."""
    (tmp_path / "raw.dvc").write_text(f"outs:\n- md5: {'a' * 32}.dir\n  size: 3\n  hash: md5\n  path: raw\n")
    assert versions.source_md5(str(tmp_path / "raw" / "clinical.csv")) == "a" * 32 + ".dir"
    assert versions.source_md5(str(tmp_path / "other" / "clinical.csv")) == ""
    assert versions.source_md5("s3://bucket/raw/clinical.csv") == ""


@pytest.mark.parametrize("source", ["clinical.csv", "./clinical.csv", "../clinical.csv", "/clinical.csv"])
def test_a_source_in_the_folder_of_the_settings_has_no_version(tmp_path, monkeypatch, source):
    monkeypatch.chdir(tmp_path)
    assert versions.source_md5(source) == ""


def test_a_folder_with_a_dot_in_its_name_keeps_it(tmp_path):
    """`dvc add raw.v2` writes raw.v2.dvc."""
    (tmp_path / "raw.v2.dvc").write_text(f"outs:\n- md5: {'b' * 32}.dir\n  path: raw.v2\n")
    assert versions.source_md5(str(tmp_path / "raw.v2" / "clinical.csv")) == "b" * 32 + ".dir"


def test_only_complete_versions_can_be_declared_latest(project, version):
    md5 = version.rpartition("/")[2]
    versions.set_latest_version(REMOTE, "lung", md5)
    assert versions.latest_version(REMOTE, "lung").md5 == md5
    with pytest.raises(DataError, match="no such object"):
        versions.set_latest_version(REMOTE, "lung", "0" * 32 + ".dir")
    body = pinned.manifest_bytes({"x": "1" * 32})
    absent = pinned.md5_hex(body) + ".dir"
    s3.put(pinned.object_address(REMOTE, absent), body)
    with pytest.raises(DataError, match=r"1 files are missing, the first x.*dvc push"):
        versions.set_latest_version(REMOTE, "lung", absent)
    with pytest.raises(DataError, match="no such object"):
        versions.latest_version(REMOTE, "breast")


def test_wrong_keys_are_named_and_never_printed(project, version, monkeypatch):
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "A-WRONG-KEY")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "a-wrong-secret")
    with pytest.raises(OperationalError, match="S3 refused the credentials") as caught:
        storage.read_bytes(f"{version}/clinical.csv")
    assert "a-wrong-secret" not in str(caught.value)
    assert "A-WRONG-KEY" not in str(caught.value)


def test_a_shard_extracts_slides_of_a_version_and_refuses_a_changed_one(project, tmp_path):
    from mcti.demo.painting import paint
    from mcti.params import ExtractParams
    from mcti.steps.extract import extract

    raw = project / "raw"
    for name in ("a", "b b"):
        paint(raw / f"slides/{name}.tif", seed=1, grade=2, er_positive=True)
    address = versions.publish(raw, REMOTE).address
    result = extract(f"{address}/slides.csv", ExtractParams(workers=1), tmp_path / "features", shard=(0, 1))
    assert (result.slides, result.ok) == (2, 2)
    (raw / "slides/a.tif").write_bytes(b"another slide")
    version = pinned.resolve_file(f"{address}/slides/a.tif", storage.read_bytes)
    before = storage.read_bytes(version.object)
    s3.put(version.object, b"II*\0" + before[4:-1] + b"?")
    try:
        with pytest.raises(pinned.ChecksumMismatch, match="the bytes have MD5"):
            extract(f"{address}/slides.csv", ExtractParams(workers=1), tmp_path / "again", shard=(0, 1))
    finally:
        s3.put(version.object, before)


def test_a_key_depends_on_all_earlier_stages_and_on_no_later_one():
    keys = versions.stage_keys("md5", "ingest", "extract", "split")
    assert versions.stage_keys("md5", "ingest", "extract", "other")[:2] == keys[:2]
    assert not set(versions.stage_keys("md5", "other", "extract", "split")) & set(keys)
    assert not set(versions.stage_keys("newer", "ingest", "extract", "split")) & set(keys)
    assert versions.stage_keys("md5", "ingeste", "xtract")[1] != keys[1], "the boundary between two sections matters"
