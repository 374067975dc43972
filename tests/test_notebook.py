"""The notebook of docs/ runs from its first to its last cell, and its figures and tables are the expected ones."""

from pathlib import Path

import matplotlib.image
import nbformat
import pandas as pd
import pytest
from nbclient import NotebookClient

NOTEBOOK = Path(__file__).parents[1] / "docs/notebooks/features-to-kaplan-meier.ipynb"


@pytest.fixture(scope="module")
def executed(tmp_path_factory):
    """The executed notebook and its working folder."""
    folder = tmp_path_factory.mktemp("a notebook")
    with pytest.MonkeyPatch.context() as patch:
        for name in ("IPYTHONDIR", "JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR"):
            patch.setenv(name, str(tmp_path_factory.mktemp(name.lower())))
        patch.setenv("OMP_NUM_THREADS", "1")
        notebook = nbformat.read(NOTEBOOK, as_version=4)
        NotebookClient(
            notebook, timeout=1200, kernel_name="python3", resources={"metadata": {"path": str(folder)}}
        ).execute()
    return notebook, folder


def outputs(notebook, words):
    """The outputs of the cell that contains the words, by their media type."""
    (cell,) = [cell for cell in notebook.cells if cell.cell_type == "code" and words in cell.source]
    return {name: data for one in cell.outputs for name, data in one.get("data", {}).items()}


@pytest.mark.slow
def test_every_cell_runs_and_the_last_figure_is_a_kaplan_meier_curve(executed):
    notebook, folder = executed
    assert all(cell.execution_count for cell in notebook.cells if cell.cell_type == "code")
    assert "image/png" in outputs(notebook, "evaluation.kaplan_meier()")
    assert "image/png" in outputs(notebook, "evaluation.calibration()")
    picture = matplotlib.image.imread(folder / "results/kaplan_meier.png")
    assert picture.shape[1] == 1050  # 7 inches of 150 dpi
    assert picture.std() > 0.05


@pytest.mark.slow
def test_the_results_are_those_of_the_written_files(executed):
    notebook, folder = executed
    c_index = eval(outputs(notebook, "evaluation.result.c_index,")["text/plain"])
    assert c_index[1] < c_index[0] < c_index[2]
    table = pd.read_csv(folder / "results/evaluation/predictions.csv")
    assert len(table) == 60
    assert "n_obs × n_vars = 12 × 16" in outputs(notebook, "read_anndata")["text/plain"]
    assert "P001" in outputs(notebook, "predictions.T")["text/plain"]


def test_the_stored_notebook_has_no_outputs():
    for cell in nbformat.read(NOTEBOOK, as_version=4).cells:
        assert not cell.get("outputs")
        assert cell.get("execution_count") is None
