"""A task that requires a GPU on an image or a node without one ends with an error before any work."""

import pytest
import torch

from mcti.errors import OperationalError
from mcti.params import SearchParams, TrainParams
from mcti.steps.search.step import search
from mcti.steps.train import train
from mcti.training import devices


@pytest.fixture(params=[(None, "is a CPU build"), ("13.0", "no GPU is visible")])
def message(request, monkeypatch):
    """The error message of an image for CPUs, and of one for GPUs on a node without a GPU."""
    built, words = request.param
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.version, "cuda", built)
    return words


def test_training_and_search_refuse_before_they_read_anything(message, tmp_path):
    """No input exists, but the error is about the GPU."""
    nowhere, cuda = tmp_path / "nowhere", TrainParams(device="cuda")
    with pytest.raises(OperationalError, match=message) as caught:
        train(nowhere, nowhere, nowhere, cuda, tmp_path / "out")
    assert "use the image of target gpu on a node with a GPU" in str(caught.value)
    with pytest.raises(OperationalError, match=message):
        search(nowhere, nowhere, nowhere, SearchParams(), cuda, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_auto_and_cpu_need_no_gpu(message):
    devices.require_device("auto")
    devices.require_device("cpu")
