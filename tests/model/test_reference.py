import json
import pickle
import re
from pathlib import Path

import numpy as np
import pytest
import torch

from mcti.errors import DataError, UsageError
from mcti.model import reference, reference_keys
from mcti.model.network import MCTI
from mcti.model.presets import ModelConfig
from tests.model import reference_numpy, reference_state
from tests.model.cases import config, network

PAGE = Path(__file__).parents[3] / "shared" / "docs" / "reference-keys.md"


def patient(seed=1, patches=20, features=12, genes=7):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(1, patches, features, generator=generator), torch.randn(1, genes, generator=generator)


def converted(state, **overrides):
    converted = reference.translate(state)
    net = MCTI(converted.config.__class__(**{**vars(converted.config), **overrides})).eval()
    net.load_state_dict(converted.weights, strict=True)
    return converted, net


@pytest.mark.skipif(not PAGE.exists(), reason="the project's shared key list is not on this machine")
def test_the_double_has_the_keys_and_shapes_of_the_published_reference():
    """Oracle: the key list, pattern by pattern; and its total of 1,745,587,532 distinct parameters."""
    shapes = reference_state.shapes(**reference_state.LARGE, genes=1558)
    first = {key: shape for key, shape in shapes.items() if not key.startswith(("WSI_encode.i_", "WSI_encode.b_"))}
    assert len(shapes) == 723
    assert sum(int(np.prod(shape)) for shape in first.values()) == 1_745_587_532
    converted = {}
    for key, shape in first.items():
        converted.setdefault(reference_keys.pattern(key), []).append(shape)
    for pattern, times, allowed in reference_state.documented_patterns(PAGE):
        mine = converted[pattern]
        assert (len(mine), set(mine)) == (times, set(allowed)), pattern


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("measure", ["entropy", "kl"])
def test_the_converted_network_gives_the_references_numbers(seed, measure):
    """Oracle: tests/model/reference_numpy.py reading the same state dict in float64; mcti runs in float32."""
    state = reference_state.state(seed)
    _, net = converted(state, gene_measure=measure)
    patches, genes = patient(seed)
    arrays = {key: value.double().numpy() for key, value in state.items() if "fcc" not in key}
    expected = reference_numpy.forward(arrays, patches[0].numpy(), genes[0].numpy(), measure)
    mask = torch.ones(1, patches.shape[1], dtype=torch.bool)
    with torch.no_grad():
        got = net(patches, mask, genes)
        tokens = net.join(net.pathology(patches, mask), net.genomics(genes)[0])
        x, _, _ = net.streams(tokens)
    assert got.critical[0].tolist() == expected.critical
    np.testing.assert_allclose(x[0, 0], expected.tokens, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(got.gene_plan[0], expected.plan, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(got.subtype_logits[0], expected.subtype_logits, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(got.hazard_logits[0], expected.hazard_logits, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(got.survival[0], expected.survival, rtol=1e-4, atol=1e-4)


def test_every_key_is_used_an_alias_or_unused_with_a_reason():
    state = reference_state.state()
    converted = reference.translate(state)
    groups = [set(converted.used), set(converted.aliases), set(converted.unused)]
    assert set.union(*groups) == set(state)
    assert sum(map(len, groups)) == len(state)
    assert all(converted.unused.values())
    report = converted.report(state)
    assert report["used_parameters"] == sum(weight.numel() for weight in converted.weights.values())


@pytest.mark.parametrize("guides", reference_keys.GUIDES)
def test_the_unused_keys_are_those_of_the_published_count_and_two_mixes_per_decoder_stage(guides):
    """1,275,356,163 by the key list: fcc, W_q, W_k, W_o, gene_bias, last fusion_net; the maths page adds the mixes."""
    shapes = reference_state.shapes(**reference_state.LARGE, genes=1558)
    unused = reference.translate(reference_state.state(), guides=guides).unused
    counted = sum(int(np.prod(shapes[key])) for key in unused)
    mixes = [key for key, reason in unused.items() if reason == reference_keys.IDLE_MIX]
    assert len(mixes) == 2 * 2 * 2  # two mixes of a weight and a bias, in two stages
    assert sum(int(np.prod(shapes[key])) for key in mixes) == 12
    assert counted == 1_275_356_163 + 12
    assert "decoder_leyers.1.0.fusion_net.weight" in unused
    assert "decoder_leyers.0.0.fusion_net.weight" not in unused


def test_the_other_reading_of_the_mixes_takes_the_other_two():
    state = reference_state.state()
    swapped = {key.replace("fusion_x_", "fusion_") if "fusion_x_" in key else
               re.sub(r"fusion_(cls|surv)\.", r"fusion_x_\1.", key): value for key, value in state.items()}  # fmt: skip
    one, other = reference.translate(state).weights, reference.translate(swapped, guides="fusion").weights
    assert all(torch.equal(one[name], other[name]) for name in one)
    plain = reference.translate(state, guides="fusion").weights
    assert {name for name in one if not torch.equal(one[name], plain[name])} == {
        f"unet.decoder.{stage}.guides.{part}" for stage in (0, 1) for part in ("weight", "bias")
    }
    with pytest.raises(UsageError, match="did you mean fusion_x"):
        reference.translate(state, guides="fusion_y")


def test_every_used_key_influences_an_output_and_no_unused_key_does():
    """A change of one value of a used tensor changes an output; unused tensors are not read."""
    state = reference_state.state()
    arrays = {key: value.double().numpy().copy() for key, value in state.items() if "fcc" not in key}
    patches, genes = (part[0].numpy() for part in patient())
    before = reference_numpy.forward(arrays, patches, genes)
    converted = reference.translate(state)
    for key in converted.unused:
        if "fcc" not in key:
            moved = reference_numpy.forward(arrays | {key: arrays[key] + 1}, patches, genes)
            assert (moved.hazard_logits == before.hazard_logits).all(), key
    for key in ("decoder_leyers.0.0.fusion_net.bias", "decoder_leyers.1.0.fusion_x_surv.weight", "multi_head.W_v.bias"):
        moved = reference_numpy.forward(arrays | {key: arrays[key] + 1}, patches, genes)
        assert (moved.hazard_logits != before.hazard_logits).any(), key


def test_convert_writes_weights_configuration_and_report(tmp_path):
    torch.save(reference_state.state(), tmp_path / "reference.pt")
    reference.convert(tmp_path / "reference.pt", tmp_path / "out", genes=[f"N{number}" for number in range(7)])
    config = ModelConfig.from_json(json.dumps(json.loads((tmp_path / "out/model.json").read_text())["config"]))
    assert config.genes[0] == "N0"
    net, inputs = reference.load(tmp_path / "out"), (*patient()[:1], torch.ones(1, 20, dtype=torch.bool), patient()[1])
    expected = converted(reference_state.state())[1](*inputs)
    assert torch.equal(net(*inputs).hazard_logits, expected.hazard_logits)
    assert json.loads((tmp_path / "out/conversion.json").read_text())["unused"]["gene_bias"] == "never added"


def test_a_checkpoint_written_before_zip_archives_is_read_too(tmp_path):
    torch.save(reference_state.state(), tmp_path / "old.pt", _use_new_zipfile_serialization=False)
    assert reference.read_state(tmp_path / "old.pt").keys() == reference_state.state().keys()


def test_unknown_missing_and_misshapen_keys_are_named(tmp_path):
    state = reference_state.state()
    with pytest.raises(DataError, match=r"unknown key 'encoder_layers.0.0.wrong.weight'"):
        reference.translate(state | {"encoder_layers.0.0.wrong.weight": torch.zeros(1)})
    with pytest.raises(DataError, match=r"unknown key 'decoder_leyers.0.0.x_AB.layers.2"):
        reference.translate(state | {"decoder_leyers.0.0.x_AB.layers.2.0.norm.weight": torch.zeros(8)})
    key = "bottleneck.cls_TGAB.blocks.1.0.fn.to_k.weight"
    with pytest.raises(DataError, match=f"{key} is missing"):
        reference.translate({name: value for name, value in state.items() if name != key})
    with pytest.raises(DataError, match=key):
        reference.translate(state | {key: torch.zeros(8, 9)})
    for unused in ("gene_bias", "multi_head.W_o.weight", "decoder_leyers.0.0.fusion_cls.weight"):
        with pytest.raises(DataError, match=unused):
            reference.translate(state | {unused: torch.zeros(3, 3)})
    with pytest.raises(DataError, match="alias"):
        reference.translate(state | {"WSI_encode.i_classifier.fc.0.bias": torch.full((2,), 9.0)})
    with pytest.raises(DataError, match="7 inputs"):
        reference.translate(state, genes=["A"])


class Payload:
    def __reduce__(self):
        return (print, ("executed",))


@pytest.mark.parametrize("content", [{"a": Payload()}, [1, 2], {"a": 3}, {}, {1: torch.zeros(1)}])
def test_anything_but_a_state_dict_is_refused_and_never_executed(tmp_path, capsys, content):
    torch.save(content, tmp_path / "bad.pt")
    with pytest.raises(DataError, match=r"bad\.pt"):
        reference.convert(tmp_path / "bad.pt", tmp_path / "out")
    assert capsys.readouterr().out == ""
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("raw", [b"", b"not a checkpoint", b"PK\x03\x04 broken", pickle.dumps({"a": 1})])
def test_a_file_that_is_no_checkpoint_is_refused(tmp_path, raw):
    (tmp_path / "bad.pt").write_bytes(raw)
    with pytest.raises(DataError):
        reference.convert(tmp_path / "bad.pt", tmp_path / "out")
    with pytest.raises(DataError):
        reference.convert(tmp_path / "missing.pt", tmp_path / "out")


def test_the_error_of_a_pickle_payload_names_the_function_that_it_calls(tmp_path):
    torch.save({"a": Payload()}, tmp_path / "bad.pt")
    with pytest.raises(DataError, match=r"a pickle that calls \S*print, which tensors need not"):
        reference.read_state(tmp_path / "bad.pt")


def test_wrapped_checkpoints_are_told_how_to_unwrap_them(tmp_path):
    torch.save({"state_dict": reference_state.state(), "epoch": 3}, tmp_path / "nested.pt")
    with pytest.raises(DataError, match=r"entry 'state_dict' is a mapping.*save it alone"):
        reference.read_state(tmp_path / "nested.pt")
    with pytest.raises(DataError, match=r"prefix `module.` of DataParallel"):
        reference.translate({f"module.{key}": value for key, value in reference_state.state().items()})


def test_sparse_tensors_and_numbers_that_are_none_are_refused(tmp_path):
    key = "cls_head.1.weight"
    torch.save(reference_state.state() | {key: torch.zeros(2, 8).to_sparse()}, tmp_path / "sparse.pt")
    with pytest.raises(DataError, match=rf"{key}' is a sparse tensor"):
        reference.read_state(tmp_path / "sparse.pt")
    with pytest.raises(DataError, match=rf"{key} contains NaN or infinity"):
        reference.translate(reference_state.state() | {key: torch.full((2, 8), torch.nan)})


def test_a_part_without_keys_is_the_files_fault():
    """Exit code 3, not 2, because the command is correct."""
    shallow = {key: value for key, value in reference_state.state().items() if not key.startswith("decoder_leyers")}
    with pytest.raises(DataError, match="decoder_depths"):
        reference.translate(shallow)
    with pytest.raises(DataError, match="'A' is named twice"):
        reference.translate(reference_state.state(), genes=["A"] * 7)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_weights_of_another_precision_become_float32(dtype):
    state = {key: value.to(dtype) for key, value in reference_state.state().items()}
    weights = reference.translate(state).weights
    assert {tensor.dtype for tensor in weights.values()} == {torch.float32}
    assert torch.equal(weights["subtype_head.out.bias"], state["cls_head.1.bias"].float())


def test_a_checkpoint_of_another_preset_is_refused(tmp_path):
    torch.save(network(config()).state_dict(), tmp_path / "ours.pt")
    with pytest.raises(DataError, match="unknown key"):
        reference.convert(tmp_path / "ours.pt", tmp_path / "out")
