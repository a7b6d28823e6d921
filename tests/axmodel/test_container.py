"""The container: what goes in comes out, viewers can open it, and a damaged or foreign file is one clear error."""

from __future__ import annotations

import json
import pickle
from contextlib import suppress
from dataclasses import replace

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from isa.container import to_bytes
from npusim.axmodel import (
    Axmodel,
    AxmodelError,
    CpuPart,
    LayerName,
    NpuPart,
    Port,
    Reason,
    describe,
    is_axmodel,
    read,
    save,
    wrap,
)
from npusim.axmodel.layout import RECORDS, checksum


def program(value=7):
    from isa.program import Segment, SegmentKind, make_program

    segments = [
        Segment(name="x:0", kind=SegmentKind.INPUT, size_bytes=64),
        Segment(name="p", kind=SegmentKind.PARAMETERS, size_bytes=64, data=np.full(64, value, np.uint8)),
        Segment(name="y", kind=SegmentKind.OUTPUT, size_bytes=256),
    ]
    return make_program("net", {}, segments, cores=2)


X = Port(name="x:0", dtype="u8", shape=(1, 4, 16), scale=0.1, zero_point=128)
Y = Port(name="y", dtype="f32", shape=(64,))


def whole(value=7):
    return (NpuPart(name="subgraph_npu_0", program=program(value), inputs=(X,), outputs=(Y,)),)


@pytest.fixture(scope="module")
def model():
    return Axmodel(
        name="net",
        parts=whole(),
        inputs=(X,),
        outputs=(Y,),
        npu_mode="NPU2",
        hardware="ax650n",
        hardware_fingerprint="abc",
        hardware_values={"machine.cores": 3, "machine.launch_ms": 0.05},
        layers=(LayerName(name="conv1", op="conv", source=("conv1", "relu1")),),
        versions={"npusim": "0.1.0", "onnx": "1"},
        config={"npu_mode": "NPU2", "input_shapes": {"x:0": [1, 4, 16]}},
    )


@pytest.fixture(scope="module")
def data(model):
    return wrap(model)


def parsed(data):
    return onnx.ModelProto.FromString(data)


def test_what_goes_in_comes_out(model, data, tmp_path):
    path = tmp_path / "m.axmodel"
    save(model, path)
    assert path.read_bytes() == data
    for source in (data, path, str(path)):
        back = read(source)
        for name in ("name", "inputs", "outputs", "npu_mode", "hardware", "hardware_fingerprint", "hardware_values",
                     "layers", "versions", "config", "isa_version"):  # fmt: skip
            assert getattr(back, name) == getattr(model, name), name
        assert back.program.fingerprint() == model.program.fingerprint()


def test_equal_models_give_equal_bytes(model, data):
    again = replace(model, config=dict(reversed(model.config.items())), parts=whole())
    assert wrap(again) == data


def test_a_viewer_finds_one_node_with_its_program(data, tmp_path):
    path = tmp_path / "m.onnx"
    path.write_bytes(data)
    proto = onnx.load(path)
    [node] = proto.graph.node
    assert (node.op_type, node.name, node.domain) == ("neu mode", "subgraph_npu_0", "")
    assert (list(node.input), list(node.output)) == (["x:0", "npu_program"], ["y"])
    [blob] = proto.graph.initializer
    assert numpy_helper.to_array(blob).tobytes() == to_bytes(program())
    assert [v.name for v in proto.graph.input] == ["x:0"]
    assert proto.graph.output[0].type.tensor_type.elem_type == TensorProto.FLOAT
    metadata = {entry.key: entry.value for entry in proto.metadata_props}
    assert metadata["npu_mode"] == "NPU2"
    assert metadata["isa_version"] == "1.0"
    assert json.loads(metadata["tensors"]) == {"x:0": {"scale": 0.1, "zero_point": 128}}


def test_a_file_cut_off_anywhere_is_one_clear_error(data):
    for size in range(len(data)):
        with pytest.raises(AxmodelError) as caught:
            read(data[:size])
        assert "\n" not in str(caught.value)
        assert "vendor" not in str(caught.value)
        with suppress(AxmodelError):
            assert describe(data[:size]).runnable


def test_a_bit_turned_anywhere_is_an_error_or_without_meaning(model, data):
    """What is outside of the checksum (producer, comments) may change; what is run and shown may not."""
    for position in range(len(data)):
        broken = bytearray(data)
        broken[position] ^= 1 << position % 8
        try:
            back = read(bytes(broken))
        except AxmodelError:
            continue
        assert back.program.fingerprint() == model.program.fingerprint()
        assert (back.name, back.inputs, back.outputs, back.config) == (
            model.name,
            model.inputs,
            model.outputs,
            model.config,
        )


def test_random_bytes_are_no_axmodel():
    generator = np.random.default_rng(0)
    for size in (0, 1, 10, 1000):
        junk = generator.bytes(size)
        assert not is_axmodel(junk)
        with pytest.raises(AxmodelError):
            read(junk)


def resealed(data, change):
    """A file changed on purpose, with a checksum that fits."""
    proto = parsed(data)
    metadata = {entry.key: entry.value for entry in proto.metadata_props}
    change(proto, metadata)
    held = {tensor.name: tensor.raw_data for tensor in proto.graph.initializer}
    blobs = [(node.op_type, held.get(node.input[-1], b"")) for node in proto.graph.node]
    metadata["checksum"] = checksum(metadata, proto.graph, blobs)
    del proto.metadata_props[:]
    for key, value in metadata.items():
        proto.metadata_props.add(key=key, value=value)
    return proto.SerializeToString()


def larger(proto, metadata):
    proto.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 1 << 40


def negative(proto, metadata):
    proto.graph.input[0].type.tensor_type.shape.dim[0].dim_value = -1


def nameless(proto, metadata):
    proto.graph.output[0].name = "z"


def undeclared(proto, metadata):
    del proto.graph.output[:]


def exotic(proto, metadata):
    proto.graph.input[0].type.tensor_type.elem_type = TensorProto.STRING


def emptied(proto, metadata):
    del proto.graph.initializer[:]


def newer(proto, metadata):
    metadata["npusim_axmodel"] = "3"


def unread(proto, metadata):
    del proto.graph.node[0].input[1:]


def renamed(proto, metadata):
    proto.graph.initializer[0].name = "p"


def doubled(proto, metadata):
    proto.graph.node.append(proto.graph.node[0])


def on_cpu(proto, metadata):
    proto.graph.node[0].op_type = "cpu subgraph"


def fewer_cores(proto, metadata):
    metadata["npu_mode"] = "NPU1"


HOSTILE = {
    "a huge input": (larger, "64 bytes in the program"),
    "a negative extent": (negative, "no fixed type and shape"),
    "another output": (nameless, "has a tensor 'y' that is not declared"),
    "no output": (undeclared, "has a tensor 'y' that is not declared"),
    "no operand": (unread, "does not hold what subgraph_npu_0 runs"),
    "another program": (renamed, "does not hold what subgraph_npu_0 runs"),
    "two nodes": (doubled, "has a node 'subgraph_npu_0' .neu mode. that is no part"),
    "a node of the CPU": (on_cpu, "initialisers are not those of its parts"),
    "another allocation": (fewer_cores, "is for NPU2, the model for NPU1"),
    "a type without numbers": (exotic, "no fixed type and shape"),
    "no program": (emptied, "does not hold what subgraph_npu_0 runs"),
    "another layout": (newer, "layout version '3'; this npusim reads 1 and 2"),
}


@pytest.mark.parametrize(("change", "message"), HOSTILE.values(), ids=HOSTILE)
def test_hostile_files_are_refused(data, change, message):
    with pytest.raises(AxmodelError, match=message):
        read(resealed(data, change))


MALFORMED = [
    *((key, text) for key in RECORDS for text in ("", "7", "[[1]]", "[" * 100_000)),
    ("tensors", '{"x:0": 3}'),
    ("tensors", '{"x:0": {"scale": "wide", "zero_point": 0}}'),
    ("layers", '{"x:0": 3}'),
    ("layers", '[["conv1", "conv", [3]]]'),
]


@pytest.mark.parametrize(("key", "text"), MALFORMED, ids=range(len(MALFORMED)))
def test_metadata_of_another_form_are_refused(data, key, text):
    def change(proto, metadata):
        metadata[key] = text

    with pytest.raises(AxmodelError, match="metadata are malformed"):
        read(resealed(data, change))


def test_a_program_of_another_file_is_noticed(data):
    proto = parsed(data)
    proto.graph.initializer[0].raw_data = to_bytes(program(8))
    with pytest.raises(AxmodelError, match="checksum"):
        read(proto.SerializeToString())


def test_a_damaged_program_is_noticed(data):
    def change(proto, metadata):
        proto.graph.initializer[0].raw_data = proto.graph.initializer[0].raw_data[:-1]

    with pytest.raises(AxmodelError, match="program cannot be read: truncated"):
        read(resealed(data, change))


def test_messages_begin_with_the_file(tmp_path):
    path = tmp_path / "m.axmodel"
    path.write_bytes(b"\x0a")
    with pytest.raises(AxmodelError, match=r"m\.axmodel: is no \.axmodel") as caught:
        read(path)
    assert caught.value.source == str(path)
    assert pickle.loads(pickle.dumps(caught.value)).source == str(path)
    with pytest.raises(OSError, match="absent"):
        read(tmp_path / "absent")


def test_an_unbuilt_model_is_told_from_a_damaged_one():
    graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "net", [], [])
    with pytest.raises(AxmodelError, match="build it first"):
        read(helper.make_model(graph).SerializeToString())


def test_ports_that_do_not_fit_their_program_are_not_written(model):
    ports = (Port(name="x:0", dtype="u16", shape=(1, 4, 16)),)
    wide = replace(model, inputs=ports, parts=(replace(model.parts[0], inputs=ports),))
    with pytest.raises(AxmodelError, match="64 bytes in the program, 128 by its shape"):
        wrap(wide)


def test_a_failed_write_leaves_the_old_file(model, tmp_path):
    path = tmp_path / "m.axmodel"
    path.write_bytes(b"old")
    with pytest.raises(AxmodelError):
        save(replace(model, inputs=()), path)
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


# ------------------------------------------------------------------------------------------------------ vendor's files


@pytest.fixture
def vendor():
    """As the toolchain of the board writes it: the same node, an opaque program, its own metadata."""
    node = helper.make_node("neu mode", ["image"], ["logits"], name="subgraph_npu_0")
    inputs = [helper.make_tensor_value_info("image", TensorProto.UINT8, (1, 224, 224, 3))]
    outputs = [helper.make_tensor_value_info("logits", TensorProto.FLOAT, (1, "n"))]
    blob = numpy_helper.from_array(np.zeros(16, np.uint8), "npu_graph")
    graph = helper.make_graph([node], "main", inputs, outputs, [blob])
    proto = helper.make_model(graph, producer_name="Pulsar2", producer_version="4.0")
    proto.metadata_props.add(key="extra", value="not json")
    return proto


def test_a_vendors_file_is_described_and_refused(vendor):
    data = vendor.SerializeToString()
    found = describe(data)
    assert not found.runnable
    assert [str(port) for port in (*found.inputs, *found.outputs)] == ["image: u8[1,224,224,3]", "logits: f32[1,-1]"]
    assert (found.producer, found.npu_mode, found.nodes) == ("Pulsar2 4.0", "", ("subgraph_npu_0",))
    with pytest.raises(
        AxmodelError, match=r"vendor's axmodel \(Pulsar2 4.0; inputs image.*rebuild it .* from its ONNX"
    ):
        read(data)


@pytest.mark.parametrize(("key", "value"), [("npu_mode", "NPU3"), ("NPU_MODE", "NPU3"), ("sys", '{"npu_mode":"NPU3"}')])
def test_a_vendors_allocation_is_found_where_it_is_said(vendor, key, value):
    vendor.metadata_props.add(key=key, value=value)
    data = vendor.SerializeToString()
    assert describe(data).npu_mode == "NPU3"
    with pytest.raises(AxmodelError, match="npu_mode NPU3"):
        read(data)


def test_ours_is_described_too(model, data):
    found = describe(data)
    assert found.runnable
    assert (found.name, found.npu_mode, found.producer) == ("net", "NPU2", "npusim 0.1.0")
    assert [port.shape for port in found.inputs] == [(1, 4, 16)]


# ------------------------------------------------------------------------------------------------------- several parts


def doubling():
    """y: f32[64] + y, as z."""
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, (64,)) for name in "yz"]
    graph = helper.make_graph([helper.make_node("Add", ["y", "y"], ["z"])], "cpu", values[:1], values[1:])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8).SerializeToString()


@pytest.fixture(scope="module")
def mixed(model):
    """A program, then the CPU; the input is a result as well."""
    z = Port(name="z", dtype="f32", shape=(64,))
    reason = Reason(node="add1", op="Add", constraint="it needs two quantized inputs")
    part = CpuPart(name="cpu_0", model=doubling(), inputs=(Y,), outputs=(z,), reasons=(reason,))
    return replace(model, parts=(*whole(), part), outputs=(z, X))


def test_parts_come_out_as_they_went_in(mixed):
    back = read(wrap(mixed))
    assert [part.name for part in back.parts] == ["subgraph_npu_0", "cpu_0"]
    assert back.programs[0].fingerprint() == mixed.programs[0].fingerprint()
    [found], [part] = back.cpu_parts, mixed.cpu_parts
    assert (found.model, found.inputs, found.outputs, found.reasons) == (
        part.model,
        part.inputs,
        part.outputs,
        part.reasons,
    )
    assert (back.inputs, back.outputs, back.cores) == ((X,), mixed.outputs, 2)


def test_a_model_of_parts_is_not_one_program(mixed, model):
    assert model.program is model.programs[0]
    assert not mixed.is_one_program
    with pytest.raises(AxmodelError, match="net is not one program but subgraph_npu_0, cpu_0: run it alone"):
        _ = mixed.program


def test_one_program_is_written_as_it_always_was(data, mixed):
    layouts = [{e.key: e.value for e in parsed(d).metadata_props}["npusim_axmodel"] for d in (data, wrap(mixed))]
    assert layouts == ["1", "2"]


def test_a_viewer_finds_a_node_for_each_part(mixed):
    graph = parsed(wrap(mixed)).graph
    assert [(node.name, node.op_type) for node in graph.node] == [
        ("subgraph_npu_0", "neu mode"), ("cpu_0", "cpu subgraph")
    ]  # fmt: skip
    assert [list(node.input) for node in graph.node] == [["x:0", "npu_program"], ["y", "cpu_model_0"]]
    assert [value.name for value in graph.value_info] == ["y"]


def test_bits_turned_in_parts_are_errors_or_without_meaning(mixed):
    good = wrap(mixed)
    for position in range(len(good)):
        broken = bytearray(good)
        broken[position] ^= 1 << position % 8
        try:
            back = read(bytes(broken))
        except AxmodelError:
            continue
        assert back.programs[0].fingerprint() == mixed.programs[0].fingerprint()
        assert back.cpu_parts[0].model == mixed.cpu_parts[0].model
        assert back.cpu_parts[0].reasons == mixed.cpu_parts[0].reasons
        assert (back.inputs, back.outputs) == (mixed.inputs, mixed.outputs)


def outside(part):
    proto = onnx.ModelProto.FromString(part.model)
    tensor = proto.graph.initializer.add(name="w", data_type=TensorProto.FLOAT, dims=[1])
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="../secret")
    return replace(part, model=proto.SerializeToString())


Z = Port(name="z", dtype="f32", shape=(64,))
MISFITS = {
    "an input nobody makes": (lambda p: replace(p, inputs=(replace(Y, name="q"),)), "cpu_0 reads q: .*; nothing makes"),
    "an input of another type": (lambda p: replace(p, inputs=(replace(Y, dtype="s32"),)), "before it there is y: f32"),
    "an output that is there": (lambda p: replace(p, outputs=(X,)), "are not those of its model: z: f32"),
    "no model": (lambda p: replace(p, model=b"junk"), "the model of cpu_0 is no ONNX model"),
    "another model": (lambda p: replace(p, outputs=(replace(Z, shape=(8, 8)),)), "outputs of cpu_0 are not those"),
    "data elsewhere": (outside, "cpu_0 (is no ONNX model|has data outside of the file)"),
}


@pytest.mark.parametrize(("change", "message"), MISFITS.values(), ids=MISFITS)
def test_parts_that_do_not_fit_are_neither_written_nor_read(mixed, change, message):
    with pytest.raises(AxmodelError, match=message):
        wrap(replace(mixed, parts=(mixed.parts[0], change(mixed.parts[1]))))


def test_a_result_that_no_part_makes(mixed):
    with pytest.raises(AxmodelError, match="no part makes the output z"):
        wrap(replace(mixed, parts=mixed.parts[:1]))


def test_two_parts_that_make_the_same(mixed):
    again = replace(mixed.parts[1], name="cpu_1")
    with pytest.raises(AxmodelError, match="cpu_1 makes 'z', which there is already"):
        wrap(replace(mixed, parts=(*mixed.parts, again)))
