"""Models with CPU parts: the numbers of onnxruntime, and a price for everything that is not on the NPU."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import onnx
import pytest
from onnx import helper

import npusim
from npusim import axmodel, config
from npusim.axmodel import CpuPart, Port
from npusim.cli import main
from npusim.compiler.context import LoweringError
from npusim.graph import UnsupportedError
from npusim.session.agreement import check
from npusim.session.host import operations, price
from tests.graph.tiny import Builder, onnxruntime_values, random_feeds


def weights(b: Builder, *shape: int) -> str:
    return b.dequantize(b.random.integers(-60, 60, shape, np.int8, endpoint=True), 0.01)


def sandwich() -> onnx.ModelProto:
    """A convolution, a running sum that no integer operation gives, and another convolution."""
    b = Builder()
    value = b.quantize(b.op("Conv", b.real_input("x", (1, 4, 8, 8)), weights(b, 8, 4, 3, 3)), 0.05, 128)
    value = b.op("CumSum", value, b.constant(np.int64(3)))
    value = b.quantize(b.op("Relu", value), 0.2, 10)
    b.result(b.op("Conv", value, weights(b, 4, 8, 1, 1)), 0.1, 128)
    return b.model()


@pytest.fixture(scope="module")
def model():
    return sandwich()


@pytest.fixture(scope="module")
def built(model, tmp_path_factory):
    return npusim.build(model, cpu_fallback=True, output_dir=tmp_path_factory.mktemp("built"))


def test_without_leave_it_is_an_error_with_the_way_out(model):
    with pytest.raises(UnsupportedError, match=r"node 'CumSum_\d+' \(CumSum\): .*; allow CPU subgraphs") as caught:
        npusim.build(model)
    assert "--cpu_fallback" in str(caught.value)


@pytest.mark.parametrize("npu_mode", ["NPU1", "NPU2", "NPU3"])
def test_parts_compute_what_onnxruntime_computes(model, npu_mode):
    feeds = random_feeds(model)
    [expected] = onnxruntime_values(model, feeds).values()
    found = npusim.build(model, npu_mode=npu_mode, cpu_fallback=True)
    assert [part.name for part in found.axmodel.parts] == ["subgraph_npu_0", "cpu_0", "subgraph_npu_1"]
    [ours] = found.session().run(None, feeds)
    np.testing.assert_array_equal(ours, expected)


def test_a_file_runs_as_the_build_does(model, built):
    session = npusim.InferenceSession(built.path)
    feeds = random_feeds(model, 1)
    for ours, theirs in zip(session.run(None, feeds), built.session().run(None, feeds), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    assert session.profile() == built.summary
    for ours, theirs in zip(session.run(None, feeds), built.session().run(None, feeds), strict=True):
        np.testing.assert_array_equal(ours, theirs)  # the second call computes values only


def test_every_part_has_its_share_of_the_latency(built):
    """Six-by-six maps of 8 channels: 288 elements, float32, in and out."""
    summary, hardware = built.summary, built.hardware
    host, launch_ms = hardware.host, hardware.machine.launch_ms
    [work] = summary.cpu_parts
    assert (work.name, work.ops, work.operators) == ("cpu_0", ("CumSum", "Relu"), 2)
    assert work.flops == 2 * 288
    assert work.copied_bytes == 2 * 288 * 4
    assert work.bytes == 4 * 288 * 4 + 8  # each operator reads and writes a map; CumSum reads its axis
    ms = (work.bytes / host.bytes_per_second + work.copied_bytes / host.copy_bytes_per_second) * 1e3
    assert work.ms == pytest.approx(host.subgraph_ms + 2 * host.operator_ms + ms)
    assert summary.host_ms == pytest.approx(work.ms + launch_ms)  # the second program is launched again
    cycles_ms = summary.cycles / hardware.machine.clock_hz * 1e3
    assert summary.latency_ms == pytest.approx(cycles_ms + launch_ms + summary.host_ms)
    assert summary.fps == pytest.approx(1e3 / summary.latency_ms)
    assert "CumSum" in work.node


def test_the_programs_follow_one_another_in_the_trace(model, built):
    hardware = built.hardware
    alone = [npusim.simulate(program, hardware=hardware) for program in built.axmodel.programs]
    trace = built.session().trace
    cycles = [run.summary.cycles for run in alone]
    assert built.cycles == sum(cycles) == trace.cycles
    assert len(trace) == sum(len(run.trace) for run in alone)
    second = trace.take(np.arange(len(alone[0].trace), len(trace)))
    np.testing.assert_array_equal(second.start, alone[1].trace.start + cycles[0])
    np.testing.assert_array_equal(second.macs, alone[1].trace.macs)
    numbers = trace.core * 5 + trace.unit
    for number in np.unique(numbers):
        counted = np.sort(trace.position[numbers == number])
        np.testing.assert_array_equal(counted, np.arange(counted.size))
    names = {layer.name for layer in built.summary.layers}
    assert names == {layer.name for layer in built.axmodel.layers}


def test_check_sees_both_sides_of_the_cpu(model, built):
    found = check(model, built.axmodel)
    assert found.agrees
    assert found.compared == 3  # the first convolution, what is quantized behind the CPU, and the output


def test_check_finds_a_fault_behind_the_cpu(model):
    other = onnx.ModelProto.FromString(model.SerializeToString())
    last = next(t for t in reversed(other.graph.initializer) if t.data_type == onnx.TensorProto.INT8 and t.dims)
    last.raw_data = bytes(len(last.raw_data))
    found = check(model, npusim.build(other, cpu_fallback=True).axmodel)
    assert found.first is not None
    assert found.first.tensor == model.graph.output[0].name
    assert found.note == ""


# ------------------------------------------------------------------------------------------------ what moves to the CPU


def test_dynamic_quantization_runs_on_the_cpu():
    b = Builder()
    x = b.input("x", (3, 16))
    integers, scale, zero = b.op("DynamicQuantizeLinear", x, outputs=3)
    w = b.constant(b.random.integers(-60, 60, (16, 8), np.int8, endpoint=True))
    product = b.op("Cast", b.op("MatMulInteger", integers, w, zero), to=1)
    b.output(b.op("Mul", product, b.op("Mul", scale, b.constant(np.float32(0.01)))))
    model = b.model()
    built = npusim.build(model, cpu_fallback=True)
    feeds = random_feeds(model)
    [ours] = built.session().run(None, feeds)
    [theirs] = onnxruntime_values(model, feeds, plain=True).values()
    np.testing.assert_array_equal(ours, theirs)
    ops = {op for work in built.summary.cpu_parts for op in work.ops}
    assert "DynamicQuantizeLinear" in ops


def test_a_model_without_any_integers_has_no_program():
    b = Builder()
    b.output(b.op("Gelu", b.op("MatMul", b.input("x", (3, 16)), b.constant(np.eye(16, 4, dtype=np.float32)))))
    model = b.model()
    built = npusim.build(model, model_type="QuantONNX", cpu_fallback=True)
    assert [part.name for part in built.axmodel.parts] == ["cpu_0"]
    assert built.cycles == 0
    assert len(built.session().trace) == 0
    launch_ms = built.hardware.machine.launch_ms
    assert built.summary.latency_ms == pytest.approx(launch_ms + built.summary.cpu_parts[0].ms)
    feeds = random_feeds(model)
    [ours] = npusim.InferenceSession(built.data).run(None, feeds)
    [theirs] = onnxruntime_values(model, feeds, plain=True).values()
    np.testing.assert_array_equal(ours, theirs)


def test_what_the_compiler_refuses_moves_to_the_cpu():
    """The graph has an operation for it; that its bytes lie in too many separate parts only the compiler knows."""
    b = Builder()
    ends = [b.constant(np.array(v, np.int64)) for v in ([99, 99], [-101, -101], [0, 1], [-1, -1])]
    value = b.op("Slice", b.real_input("x", (100, 100)), *ends)
    b.result(b.op("Sigmoid", value), 1 / 256, 0)
    model = b.model()
    with pytest.raises(LoweringError, match="separate parts") as caught:
        npusim.build(model)
    assert caught.value.node.startswith("Slice")
    built = npusim.build(model, cpu_fallback=True)
    assert "Slice" in built.summary.cpu_parts[0].ops
    assert "separate parts" in built.summary.cpu_parts[0].reason
    feeds = random_feeds(model)
    [ours] = built.session().run(None, feeds)
    [theirs] = onnxruntime_values(model, feeds, plain=True).values()
    np.testing.assert_array_equal(ours, theirs)
    assert check(model, axmodel.read(built.data)).agrees


def test_a_sound_model_is_the_same_with_and_without_leave(chain):
    plain, allowed = npusim.build(chain), npusim.build(chain, cpu_fallback=True)
    assert plain.program.fingerprint() == allowed.program.fingerprint()
    assert allowed.summary == plain.summary
    assert (allowed.summary.host_ms, allowed.summary.cpu_parts) == (0, ())


# ------------------------------------------------------------------------------------------------------------ commands


@pytest.fixture
def file(model, tmp_path):
    path = tmp_path / "sandwich.onnx"
    onnx.save(model, path)
    return path


def test_commands_list_and_price_cpu_parts(file, tmp_path, capsys):
    out = tmp_path / "out"
    assert main(["build", "--input", str(file), "--output_dir", str(out)]) == 2
    assert "--cpu_fallback" in capsys.readouterr().err
    assert not out.exists()
    assert main(["build", "--input", str(file), "--output_dir", str(out), "--cpu_fallback"]) == 0
    text = capsys.readouterr().out
    assert "ms of it CPU parts" in text
    assert "CumSum, Relu" in text
    context = json.loads((out / "build_context.json").read_text())
    assert [part["name"] for part in context["cpu_parts"]] == ["cpu_0"]
    built = str(out / "compiled.axmodel")
    rows = []
    for command in (["bench", "-m", built], ["run", "-m", built, "--random_input"]):
        assert main([*command, "--json", str(tmp_path / "row.json")]) == 0
        assert "CumSum, Relu" in capsys.readouterr().out
        rows.append(json.loads((tmp_path / "row.json").read_text()))
    assert main(["compare", "--model", str(file), "--cpu_fallback", "--npu_modes", "NPU1", "--json", "-"]) == 0
    rows += json.loads(capsys.readouterr().out)["rows"]
    for row in rows:
        assert row["host_ms"] == rows[0]["host_ms"] > 0
        assert row["cpu_parts"] == rows[0]["cpu_parts"]
        assert row["latency_ms"] == rows[0]["latency_ms"]
    assert main(["compare", "--model", str(file), "--cpu_fallback", "--npu_modes", "NPU1,NPU2"]) == 0
    assert "CPU ms" in capsys.readouterr().out
    assert main(["info", built]) == 0
    assert "on the CPU because of CumSum" in capsys.readouterr().out


def test_models_with_cpu_parts_run_alone(file, tmp_path, capsys):
    for name in ("a", "b"):
        npusim.build(file, cpu_fallback=True, output_dir=tmp_path, output_name=f"{name}.axmodel")
    first = axmodel.read(tmp_path / "a.axmodel")
    axmodel.save(replace(first, name="other"), tmp_path / "a.axmodel")
    models = [word for name in ("a", "b") for word in ("-m", str(tmp_path / f"{name}.axmodel"))]
    assert main(["run", *models, "--random_input"]) == 2
    assert "run it alone" in capsys.readouterr().err


# -------------------------------------------------------------------------------------------------------------- prices


PRICES = {
    # 2 x results x weights a filter has
    "Conv": (helper.make_node("Conv", ["x", "w"], ["y"]), {"x": (1, 8, 6, 6), "w": (16, 4, 3, 3), "y": (1, 16, 4, 4)},
             2 * 16 * 16 * 36),
    "ConvTranspose": (helper.make_node("ConvTranspose", ["x", "w"], ["y"]),
                      {"x": (1, 8, 6, 6), "w": (8, 4, 2, 2), "y": (1, 4, 12, 12)}, 2 * 8 * 36 * 16),
    "MatMul": (helper.make_node("MatMul", ["x", "w"], ["y"]), {"x": (5, 3, 7), "w": (7, 4), "y": (5, 3, 4)},
               2 * 60 * 7),
    "Gemm": (helper.make_node("Gemm", ["x", "w"], ["y"], transA=1), {"x": (7, 3), "w": (7, 4), "y": (3, 4)},
             2 * 12 * 7),
    "QLinearConv": (helper.make_node("QLinearConv", ["x", "s", "z", "w", "t", "u", "v", "q"], ["y"]),
                    {"x": (1, 3, 4, 4), "w": (2, 3, 1, 1), "y": (1, 2, 4, 4), "s": ()}, 2 * 32 * 3),
    "Einsum": (helper.make_node("Einsum", ["x", "w"], ["y"], equation="...ij,jk->...ik"),
               {"x": (2, 3, 4, 5), "w": (5, 6), "y": (2, 3, 4, 6)}, 2 * 2 * 3 * 4 * 5 * 6),
    "AveragePool": (helper.make_node("AveragePool", ["x"], ["y"], kernel_shape=[2, 3]),
                    {"x": (1, 2, 4, 6), "y": (1, 2, 2, 2)}, 8 * 6),
    "LSTM": (helper.make_node("LSTM", ["x", "w", "r"], ["y"]),
             {"x": (9, 2, 5), "w": (1, 16, 5), "r": (1, 16, 4), "y": (9, 1, 2, 4)}, 2 * 9 * 2 * (80 + 64)),
    "Erf": (helper.make_node("Erf", ["x"], ["y"]), {"x": (3, 4), "y": (3, 4)}, 16 * 12),
    "ReduceSum": (helper.make_node("ReduceSum", ["x"], ["y"]), {"x": (3, 4), "y": (1, 1)}, 12),
    "Transpose": (helper.make_node("Transpose", ["x"], ["y"]), {"x": (3, 4), "y": (4, 3)}, 0),
}  # fmt: skip


@pytest.mark.parametrize(("node", "shapes", "expected"), PRICES.values(), ids=PRICES)
def test_operations_of_an_operator(node, shapes, expected):
    assert operations(node, shapes) == expected


def test_the_slower_of_arithmetic_and_memory_counts():
    """On ``small``: 1 G operations/s, 2 GB/s, copies at 1 GB/s, 1 us an operator, 10 us a subgraph."""
    values = [helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, (1000,)) for name in "xyz"]
    nodes = [helper.make_node("Exp", ["x"], ["y"]), helper.make_node("Transpose", ["y"], ["z"])]
    graph = helper.make_graph(nodes, "g", values[:1], values[2:], value_info=values[1:2])
    ports = [Port(name=name, dtype="f32", shape=(1000,)) for name in "xz"]
    part = CpuPart(
        name="cpu_0",
        model=helper.make_model(graph).SerializeToString(),
        inputs=(ports[0],),
        outputs=(ports[1],),
    )
    work = price(part, config.load("small"))
    # Exp: 16,000 operations in 16 us, not 8,000 bytes in 4; Transpose: 8,000 bytes in 4 us; 8,000 bytes copied in 8 us
    assert work.ms == pytest.approx(0.010 + 2 * 0.001 + 0.016 + 0.004 + 0.008)
    assert (work.flops, work.bytes, work.copied_bytes) == (16_000, 16_000, 8_000)
