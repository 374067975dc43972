"""The step `merge`: the files of parallel tasks in one folder."""

import pytest

from mcti.errors import DataError
from mcti.steps.merge import merge


def part(folder, **files):
    folder.mkdir()
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text, encoding="utf-8")
    return folder


def test_the_files_of_all_parts_are_in_one_folder_without_the_results_of_the_parts(tmp_path):
    first = part(tmp_path / "a", **{"fold_0/model.json": "{0}", "result.json": "1"})
    second = part(tmp_path / "b", **{"fold_1/model.json": "{1}", "result.json": "2"})
    result = merge([first, second], tmp_path / "out")
    assert (result.parts, result.files) == (2, 2)
    names = sorted(path.relative_to(tmp_path / "out").as_posix() for path in (tmp_path / "out").rglob("*.json"))
    assert names == ["fold_0/model.json", "fold_1/model.json"]
    assert (tmp_path / "out/fold_1/model.json").read_text(encoding="utf-8") == "{1}"


def test_checkpoints_that_two_tasks_left_are_no_results(tmp_path):
    lock = ".work/pretraining_0/lock"
    parts = [part(tmp_path / name, **{f"fold_{k}/model.json": name, lock: ""}) for k, name in enumerate("ab")]
    assert merge(parts, tmp_path / "out").files == 2
    assert not (tmp_path / "out" / ".work").exists()


def test_two_parts_with_the_same_file_name_are_refused_and_nothing_is_written(tmp_path):
    parts = [part(tmp_path / name, **{"S-1.h5": name}) for name in "ab"]
    with pytest.raises(DataError, match=r"same name in .*a/S-1\.h5 and .*b/S-1\.h5"):
        merge(parts, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_no_parts_are_refused(tmp_path):
    with pytest.raises(DataError, match="no parts"):
        merge([], tmp_path / "out")
