"""Slides and features on S3 (a SeaweedFS server that the tests start): equal bytes, bounded copies, no leftovers."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from mcti import s3, storage
from mcti.demo import painting
from mcti.errors import OperationalError
from mcti.params import ExtractParams
from mcti.slides import features, probe, staging
from mcti.steps.extract import extract, merge_shards
from mcti.steps.inventory import inventory
from tests.polling import wait_for_file
from tests.slides import dicom_factory

pytestmark = [pytest.mark.slow, pytest.mark.stack]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("slides")
    for i in range(3):
        painting.paint(folder / f"P {i}.tif", seed=i, grade=2, er_positive=True)
    (folder / "page.svs").write_text("<html>")
    return folder


@pytest.fixture
def bucket(servers_of, folder, request):
    """An address for this test, with the slides below it."""
    address = f"s3://mcti-data/{request.node.name}"
    for path in folder.iterdir():
        storage.upload(path, storage.join(address, "slides", path.name))
    return address


@pytest.fixture
def params(tmp_path):
    (tmp_path / "cache").mkdir()
    return ExtractParams(cache=str(tmp_path / "cache"), max_failed_slides_share=0.5)


def objects(address):
    return {name.removeprefix(address + "/"): storage.read_bytes(name) for name in storage.addresses(address + "/")}


def files(out):
    return {path.relative_to(out).as_posix(): path.read_bytes() for path in out.rglob("*") if path.is_file()}


def left_in(params):
    return [path for path in Path(params.cache).rglob("*") if path.is_file()]


def test_a_store_on_s3_has_the_bytes_of_a_local_one_and_leaves_no_copy(bucket, folder, params, tmp_path):
    out, local = bucket + "/features", tmp_path / "local"
    assert extract(bucket + "/slides", params, out).extracted == 4
    extract(folder, ExtractParams(max_failed_slides_share=0.5), local)
    assert objects(out) == files(local)
    assert left_in(params) == []
    again = extract(bucket + "/slides", params, out)
    assert (again.ok, again.extracted) == (3, 1)  # the page, which fails each time
    assert objects(out) == files(local)


def test_shards_on_s3_merge_to_the_same(bucket, folder, params, tmp_path):
    out, local = bucket + "/features", tmp_path / "local"
    for i in range(2):
        extract(bucket + "/slides", params, out, shard=(i, 2))
    assert merge_shards(out, params).ok == 3
    extract(folder, ExtractParams(max_failed_slides_share=0.5), local)
    assert objects(out) == files(local)


def test_on_s3_a_slide_that_fails_loses_its_objects_and_a_removed_one_keeps_them(bucket, params):
    out = bucket + "/features"
    extract(bucket + "/slides", params, out)
    storage.remove(bucket + "/slides/P 1.tif")
    s3.put(bucket + "/slides/P 0.tif", b"II*\0")
    extract(bucket + "/slides", params.model_copy(update={"max_failed_slides_share": 1.0}), out)
    assert "P 1.h5" in objects(out)
    assert not any("P 0" in name for name in objects(out))


def test_an_inventory_downloads_only_headers(bucket, folder, tmp_path, monkeypatch):
    def refuse(*_):
        raise AssertionError("a TIFF slide was downloaded for its header")

    storage.remove(bucket + "/slides/page.svs")  # a file that is no TIFF is downloaded, because OpenSlide must open it
    monkeypatch.setattr(storage, "download", refuse)
    inventory(bucket + "/slides", tmp_path / "s3.csv")
    inventory(folder, tmp_path / "local.csv")
    remote, local = (pd.read_csv(tmp_path / name, keep_default_na=False) for name in ("s3.csv", "local.csv"))
    expected = local[local["slide_id"] != "page"].astype(str).reset_index(drop=True)
    pd.testing.assert_frame_equal(remote.astype(str), expected.replace({r"\.0$": ""}, regex=True), check_dtype=False)


def test_a_missing_slide_or_one_larger_than_the_cache_does_not_affect_others(bucket, params, tmp_path):
    manifest = tmp_path / "slides.csv"
    rows = [f"P,{name},{bucket}/slides/{name}.tif" for name in ("P 0", "nothing")]
    manifest.write_text("\n".join(["patient_id,slide_id,path", *rows]))
    small = params.model_copy(update={"cache_gib": 1e-5, "max_failed_slides_share": 1.0})
    extract(manifest, small, tmp_path / "a")
    reasons = pd.read_csv(tmp_path / "a" / "slides.csv", index_col="slide_id")["reason"]
    assert "raise extract.cache_gib" in reasons["P 0"]
    assert "no such object" in reasons["nothing"]


def test_a_full_disk_is_an_error_before_the_download(bucket, params, monkeypatch):
    monkeypatch.setattr(
        staging.shutil, "disk_usage", lambda _: staging.shutil._ntuple_diskusage(1 << 40, 1 << 40, 1000)
    )
    with pytest.raises(OperationalError, match=r"no disk space for .*P .\.tif"):
        extract(bucket + "/slides", params, bucket + "/features")


def test_a_killed_run_resumes_and_its_copies_are_deleted(bucket, folder, params, tmp_path):
    out, local = bucket + "/features", tmp_path / "local"
    code = (
        "import sys; from mcti.steps.extract import extract; from mcti.params import ExtractParams; "
        "extract(sys.argv[1], ExtractParams(workers=1, cache=sys.argv[3], max_failed_slides_share=0.5), sys.argv[2])"
    )
    command = [sys.executable, "-c", code, bucket + "/slides", out, params.cache]
    process = subprocess.Popen(command, env=dict(os.environ))
    wait_for_file(Path(params.cache), "**/*.tif", process)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert left_in(params)  # the copy that it was processing
    assert storage.exists(out + "/heartbeat.json")
    extract(bucket + "/slides", params, out)
    extract(folder, ExtractParams(max_failed_slides_share=0.5), local)
    assert objects(out) == files(local)
    assert left_in(params) == []


def test_content_ids_do_not_depend_on_the_location_of_a_slide(bucket, folder):
    assert probe.content_id(bucket + "/slides/P 0.tif") == probe.content_id(folder / "P 0.tif")


@pytest.fixture
def series(servers_of, tmp_path, request):
    """A DICOM slide of six instances below an address, with another series and a report; and the local folder."""
    address = f"s3://mcti-data/{request.node.name}/slide A"
    folder = tmp_path / "slide A"
    painting.paint(tmp_path / "a.tif", seed=5, grade=2, er_positive=True)
    with probe.open_reader(tmp_path / "a.tif", "tiff") as reader:
        dicom_factory.write_slide(folder, reader.read(0, 0, 0, 2048, 2048).copy())
    for path in folder.iterdir():
        storage.upload(path, storage.join(address, path.name))
    return address, folder


def test_every_instance_of_a_dicom_series_is_staged(series, params):
    address, folder = series
    names = {path.name for path in folder.iterdir()}
    dicom_factory.write_slide(folder / "other", np.zeros((300, 300, 3), np.uint8), levels=1, seed="2")
    storage.upload(folder / "other" / "level0.dcm", storage.join(address, "other.dcm"))
    (folder / "other" / "report.txt").write_text("x")
    storage.upload(folder / "other" / "report.txt", storage.join(address, "report.txt"))
    for location in (f"{address}/level2.dcm", f"{address}/label.dcm", f"{address}/level0.dcm"):
        with probe.local_slide(location, params.cache) as path:
            assert {file.name for file in path.parent.iterdir()} == names
            assert probe.examine(path).mpp == (0.5, 0.5)
        info = probe.examine(location)
        assert (info.width, info.mpp, info.levels) == (2048, (0.5, 0.5), 3)
        assert probe.content_id(location) == probe.content_id(folder)
    assert left_in(params) == []


def test_features_of_a_dicom_slide_on_s3_are_those_of_the_local_one(series, params, tmp_path):
    address, folder = series
    assert extract(address, params, tmp_path / "remote").ok == 1
    assert extract(folder, ExtractParams(), tmp_path / "local").ok == 1
    assert files(tmp_path / "remote") == files(tmp_path / "local")
    assert extract(address, params, tmp_path / "remote").extracted == 0
    table = pd.read_csv(tmp_path / "remote" / "slides.csv")
    assert table["slide_id"].tolist() == ["slide A"]


def write_formats(folder, picture):
    """One picture without loss as OME-TIFF, generic TIFF of three codecs, RGBA, planes, strips and PNG; returns mpp."""
    import tifffile
    from PIL import Image

    tiles = {"tile": (256, 256), "photometric": "rgb"}
    size = {"resolution": (20_000, 20_000), "resolutionunit": "CENTIMETER", "metadata": None}
    opaque = np.dstack([picture, np.full(picture.shape[:2], 255, np.uint8)])
    for codec in ("zstd", "packbits", "zlib"):
        tifffile.imwrite(folder / f"{codec}.tif", picture, compression=codec, **tiles, **size)
    tifffile.imwrite(folder / "rgba.tif", opaque, compression="zlib", extrasamples=["unassalpha"], **tiles, **size)
    planes = np.moveaxis(picture, 2, 0)
    tifffile.imwrite(folder / "planes.tif", planes, planarconfig="separate", compression="zstd", **tiles, **size)
    axes = {"axes": "YXS", "PhysicalSizeX": 500, "PhysicalSizeXUnit": "nm", "PhysicalSizeY": 0.5}
    tifffile.imwrite(folder / "ome.ome.tif", picture, compression="zstd", metadata=axes, **tiles)
    tifffile.imwrite(folder / "strips.tif", picture, photometric="rgb", compression="zlib", metadata=None)
    Image.fromarray(picture).save(folder / "plain.png")
    return {"strips.tif": 0.5, "plain.png": 0.5}


def test_features_of_every_format_on_s3_are_those_of_the_local_file(servers_of, params, tmp_path, request):
    local, address = tmp_path / "slides", f"s3://mcti-data/{request.node.name}"
    local.mkdir()
    painting.paint(tmp_path / "a.tif", seed=6, grade=2, er_positive=True)
    with probe.open_reader(tmp_path / "a.tif", "tiff") as reader:
        mpp = write_formats(local, reader.read(0, 0, 0, 1280, 1280).copy())
    names = sorted(path.name for path in local.iterdir())
    for name in names:
        storage.upload(local / name, storage.join(address, name))
    for out, base in (("remote", address), ("local", local)):
        rows = [f"P,{name},{base}/{name},{mpp.get(name, '')}" for name in names]
        (tmp_path / f"{out}.csv").write_text("\n".join(["patient_id,slide_id,path,mpp", *rows]))
        assert extract(tmp_path / f"{out}.csv", params, tmp_path / out).ok == len(names) == 8
    assert files(tmp_path / "remote") == files(tmp_path / "local")
    tables = {name: features.read(tmp_path / "remote" / f"{name}.h5") for name in names}
    for name in names:  # the same pixels in every format
        for actual, expected in zip(tables[name], tables["zlib.tif"], strict=True):
            np.testing.assert_array_equal(actual, expected)
    assert len(tables["zlib.tif"][0]) > 5


def test_only_the_files_that_a_vms_file_names_are_staged_with_it(servers_of, params, tmp_path, request):
    address = f"s3://mcti-data/{request.node.name}"
    text = "[Virtual Microscope Specimen]\r\nNoLayers=1\r\nImageFile=a.jpg\r\nImageFile(1,0)=a(1,0).jpg\r\n"
    text += "MapFile=a_map.jpg\r\nOptimisationFile=a.opt\r\nMacroImage=a_macro.jpg\r\nAuthCode=x.jpg\r\n"
    members = {"a.vms", "a.jpg", "a(1,0).jpg", "a_map.jpg", "a.opt", "a_macro.jpg"}
    for name in (*members, "b.jpg", "x.jpg"):
        (tmp_path / name).write_text(text if name == "a.vms" else name)
        storage.upload(tmp_path / name, storage.join(address, name))
    with probe.local_slide(f"{address}/a.vms", params.cache) as path:
        assert {file.name for file in path.parent.iterdir()} == members
    before = probe.content_id(f"{address}/a.vms")
    assert before == probe.content_id(tmp_path / "a.vms")
    (tmp_path / "c.jpg").touch()
    assert probe.content_id(tmp_path / "a.vms") == before
    (tmp_path / "a.opt").write_text("longer than before")
    assert probe.content_id(tmp_path / "a.vms") != before
