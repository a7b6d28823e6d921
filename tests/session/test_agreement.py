"""``check``: a sound build agrees with onnxruntime, and a planted fault is found in the tensor it first changes."""

from dataclasses import replace

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

import npusim
from isa.instruction import UNITS_PER_CORE, Unit
from isa.instructions import Sync
from npusim import axmodel, graph
from npusim.compiler import observe
from npusim.errors import UsageError
from npusim.session import agreement, probes
from npusim.session.agreement import check, inner_tensors
from npusim.session.machine import hardware_of
from tests.graph.tiny import Builder, random_feeds
from tests.session.small import altered, with_fault


@pytest.mark.parametrize("npu_mode", ["NPU1", "NPU3"])
def test_a_sound_build_agrees_in_every_tensor(several, npu_mode):
    found = check(several, npusim.build(several, npu_mode=npu_mode).axmodel)
    assert found.agrees
    assert found.note == ""
    names = {value.name for value in several.graph.output}
    assert {output.tensor for output in found.outputs} == names
    assert found.compared > len(names)


def test_the_inner_tensors_are_those_both_sides_have(chain):
    names = inner_tensors(graph.load(chain), chain)
    quantized = [node.output[0] for node in chain.graph.node if node.op_type == "QuantizeLinear"]
    assert names == quantized[:-1]


@pytest.mark.parametrize("layer", range(4))
def test_a_fault_in_the_parameters_is_found_where_it_first_shows(chain, chain_built, layer):
    """What the altered model computes is known from onnxruntime, so the report is known to the last number."""
    tensors = [node.output[0] for node in chain.graph.node if node.op_type == "QuantizeLinear"]
    inner = inner_tensors(graph.load(chain), chain)
    feeds = random_feeds(chain, seed=7)
    wrong, right = (
        agreement.onnxruntime_values(m, feeds, inner)[tensors[layer]] for m in (altered(chain, layer), chain)
    )
    distance = np.abs(wrong.astype(int) - right.astype(int))
    broken = npusim.build(altered(chain, layer), npu_mode="NPU2").axmodel
    assert broken.program.fingerprint() != chain_built.program.fingerprint()
    found = check(chain, broken, feeds)
    first = found.first
    assert not found.agrees
    assert found.note == ""
    assert (first.tensor, first.op) == (tensors[layer], "conv")
    assert (first.differing, first.total) == (np.count_nonzero(distance), distance.size)
    assert first.largest == distance.max()
    assert first.index == tuple(np.argwhere(distance)[0])
    assert (first.ours, first.theirs) == (wrong[first.index], right[first.index])
    assert f"{first.differing:,} of {first.total:,} elements differ, by at most {distance.max()}" in str(first)


def test_a_bit_turned_in_the_file_is_found(chain, chain_built):
    data = next(segment.data for segment in chain_built.program.segments if segment.data is not None)
    offsets = np.flatnonzero(data)[:: np.count_nonzero(data) // 4].tolist()
    found = [check(chain, with_fault(chain_built.axmodel, offset)).first for offset in offsets]
    assert sum(first is not None and first.differing > 0 for first in found) >= 3


def never(*programs):
    return False


def test_a_file_that_this_version_would_not_build_is_said_to_be_one(chain, monkeypatch):
    broken = npusim.build(altered(chain, 0), npu_mode="NPU1").axmodel
    monkeypatch.setattr(probes, "_same_work", never)
    found = check(chain, broken)
    assert found.note == agreement.NO_PROBE
    assert found.first == found.outputs[0]  # all that is known of the file itself


@pytest.mark.parametrize("most_bytes", [1, 1 << 10])
def test_tensors_that_do_not_fit_one_program_are_shown_by_several(chain, chain_built, monkeypatch, most_bytes):
    whole = check(chain, chain_built.axmodel)
    monkeypatch.setattr(observe, "MOST_BYTES", most_bytes)
    told = []
    found = check(chain, chain_built.axmodel, report=lambda share, stage: told.append((share, stage)))
    assert found.agrees
    assert found.note == ""
    assert (found.compared, found.elements) == (whole.compared, whole.elements)
    shown = [stage for _, stage in told if stage.endswith("inner tensors")]
    assert len(shown) > 1
    shares = [share for share, _ in told]
    assert shares == sorted(shares)
    assert shares[-1] < 1
    first = check(chain, npusim.build(altered(chain, 2), npu_mode="NPU2").axmodel).first
    quantized = [node.output[0] for node in chain.graph.node if node.op_type == "QuantizeLinear"]
    assert first.tensor == quantized[2]


def work_of(program, unit):
    """What a unit does, whatever it waits for and in whatever order."""
    return sorted(str(replace(i, waits=())) for i in program.instructions(unit) if not isinstance(i, Sync))


def test_a_probe_does_what_the_file_does_and_stores_more(chain, chain_built):
    """The same instructions beside the transfers, so that what is seen is what the file computes."""
    lowered = graph.load(chain)
    names = inner_tensors(lowered, chain)
    machine = hardware_of(chain_built.axmodel)
    [probe] = probes.make_probes(lowered, machine, chain_built.axmodel, names)
    given, shown = chain_built.program, probe.model.parts[0].program
    assert set(probe.readers) == set(names)
    sdma = {unit for unit in given.streams if unit % UNITS_PER_CORE == Unit.SDMA}
    for unit in given.streams.keys() - sdma:
        assert work_of(given, unit) == work_of(shown, unit) != []
    assert sum(len(shown.streams[u]) for u in sdma) > sum(len(given.streams[u]) for u in sdma)


def test_outputs_in_the_middle_count_in_the_order_of_the_graph(several):
    model = onnx.ModelProto.FromString(several.SerializeToString())
    zero = next(t for t in model.graph.initializer if t.name == model.graph.node[0].input[2])
    zero.CopyFrom(numpy_helper.from_array(np.array(77, np.uint8), zero.name))
    found = check(several, npusim.build(model).axmodel)
    assert all(output.differing for output in found.outputs)
    assert found.first.tensor == several.graph.output[0].name


def test_a_model_that_is_not_the_source_is_refused(chain, several_built):
    with pytest.raises(UsageError, match="was not built from this model: its inputs are"):
        check(chain, several_built.axmodel)


@pytest.mark.parametrize(("dtype", "zero", "noted"), [("u16", 30000, True), ("u8", 120, False)])
def test_a_difference_in_a_product_of_16_bits_is_explained(dtype, zero, noted):
    """The sums of 4,096 products need more than the 24 bits of a float32, in which onnxruntime adds."""
    m = Builder()
    x = m.real_input("x", (64, 4096), 0.001, zero, dtype)
    weights = m.dequantize(m.random.integers(-127, 128, (4096, 64)).astype(np.int8), 0.01)
    m.result(m.op("MatMul", x, weights), 0.05, zero, dtype)
    found = check(m.model(), npusim.build(m.model()).axmodel)
    assert found.agrees is not noted
    assert ("no integer kernel for products of 16 bits" in found.note) is noted
    if noted:
        assert found.first.largest == 1
        assert found.first.differing < 0.01 * found.first.total


@pytest.mark.parametrize("content", [b"# no model", b""], ids=["text", "nothing"])
def test_a_file_that_is_no_model_is_refused_by_name(chain_built, tmp_path, content):
    path = tmp_path / "model.onnx"
    path.write_bytes(content)
    with pytest.raises(graph.ModelError, match=r"model\.onnx: is not an ONNX model"):
        check(path, chain_built.axmodel)


def test_a_built_model_is_no_source(chain_built, tmp_path):
    path = tmp_path / "compiled.axmodel"
    axmodel.save(chain_built.axmodel, path)
    with pytest.raises(UsageError, match="is compared with the ONNX file it came from"):
        check(path, chain_built.axmodel)


def test_another_shape_is_refused(chain, chain_built):
    b = Builder()
    b.result(b.op("Relu", b.real_input("x", (1, 8, 8, 8))), 0.05)
    model = b.model()
    model.graph.output[0].name = model.graph.node[-1].output[0] = chain.graph.output[0].name
    with pytest.raises(UsageError, match="was not built from this model: it has"):
        check(model, npusim.build(reshaped(model)).axmodel)


def reshaped(model):
    """The same names, another input type."""
    other = Builder()
    other.result(other.op("Relu", other.real_input("x", (1, 8, 8, 8), dtype="s8")), 0.05)
    made = other.model()
    made.graph.output[0].name = made.graph.node[-1].output[0] = model.graph.output[0].name
    return made
