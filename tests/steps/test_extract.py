"""The step `extract`: a status for every slide, resumable, the same bytes for any number of workers or shards."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest

from mcti.cli import command_context
from mcti.cli.app import app
from mcti.demo import painting
from mcti.errors import DataError, UsageError
from mcti.params import ExtractParams, TissueParams
from mcti.slides import heartbeat, tile_blocks
from mcti.slides.shards import shard_of
from mcti.slides.tiles import TileSource
from mcti.steps.extract import extract, merge_shards
from mcti.steps.merge import merge
from tests.polling import wait_for_file

LENIENT = ExtractParams(max_failed_slides_share=1.0)


@pytest.fixture(scope="module")
def slides(tmp_path_factory):
    folder = tmp_path_factory.mktemp("some slides é")
    for i in range(3):
        painting.paint(folder / f"P{i}.tif", seed=i, grade=i + 1, er_positive=i == 0)
    return folder


@pytest.fixture(scope="module")
def complete_run(slides, tmp_path_factory):
    out = tmp_path_factory.mktemp("whole")
    extract(slides, ExtractParams(workers=1), out)
    return contents(out)


def contents(out: Path) -> dict[str, bytes]:
    return {str(path.relative_to(out)): path.read_bytes() for path in sorted(out.rglob("*")) if path.is_file()}


def table(out: Path) -> pd.DataFrame:
    return pd.read_csv(out / "slides.csv", index_col="slide_id", keep_default_na=False)


@pytest.mark.parametrize("workers", [2, 5])
def test_files_are_the_same_bytes_for_any_number_of_workers(slides, complete_run, tmp_path, workers):
    extract(slides, ExtractParams(workers=workers), tmp_path)
    assert contents(tmp_path) == complete_run


def test_merged_shards_are_the_output_of_one_run(slides, complete_run, tmp_path):
    for i in range(3):
        extract(slides, ExtractParams(), tmp_path, shard=(i, 3))
    result = merge_shards(tmp_path, ExtractParams(), 3)
    assert contents(tmp_path) == complete_run
    assert result.ok == 3


def test_a_merge_without_all_shards_names_the_missing_shard(slides, tmp_path):
    extract(slides, ExtractParams(), tmp_path, shard=(0, 2))
    with pytest.raises(DataError, match="slides-1-of-2"):
        merge_shards(tmp_path, ExtractParams(), 2)


def test_a_shard_that_does_not_exist_is_a_usage_error(slides, tmp_path):
    with pytest.raises(UsageError, match="3/3 does not exist"):
        extract(slides, ExtractParams(), tmp_path, shard=(3, 3))


def test_a_second_run_processes_no_slide_and_a_changed_setting_all_slides(slides, complete_run, tmp_path):
    assert extract(slides, ExtractParams(), tmp_path).extracted == 3
    assert extract(slides, ExtractParams(), tmp_path).extracted == 0
    assert contents(tmp_path) == complete_run
    assert extract(slides, ExtractParams(tile=512), tmp_path).extracted == 3


@pytest.mark.parametrize("table", ["", "slide_id,colour\nP0,red\n", "no table at all"])
def test_an_edited_table_of_the_last_run_is_ignored(slides, complete_run, tmp_path, table):
    extract(slides, ExtractParams(), tmp_path)
    (tmp_path / "slides.csv").write_text(table)
    assert extract(slides, ExtractParams(), tmp_path).extracted == 0
    assert contents(tmp_path) == complete_run


def test_replaced_or_damaged_feature_files_are_extracted_again(slides, complete_run, tmp_path):
    extract(slides, ExtractParams(), tmp_path)
    shutil.copy(tmp_path / "P0.h5", tmp_path / "P1.h5")
    (tmp_path / "P2.h5").write_bytes((tmp_path / "P2.h5").read_bytes()[:-1000])
    assert extract(slides, ExtractParams(), tmp_path).extracted == 2
    assert contents(tmp_path) == complete_run


def test_slides_removed_from_the_list_leave_the_table_and_keep_their_files(slides, complete_run, tmp_path):
    """Two lists may use the same folder, and features take hours to compute."""
    folder = tmp_path / "slides"
    shutil.copytree(slides, folder)
    extract(folder, ExtractParams(), tmp_path / "out")
    (folder / "P1.tif").unlink()
    extract(folder, ExtractParams(), tmp_path / "out")
    assert list(table(tmp_path / "out").index) == ["P0", "P2"]
    assert (tmp_path / "out" / "P1.h5").read_bytes() == complete_run["P1.h5"]


def test_an_unreachable_slide_keeps_only_features_of_the_same_settings(slides, complete_run, tmp_path):
    rows = "".join(f"P{i},P{i},P{i}.tif\n" for i in range(3))
    folder = tmp_path / "slides"
    shutil.copytree(slides, folder)
    (folder / "list.csv").write_text("patient_id,slide_id,path\n" + rows)
    extract(folder / "list.csv", ExtractParams(), tmp_path / "out")
    (folder / "P1.tif").unlink()
    extract(folder / "list.csv", LENIENT, tmp_path / "out")
    row = table(tmp_path / "out").loc["P1"]
    assert (row["status"], "features of an earlier run are kept" in row["reason"]) == ("READ_ERROR", True)
    assert (tmp_path / "out" / "P1.h5").read_bytes() == complete_run["P1.h5"]
    extract(folder / "list.csv", LENIENT.model_copy(update={"tile": 512}), tmp_path / "out")
    assert not list((tmp_path / "out").rglob("P1.*"))
    shutil.copy(slides / "P1.tif", folder)
    assert extract(folder / "list.csv", LENIENT, tmp_path / "out").ok == 3
    assert (tmp_path / "out" / "P1.h5").read_bytes() == complete_run["P1.h5"]


def test_imported_features_are_neither_overwritten_nor_removed(slides, complete_run, tmp_path):
    import torch

    from mcti.steps.exchange import import_features

    (tmp_path / "pt").mkdir()
    for name in ("P0", "P1"):
        torch.save(torch.ones(5, 7), tmp_path / "pt" / f"{name}.pt")
    import_features(tmp_path / "pt", "pt", tmp_path / "out")
    before = contents(tmp_path / "out")
    folder = tmp_path / "slides"
    shutil.copytree(slides, folder)
    (folder / "P1.tif").write_bytes(b"")
    extract(folder, LENIENT, tmp_path / "out")
    after = contents(tmp_path / "out")
    assert [after[name] for name in ("P0.h5", "P1.h5")] == [before[name] for name in ("P0.h5", "P1.h5")]
    assert after["P2.h5"] == complete_run["P2.h5"]
    assert "imported from pt" in table(tmp_path / "out").loc["P0", "reason"]


def test_each_bad_slide_has_its_status_and_the_others_are_extracted(slides, tmp_path):
    folder = tmp_path / "slides"
    shutil.copytree(slides, folder)
    content = (folder / "P0.tif").read_bytes()
    (folder / "cut.tif").write_bytes(content[: len(content) // 2])
    (folder / "empty.svs").touch()
    (folder / "page.svs").write_text("<html>")
    (folder / "P1.svs").write_bytes(content)  # a second P1
    (folder / "loop.svs").symlink_to(folder / "loop.svs")
    result = extract(folder, LENIENT, tmp_path / "out")
    statuses = table(tmp_path / "out")["status"]
    assert statuses.drop("P1").to_dict() == {
        "P0": "OK",
        "P2": "OK",
        "cut": "TRUNCATED",
        "empty": "TRUNCATED",
        "page": "UNSUPPORTED_FORMAT",
        "loop": "READ_ERROR",
    }
    assert statuses["P1"].tolist() == ["READ_ERROR", "READ_ERROR"]
    assert result.statuses == {"OK": 2, "READ_ERROR": 3, "TRUNCATED": 2, "UNSUPPORTED_FORMAT": 1}
    assert (table(tmp_path / "out").query("status != 'OK'")["reason"] != "").all()


def test_too_many_failures_are_an_error_after_the_table_is_written(slides, tmp_path):
    folder = tmp_path / "slides"
    shutil.copytree(slides, folder)
    (folder / "page.svs").write_text("<html>")
    with pytest.raises(DataError, match="1 of 4 slides failed, the first page: UNSUPPORTED_FORMAT"):
        extract(folder, ExtractParams(), tmp_path / "out")
    assert len(table(tmp_path / "out")) == 4


def test_a_shard_of_broken_slides_ends_and_the_failures_are_checked_after_the_merge(slides, tmp_path):
    """As the tasks of a pipeline do it: one folder per shard, merged, then the tables joined."""
    folder = tmp_path / "slides"
    shutil.copytree(slides, folder)
    healthy = {shard_of(path.stem, 4) for path in folder.iterdir()}
    other = next(shard for shard in range(4) if shard not in healthy)
    names = [name for name in (f"B{i}" for i in range(100)) if shard_of(name, 4) == other][:2]
    for name in names:
        (folder / f"{name}.svs").write_text("<html>")
    parts = [tmp_path / f"part-{shard}" for shard in range(4)]
    results = [extract(folder, ExtractParams(), part, shard=(shard, 4)) for shard, part in enumerate(parts)]
    assert (results[other].slides, results[other].ok) == (2, 0)
    merge(parts, tmp_path / "strict")
    with pytest.raises(DataError, match=f"2 of 5 slides failed, the first {min(names)}: UNSUPPORTED_FORMAT"):
        merge_shards(tmp_path / "strict", ExtractParams(), 4)
    merge(parts, tmp_path / "whole")
    assert merge_shards(tmp_path / "whole", LENIENT, 4).ok == 3
    extract(folder, LENIENT, tmp_path / "at once")
    assert contents(tmp_path / "whole") == contents(tmp_path / "at once")


def test_a_slide_that_fails_loses_its_old_features(slides, tmp_path):
    folder = tmp_path / "slides"
    shutil.copytree(slides, folder)
    extract(folder, ExtractParams(), tmp_path / "out")
    (folder / "P1.tif").write_bytes(b"")
    extract(folder, LENIENT, tmp_path / "out")
    assert not (tmp_path / "out" / "P1.h5").exists()


def test_a_drawn_mask_determines_which_tiles_are_kept(slides, tmp_path):
    drawn = tmp_path / "drawn"
    drawn.mkdir()
    square = [[0, 0], [512, 0], [512, 512], [0, 512], [0, 0]]
    shape = {"type": "Feature", "geometry": {"type": "Polygon", "coordinates": [square]}, "properties": {}}
    (drawn / "P1.geojson").write_text(json.dumps({"type": "FeatureCollection", "features": [shape]}))
    params = ExtractParams(tissue=TissueParams(masks=str(drawn), min_sharpness=0))
    extract(slides, ExtractParams(), tmp_path / "out")
    assert extract(slides, params, tmp_path / "out").extracted == 3  # min_sharpness concerns all slides
    tiles = table(tmp_path / "out")["tiles"]
    assert tiles["P1"] == 4
    assert tiles["P0"] > 20
    (drawn / "P1.geojson").write_text(json.dumps(shape))  # the content changes, not the path
    assert extract(slides, params, tmp_path / "out").extracted == 1


def test_a_missing_folder_of_masks_is_an_error(slides, tmp_path):
    with pytest.raises(DataError, match="no such folder of masks"):
        extract(slides, ExtractParams(tissue=TissueParams(masks="nowhere")), tmp_path)


def test_drawn_masks_need_another_folder_than_the_detected_masks(slides, tmp_path):
    (tmp_path / "masks").mkdir()
    with pytest.raises(UsageError, match="another folder"):
        extract(slides, ExtractParams(tissue=TissueParams(masks=str(tmp_path / "masks"))), tmp_path)


def test_real_slides_give_features_or_their_reason(cohort_of_real_slides, tmp_path):
    folder = cohort_of_real_slides
    extract(folder, LENIENT, tmp_path / "a")
    statuses = table(tmp_path / "a")["status"]
    assert statuses.to_dict() == {"CMU-1-Small-Region": "OK", "TCGA-CR-7395-01A-01-TS1": "MISSING_MPP"}
    manifest = tmp_path / "slides.csv"
    path = folder / "TCGA-CR-7395-01A-01-TS1.svs"
    manifest.write_text(f"patient_id,slide_id,path,mpp\nTCGA-CR-7395,T,{path},0.5\n")
    extract(manifest, ExtractParams(), tmp_path / "b")
    row = table(tmp_path / "b").loc["T"]
    assert (row["status"], row["mpp_source"], row["patient_id"]) == ("OK", "manifest", "TCGA-CR-7395")
    assert row["tiles"] > 100


@pytest.fixture
def cohort_of_real_slides(tmp_path):
    source = Path(__file__).parents[2] / ".." / "shared" / "data" / "slides"
    if not source.exists():
        pytest.skip(f"real slides are not on this machine ({source})")
    folder = tmp_path / "real"
    folder.mkdir()
    for path in source.glob("*.svs"):
        (folder / path.name).symlink_to(path.resolve())
    return folder


@pytest.mark.slow
def test_a_killed_run_resumes_and_ends_with_the_same_bytes(slides, complete_run, tmp_path):
    code = (
        "import sys; from pathlib import Path; from mcti.steps.extract import extract; "
        "from mcti.params import ExtractParams; extract(sys.argv[1], ExtractParams(workers=1), Path(sys.argv[2]))"
    )
    for seconds in (1.5, 2.0):
        process = subprocess.Popen([sys.executable, "-c", code, str(slides), str(tmp_path)])
        time.sleep(seconds)
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
    extract(slides, ExtractParams(), tmp_path)
    assert contents(tmp_path) == complete_run


def test_a_slide_past_its_time_limit_fails_without_affecting_others(slides, tmp_path):
    """The limit is checked before each region, of the overview as of the tiles."""
    params = ExtractParams(slide_minutes=1e-9, max_failed_slides_share=1.0)
    result = extract(slides, params, tmp_path)
    assert result.statuses == {"TIMED_OUT": 3}
    assert sorted(contents(tmp_path)) == ["contact-sheet-1.jpg", "result.json", "slides.csv"]


def test_the_heartbeat_file_states_the_progress_during_the_run(slides, tmp_path, monkeypatch):
    states, reports = [], []

    def report(*values):
        states.append(json.loads((tmp_path / "heartbeat-0-of-1.json").read_text()))
        reports.append(values)

    monkeypatch.setattr(heartbeat, "EVERY_SECONDS", 0.05)
    extract(slides, ExtractParams(workers=1), tmp_path, shard=(0, 1), progress=report)
    assert states[-1]["slides"] == 3
    assert any(state["working"] for state in states)
    assert (reports[0][:3], reports[-1][:3]) == ((0, 3, "slides"), (3, 3, "slides"))
    assert not (tmp_path / "heartbeat-0-of-1.json").exists()


def test_finished_blocks_of_a_large_slide_are_not_encoded_again_after_an_interruption(
    slides, complete_run, tmp_path, monkeypatch
):
    """With blocks of 20 tiles instead of 4,096, the interruption is in the third."""
    monkeypatch.setattr(tile_blocks, "_BLOCK", 20)
    read, count = TileSource.read, []

    def stopping(self, x, y, buffer):
        count.append((x, y))
        if len(count) == 45:
            raise KeyboardInterrupt
        return read(self, x, y, buffer)

    folder = tmp_path / "slides"
    folder.mkdir()
    shutil.copy(slides / "P2.tif", folder)
    monkeypatch.setattr(TileSource, "read", stopping)
    with pytest.raises(KeyboardInterrupt):
        extract(folder, ExtractParams(workers=1), tmp_path / "out")
    assert len(list((tmp_path / "out").glob(".P2.*.blocks/*.npz"))) == 2
    before = len(count)
    extract(folder, ExtractParams(workers=1), tmp_path / "out")
    assert len(set(count[before:]) & set(count[:40])) == 0
    assert (tmp_path / "out" / "P2.h5").read_bytes() == complete_run["P2.h5"]
    assert not list((tmp_path / "out").glob(".P2*"))


@pytest.mark.slow
def test_finished_blocks_survive_a_sigkill(slides, complete_run, tmp_path, monkeypatch):
    code = (
        "import sys, time; from pathlib import Path; from mcti.slides import tile_blocks; "
        "from mcti.slides.tiles import TileSource; from mcti.steps.extract import extract; "
        "from mcti.params import ExtractParams; tile_blocks._BLOCK = 20; read = TileSource.read; "
        "TileSource.read = lambda self, x, y, buffer: (time.sleep(0.05), read(self, x, y, buffer))[1]; "
        "extract(sys.argv[1], ExtractParams(workers=1), Path(sys.argv[2]))"
    )
    out = tmp_path / "out"
    process = subprocess.Popen([sys.executable, "-c", code, str(slides / "P2.tif"), str(out)])
    wait_for_file(out, ".P2.*.blocks/*.npz", process, count=2)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    read, count = TileSource.read, []
    monkeypatch.setattr(tile_blocks, "_BLOCK", 20)
    monkeypatch.setattr(TileSource, "read", lambda self, x, y, _: (count.append((x, y)), read(self, x, y))[1])
    extract(slides / "P2.tif", ExtractParams(workers=1), out)
    candidates = pd.read_csv(out / "slides.csv")["tiles"].item()
    assert len(count) <= candidates - 20  # at least the second block was not read again
    assert (out / "P2.h5").read_bytes() == complete_run["P2.h5"]


def test_a_deleted_preview_is_drawn_again_without_reading_tiles(slides, complete_run, tmp_path, monkeypatch):
    extract(slides, ExtractParams(), tmp_path)
    (tmp_path / "previews" / "P1.jpg").unlink()
    monkeypatch.setattr(TileSource, "read", lambda *_: pytest.fail("a tile was read"))
    extract(slides, ExtractParams(), tmp_path)
    assert contents(tmp_path) == complete_run


def test_shards_are_merged_from_the_command_line(slides, complete_run, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for i in range(2):
        assert (
            command_context.run_app(app, ["extract", "--slides", str(slides), "--out", "out", "--shard", f"{i}/2"]) == 0
        )
    assert command_context.run_app(app, ["features", "merge", "out"]) == 0
    assert contents(tmp_path / "out") == complete_run
    assert command_context.run_app(app, ["features", "merge", "out"]) == 3
    assert "no tables of shards" in capsys.readouterr().err
