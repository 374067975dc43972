"""Tables of slides and sets of features of users."""

import numpy as np
import pandas as pd
import pytest
import torch

from mcti.errors import DataError
from mcti.project import slide_sets
from mcti.slides import exchange
from mcti.slides.portable import PortableFeatures

IDS = {"P-1", "P-10", "TCGA-AA-0001"}


def test_patients_are_the_longest_id_that_starts_the_name():
    table = slide_sets.of_names(dict.fromkeys(["P-1_a", "P-10-b", "P-100", "TCGA-AA-0001-01Z-00-DX1"], ""), IDS, "x")
    assert table.to_dict("records") == [
        {"patient_id": "P-1", "slide_id": "P-1_a"},
        {"patient_id": "P-10", "slide_id": "P-10-b"},
        {"patient_id": "TCGA-AA-0001", "slide_id": "TCGA-AA-0001-01Z-00-DX1"},
    ]


def test_a_table_with_other_names_and_relative_paths(tmp_path):
    pd.DataFrame({"case_id": ["P-1"], "Filename": ["a.svs"], "path": ["s/a.svs"]}).to_csv(
        tmp_path / "t.csv", index=False
    )
    proposal = slide_sets.propose_table(str(tmp_path / "t.csv"), IDS)
    assert proposal.table.to_dict("records") == [
        {"patient_id": "P-1", "slide_id": "a.svs", "path": str(tmp_path / "s/a.svs")}
    ]


def test_a_folder_of_slides(tmp_path):
    for name in ("P-1_x.svs", "notes.txt", "other.svs"):
        (tmp_path / name).write_bytes(b"")
    proposal = slide_sets.propose_table(str(tmp_path), IDS)
    assert proposal.table.to_dict("records") == [
        {"patient_id": "P-1", "slide_id": "P-1_x", "path": str(tmp_path / "P-1_x.svs")}
    ]


@pytest.mark.parametrize("name", ["trident", "clam", "stamp", "pt"])
def test_the_format_is_that_of_the_files_and_they_state_their_settings(tmp_path, name):
    """Sets that the product exports itself."""
    grid = {"patch_size": 256, "patch_size_level0": 512, "level0_width": 4096, "level0_height": 4096}
    attributes = {"encoder": "uni_v2", "mpp_x": 0.25, "mpp_y": 0.25, "target_mpp": 0.5, "target_patch_size": 256}
    coords = np.array([[0, 0], [512, 512]])
    slide = PortableFeatures("S1", np.ones((2, 8), np.float32), coords, grid, attributes)
    folder = tmp_path / "features_uni_v2"  # TRIDENT states the encoder in this name
    exchange.write_slide(slide, folder, name)
    proposal = slide_sets.propose_features(str(folder), {})
    assert (proposal.settings["format"], proposal.names, proposal.width) == (name, ("S1",), 8)
    if name == "trident":
        assert (proposal.settings["encoder"], proposal.settings["patch_size"]) == ("uni_v2", 256)
    if name == "pt":
        assert {proposal.settings[key] for key in ("encoder", "mpp", "patch_size")} == {"unknown"}


def test_stated_values_precede_those_of_the_files(tmp_path):
    torch.save(torch.ones(3, 4), tmp_path / "S1.pt")
    proposal = slide_sets.propose_features(str(tmp_path), {"encoder": "conch", "mpp": 0.5})
    assert proposal.settings == {"format": "pt", "path": str(tmp_path), "encoder": "conch", "mpp": 0.5,
                              "patch_size": "unknown"}  # fmt: skip


def test_no_features_is_one_error(tmp_path):
    (tmp_path / "a.txt").write_text("")
    with pytest.raises(DataError, match=r"no format fits.*--features-format"):
        slide_sets.propose_features(str(tmp_path), {})
    with pytest.raises(DataError, match="no such file or folder"):
        slide_sets.propose_features(str(tmp_path / "absent"), {})


def test_a_folder_without_slides_is_one_error(tmp_path):
    with pytest.raises(DataError, match=r"the folder has no slide file .*\.svs"):
        slide_sets.propose_table(str(tmp_path), {"P1"})
