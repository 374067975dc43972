"""The benchmark of a GPU on the CPU: every part runs, and the numbers of both sides agree."""

import sys
import time

import pytest
import torch

from benchmarks import gpu

SIZES = gpu.SMALL


@pytest.mark.slow
def test_every_part_runs_without_a_gpu_and_the_numbers_agree():
    lines = gpu.report(SIZES, torch.device("cpu"), 1, None, time.monotonic() + 3600)
    assert [line.name for line in lines] == [
        "paper, step on cpu", "compact, step on cpu", "busy, core of the CPU", "encoder on cpu", "sinkhorn on cpu",
    ]  # fmt: skip
    compared = {line.name: line.gap for line in lines if line.gap is not None}
    assert len(compared) == 3
    assert all(gap <= gpu.TOLERANCE for gap in compared.values())


def test_parts_after_the_end_are_listed_as_not_measured():
    lines = gpu.report(SIZES, torch.device("cpu"), 1, None, time.monotonic() - 1)
    assert len(lines) == 5
    assert all(line.measured.startswith("not measured") for line in lines)


@pytest.mark.parametrize(("gap", "status"), [(9e-4, 0), (2e-3, 1), (float("nan"), 1)])
def test_other_numbers_end_with_an_error(monkeypatch, capsys, gap, status):
    monkeypatch.setattr(sys, "argv", ["gpu"])
    monkeypatch.setattr(gpu, "report", lambda *_: [gpu.Line("a step", "1 s", gap)])
    assert gpu.main() == status
    assert ("a step" in capsys.readouterr().err) == bool(status)


def test_the_encoder_has_the_size_of_vit_large_with_patches_of_14_px():
    """ViT-L has 304 million weights (Dosovitskiy et al. 2021, table 1: 307 million with 16 px and its classifier)."""
    with torch.device("meta"):
        net = gpu.Encoder(gpu.Sizes().tokens_width, gpu.Sizes().depth)
    assert sum(weights.numel() for weights in net.parameters()) == pytest.approx(303e6, rel=0.01)


def test_the_encoder_reads_tiles_in_the_layout_of_the_reader():
    torch.manual_seed(0)
    net = gpu.Encoder(64, 1).eval().bfloat16()
    tiles = torch.randint(0, 255, (3, 224, 224, 3), dtype=torch.uint8)
    rows = gpu.encode(net, tiles.numpy(), torch.device("cpu"))
    expected = net((tiles.permute(0, 3, 1, 2).to(torch.bfloat16) / 255).contiguous())
    torch.testing.assert_close(rows, expected, rtol=0.05, atol=0.05)
