"""`extract.source: import`: a status for every slide of the table, stored origin, reuse, the same bytes in shards."""

import json
import typing
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import pytest
import torch

from mcti.components.utilities.cache_keys import cache_keys
from mcti.errors import DataError, UsageError
from mcti.params import ExtractParams, ImportParams, from_json
from mcti.slides import exchange, features
from mcti.slides.portable import PortableFeatures
from mcti.steps.extract import extract, merge_shards
from mcti.steps.merge import merge

SETTINGS = {"format": "pt", "encoder": "uni", "mpp": 0.5, "patch_size": 256}


def params(folder: Path, share: float = 1.0, **changed) -> ExtractParams:
    section = {"source": "import", "import": SETTINGS | {"path": str(folder)} | changed}
    return ExtractParams.model_validate(section | {"max_failed_slides_share": share})


@pytest.fixture
def folder(tmp_path):
    """Features (5, 4) of the slides S0 to S3; the table below has no row of S3, and a row of S9."""
    source = tmp_path / "ready made"
    source.mkdir()
    for i in range(4):
        torch.save(torch.full((5, 4), float(i)) + torch.arange(4), source / f"S{i}.pt")
    return source


@pytest.fixture
def slides(tmp_path):
    """A table without the column path."""
    table = pd.DataFrame({"patient_id": ["P0", "P0", "P2", "P9"], "slide_id": ["S0", "S1", "S2", "S9"]})
    table.to_csv(tmp_path / "slides.csv", index=False)
    return tmp_path / "slides.csv"


def contents(out: Path) -> dict[str, bytes]:
    return {str(path.relative_to(out)): path.read_bytes() for path in sorted(out.rglob("*")) if path.is_file()}


def table(out: Path) -> pd.DataFrame:
    return pd.read_csv(out / "slides.csv", index_col="slide_id", keep_default_na=False)


def test_every_slide_has_a_status_and_its_file_states_encoder_resolution_and_patch_size(folder, slides, tmp_path):
    result = extract(slides, params(folder), tmp_path / "out")
    assert result.statuses == {"NO_FEATURES": 1, "OK": 3}
    assert (result.tiles, result.encoder) == (15, "uni")
    assert dict(table(tmp_path / "out")["status"]) == {"S0": "OK", "S1": "OK", "S2": "OK", "S9": "NO_FEATURES"}
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        *("S0.h5", "S1.h5", "S2.h5", "result.json", "slides.csv")
    ]
    slide = features.read_slide(tmp_path / "out" / "S1.h5")
    np.testing.assert_array_equal(slide.features, np.ones((5, 4)) + np.arange(4))
    assert slide.provenance == {"encoder": "uni", "target_mpp": 0.5, "target_patch_size": 256, "level": "patch"}
    assert slide.coordinates is None


def test_coverage_is_logged_at_the_start(folder, slides, tmp_path, caplog):
    caplog.set_level("INFO", logger="mcti")
    extract(slides, params(folder), tmp_path / "out")
    assert (
        "3 entries of the set belong to the table of slides; 1 slides have no features (S9); "
        "1 entries belong to no slide (S3)"
    ) in caplog.text


def test_too_many_slides_without_a_file_end_with_a_data_error_that_names_the_first(folder, slides, tmp_path):
    with pytest.raises(DataError, match="1 of 4 slides failed, the first S9: NO_FEATURES"):
        extract(slides, params(folder, share=0.2), tmp_path / "out")
    assert len(table(tmp_path / "out")) == 4


def test_unchanged_files_are_reused_a_changed_one_is_imported_and_a_removed_one_is_deleted(folder, slides, tmp_path):
    out = tmp_path / "out"
    extract(slides, params(folder), out)
    before = contents(out)
    assert extract(slides, params(folder), out).extracted == 1  # S9, which has no file
    assert contents(out) == before
    torch.save(torch.zeros(7, 4), folder / "S0.pt")
    (folder / "S2.pt").unlink()
    assert extract(slides, params(folder), out).statuses == {"NO_FEATURES": 2, "OK": 2}
    assert table(out).loc["S0", "tiles"] == 7
    assert contents(out)["S1.h5"] == before["S1.h5"]
    assert not (out / "S2.h5").exists()


@pytest.mark.parametrize("changed", [{"encoder": "conch"}, {"mpp": 1.0}, {"patch_size": 512}, {"mpp": "unknown"}])
def test_other_settings_give_other_files(folder, slides, tmp_path, changed):
    extract(slides, params(folder), tmp_path / "out")
    before = features.read_info(tmp_path / "out" / "S0.h5")
    assert extract(slides, params(folder, **changed), tmp_path / "out").extracted == 4
    assert features.read_info(tmp_path / "out" / "S0.h5").key != before.key


def test_a_copy_of_the_folder_gives_the_same_bytes(folder, slides, tmp_path):
    extract(slides, params(folder), tmp_path / "one")
    extract(slides, params(folder.rename(tmp_path / "moved")), tmp_path / "other")
    assert contents(tmp_path / "one") == contents(tmp_path / "other")


def test_merged_shards_are_the_output_of_one_run(folder, slides, tmp_path):
    extract(slides, params(folder), tmp_path / "whole")
    for i in range(3):
        extract(slides, params(folder), tmp_path / f"part {i}", shard=(i, 3))
    merge([tmp_path / f"part {i}" for i in range(3)], tmp_path / "merged")
    merge_shards(tmp_path / "merged", params(folder), 3)
    assert contents(tmp_path / "merged") == contents(tmp_path / "whole")


def test_a_broken_file_is_the_error_of_its_slide(folder, slides, tmp_path):
    (folder / "S1.pt").write_bytes(b"no tensor")
    assert extract(slides, params(folder), tmp_path / "out").statuses == {"NO_FEATURES": 1, "OK": 2, "READ_ERROR": 1}
    reason = table(tmp_path / "out").loc["S1", "reason"]
    assert "not a tensor file" in reason
    assert "S1.pt" in reason


def test_values_declared_unknown_are_not_stored(folder, slides, tmp_path):
    settings = params(folder, encoder="unknown", mpp="unknown", patch_size="unknown")
    extract(slides, settings, tmp_path / "out")
    assert features.read_slide(tmp_path / "out" / "S0.h5").provenance == {"encoder": "unknown", "level": "patch"}


def trident(folder: Path, **attributes) -> None:
    """One slide as TRIDENT has it: 2 patches of 512 px at level 0 (0.25 µm/px), 256 px at 0.5 µm/px."""
    folder.mkdir()
    grid = {"patch_size": 256, "patch_size_level0": 512, "level0_width": 2048, "level0_height": 1024}
    slide = PortableFeatures(
        "S0", np.eye(2, 4, dtype=np.float32), np.array([[0, 0], [512, 0]]), grid, {"mpp_x": 0.25} | attributes
    )
    exchange.write_slide(slide, folder, "trident")
    with h5py.File(folder / "S0.h5", "a") as file:
        file.attrs.update({"mpp_x": 0.25} | attributes)


@pytest.mark.parametrize(
    ("changed", "attributes", "reason"),
    [
        ({"patch_size": 512}, {}, "the file states patch_size 256, extract.import.patch_size is 512"),
        ({"mpp": 1.0}, {}, "the file states mpp 0.5, extract.import.mpp is 1.0"),
        ({"encoder": "uni"}, {"encoder": "conch"}, "the file states encoder conch, extract.import.encoder is uni"),
        ({"encoder": "UNI", "mpp": 0.48}, {"encoder": "uni"}, ""),
    ],
)
def test_a_file_that_contradicts_the_settings_is_refused(slides, tmp_path, changed, attributes, reason):
    trident(tmp_path / "trident", **attributes)
    settings = params(tmp_path / "trident", format="trident", **changed)
    extract(slides, settings, tmp_path / "out")
    row = table(tmp_path / "out").loc["S0"]
    assert row["status"] == ("CONFLICTING_FEATURES" if reason else "OK")
    assert row["reason"].startswith(reason)
    assert (tmp_path / "out" / "S0.h5").exists() != bool(reason)


def test_what_the_file_states_is_stored_where_the_settings_declare_it_unknown(slides, tmp_path):
    trident(tmp_path / "trident", encoder="conch")
    settings = params(tmp_path / "trident", format="trident", encoder="unknown", mpp="unknown", patch_size="unknown")
    extract(slides, settings, tmp_path / "out")
    provenance = features.read_slide(tmp_path / "out" / "S0.h5").provenance
    assert provenance == {"encoder": "conch", "target_mpp": 0.5, "target_patch_size": 256, "level": "patch"}


def test_stamp_takes_the_mpp_of_each_slide_from_the_table(tmp_path):
    """Tiles of 256 µm: the corner at 512 µm is pixel 2048 at 0.25 µm/px and pixel 1024 at 0.5 µm/px."""
    (tmp_path / "stamp").mkdir()
    for name in ("S0", "S1", "S2"):
        with h5py.File(tmp_path / "stamp" / f"{name}.h5", "w") as file:
            file["feats"], file["coords"] = np.eye(2, 4, dtype=np.float16), np.array([[0.0, 0.0], [512.0, 0.0]])
            file.attrs.update({"unit": "um", "tile_size_um": 256.0, "tile_size_px": 512})
    rows = {"patient_id": ["P0", "P1", "P2"], "slide_id": ["S0", "S1", "S2"], "mpp": [0.25, 0.5, None]}
    pd.DataFrame(rows).to_csv(tmp_path / "slides.csv", index=False)
    settings = params(tmp_path / "stamp", format="stamp", patch_size=512)
    extract(tmp_path / "slides.csv", settings, tmp_path / "out")
    corners = [features.read(tmp_path / "out" / f"{name}.h5")[1][1, 0] for name in ("S0", "S1")]
    assert corners == [2048, 1024]
    assert table(tmp_path / "out").loc["S2", "status"] == "MISSING_MPP"


def test_features_of_the_other_command_are_not_overwritten(folder, slides, tmp_path):
    from mcti.steps.exchange import import_features

    (folder / "S3.pt").unlink()
    import_features(folder, "pt", tmp_path / "out")
    before = contents(tmp_path / "out")["S0.h5"]
    extract(slides, params(folder), tmp_path / "out")
    assert table(tmp_path / "out").loc["S0", "status"] == "READ_ERROR"
    assert contents(tmp_path / "out")["S0.h5"] == before


def test_a_set_of_one_table_and_vectors_of_patients(tmp_path):
    """Rows by patient: one file for all slides of a patient."""
    rows = {"patient_id": ["P0", "P1"], "features": [[1.0, 2.0], [3.0, 4.0]]}
    pd.DataFrame(rows).to_parquet(tmp_path / "set.parquet")
    pd.DataFrame({"patient_id": ["P0", "P0", "P1", "P2"], "slide_id": ["S0", "S1", "S2", "S3"]}).to_csv(
        tmp_path / "slides.csv", index=False
    )
    settings = params(tmp_path / "set.parquet", format="parquet")
    assert extract(tmp_path / "slides.csv", settings, tmp_path / "out").statuses == {"NO_FEATURES": 1, "OK": 2}
    assert dict(table(tmp_path / "out")["patient_id"]) == {"P0": "P0", "P1": "P1", "S3": "P2"}
    assert features.read(tmp_path / "out" / "P1.h5")[0].tolist() == [[3.0, 4.0]]


def test_a_set_that_mixes_widths_is_refused_after_the_table_is_written(folder, slides, tmp_path):
    torch.save(torch.zeros(5, 3), folder / "S1.pt")
    with pytest.raises(DataError, match=r"the set mixes values of number of features.*S1"):
        extract(slides, params(folder), tmp_path / "out")
    assert (tmp_path / "out" / "slides.csv").exists()


def test_an_import_that_is_not_described_and_an_unknown_format_are_refused():
    with pytest.raises(UsageError, match=r"key import: write its keys format, path, encoder, mpp and patch_size"):
        from_json(ExtractParams, '{"source": "import"}', "parameter extract")
    section = {"source": "import", "import": {"format": "pt", "path": "x", "mpp": 1.0, "patch_size": 1}}
    with pytest.raises(UsageError, match=r"key import\.encoder"):
        from_json(ExtractParams, json.dumps(section), "parameter extract")
    section["import"] |= {"encoder": "uni", "format": "tridnt"}
    with pytest.raises(UsageError, match=r"'tridnt' does not fit in parameter extract, key import\.format"):
        from_json(ExtractParams, json.dumps(section), "parameter extract")


def test_the_setting_names_the_formats_of_the_readers():
    assert typing.get_args(ImportParams.model_fields["format"].annotation) == exchange.FORMATS


def test_slides_as_the_source_still_require_a_path(slides, tmp_path):
    with pytest.raises(DataError, match="column 'path' is missing"):
        extract(slides, ExtractParams(), tmp_path / "out")
    slides.write_text("patient_id,slide_id,path\nP0,S0,\n")
    with pytest.raises(DataError, match=r"path is empty.*or set extract\.source: import"):
        extract(slides, ExtractParams(), tmp_path / "out")


def test_the_cache_key_of_the_features_changes_with_a_file(folder):
    def keys(section: ExtractParams) -> tuple[str, ...]:
        text = section.model_dump_json(by_alias=True)
        return cache_keys.python_func("md5", "{}", text, "{}", "{}", "{}", "{}")

    before = keys(params(folder))
    assert keys(params(folder)) == before
    torch.save(torch.zeros(7, 4), folder / "S0.pt")
    after = keys(params(folder))
    assert after[0] == before[0]  # the cohort
    assert all(new != old for new, old in zip(after[1:], before[1:], strict=True))
