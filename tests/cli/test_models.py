"""The commands around built models: build, run, bench, compare, check, info."""

import csv
import json
import re
from dataclasses import replace

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from npusim import axmodel
from npusim.cli import main
from tests.graph.tiny import onnxruntime_values, random_feeds
from tests.session import small

FIGURES = {"model", "npu_mode", "hardware", "cycles", "latency_ms", "fps", "macs", "mac_utilization", "dram_bytes"}
LAYER = {"name", "op", "cycles", "start", "end", "bound_by"}


def npusim(capsys, *words):
    """Run a command; exit code, standard output, standard error."""
    code = main([str(word) for word in words])
    out, err = capsys.readouterr()
    return code, out, err


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with several.onnx, built for two cores in out/, and a chain."""
    folder = tmp_path_factory.mktemp("models")
    onnx.save(small.several(), folder / "several.onnx")
    onnx.save(small.chain(), folder / "chain.onnx")
    words = ["--input", folder / "several.onnx", "--output_dir", folder / "out", "--npu_mode", "NPU2"]
    assert main(["build", *map(str, words), "--target_hardware", "AX650"]) == 0
    return folder


@pytest.fixture
def built(place):
    return place / "out" / "compiled.axmodel"


def test_build_reads_like_a_build(capsys, place, tmp_path):
    code, out, err = npusim(
        capsys, "build", "--input", place / "chain.onnx", "--output_dir", tmp_path, "--output_name", "c.axmodel",
        "--npu_mode", "NPU3", "--model_type", "QuantONNX",
    )  # fmt: skip
    assert (code, err) == (0, "")
    context = json.loads((tmp_path / "build_context.json").read_text())
    assert [line.split()[0] for line in out.splitlines()[1:6]] == ["import", "compile", "verify", "simulate", "write"]
    assert f"max_cycle = {context['max_cycle']:,}\n" in out
    assert f"written {tmp_path / 'c.axmodel'}" in out
    assert axmodel.read(tmp_path / "c.axmodel").npu_mode == "NPU3"


def test_run_reads_and_writes_tensors_as_files(capsys, place, built, tmp_path):
    model = onnx.load(place / "several.onnx")
    expected = {}
    for seed, sub in enumerate(("cat", "dog")):
        feeds = random_feeds(model, seed)
        expected[sub] = onnxruntime_values(model, feeds)
        (tmp_path / "in" / sub).mkdir(parents=True)
        for name, array in feeds.items():
            array.tofile(tmp_path / "in" / sub / f"{name}.bin")
    (tmp_path / "list.txt").write_text("cat\ndog\n")
    code, out, _ = npusim(
        capsys, "run", "--model", built, "--input_dir", tmp_path / "in", "--output_dir", tmp_path / "out",
        "--list", tmp_path / "list.txt", "--enable_perlayer_output", "--json", "-",
    )  # fmt: skip
    assert code == 0
    rows = json.loads(out)["rows"]
    assert len(rows) == 2
    for sub, values in expected.items():
        for name, array in values.items():
            assert (tmp_path / "out" / sub / f"{name}.bin").read_bytes() == array.tobytes()
    assert set(rows[0]) >= FIGURES
    assert set(rows[0]["layers"][0]) >= LAYER
    assert {output["dtype"] for output in rows[0]["outputs"].values()} == {"u8", "f32"}
    with (tmp_path / "out" / "dog" / "perlayer.csv").open() as file:
        table = list(csv.DictReader(file))
    assert [row["name"] for row in table] == [layer["name"] for layer in rows[1]["layers"]]
    assert "conv" in {row["op"] for row in table}
    assert json.loads((tmp_path / "out" / "dog" / "perlayer.json").read_text())["layers"] == rows[1]["layers"]


def test_run_with_random_input_gives_numbers(capsys, built, tmp_path):
    code, out, _ = npusim(capsys, "run", "-m", built, "--random_input", "--output_dir", tmp_path)
    assert code == 0
    assert "tiny on ax650n, cores 0, 1" in out
    assert re.search(r": f32\[1, 8, 4, 4\], 512 bytes, sha256", out)
    assert np.isfinite(np.fromfile(tmp_path / "b.bin", np.float32)).all()


def test_run_a_model_beside_a_program(capsys, built):
    from tests.cli.test_commands import ONE

    code, out, _ = npusim(capsys, "run", "-m", built, "-m", ONE, "--random_input", "--mode", "time", "--json", "-")
    assert code == 0
    assert [row["cores"] for row in json.loads(out)["rows"]] == [[0, 1], [2]]


def test_models_for_different_machines_need_one_named(capsys, place, built, tmp_path):
    (tmp_path / "slow.toml").write_text('extends = "ax650n"\n[teng]\nbytes_per_cycle = 16\n')
    words = ["--output_dir", tmp_path, "--target_hardware", tmp_path / "slow.toml"]
    onnx.save(replace_name(onnx.load(place / "chain.onnx"), "other"), tmp_path / "other.onnx")
    assert npusim(capsys, "build", "--input", tmp_path / "other.onnx", *words)[0] == 0
    both = ["run", "-m", built, "-m", tmp_path / "compiled.axmodel", "--mode", "time"]
    code, _, err = npusim(capsys, *both)
    assert code == 2
    assert "tiny was built for ax650n, other for slow: name one with --target_hardware" in err
    assert npusim(capsys, *both, "--target_hardware", "ax650n")[0] == 0


def replace_name(model, name):
    model.graph.name = name
    return model


def test_bench_prints_the_block_of_the_board(capsys, built, tmp_path):
    target = tmp_path / "b.json"
    code, out, _ = npusim(
        capsys, "bench", "-m", built, "-r", "100", "-w", "3", "-a", "0b110", "-v", "3", "--json", target
    )
    assert code == 0
    row = json.loads(target.read_text())
    assert set(row) >= FIGURES | {"affinity", "vnpu", "repeat", "warmup", "min_ms", "max_ms", "avg_ms"}
    assert row["cores"] == [1, 2]
    assert row["latency_ms"] == pytest.approx(row["cycles"] / 880e6 * 1e3 + 0.05)
    fields = dict(re.findall(r"^ *([\w ]+): (.*)$", out, flags=re.MULTILINE))
    assert fields["type"] == "NPU2 (2 Core)"
    assert (fields["vnpu"], fields["affinity"], fields["repeat"], fields["warmup"]) == (
        "LittleBig",
        "0b110",
        "100",
        "3",
    )
    ms = f"{row['latency_ms']:7.3f} ms"
    assert f"min = {ms}   max = {ms}   avg = {ms}" in out


def test_compare_prints_a_table_and_that_outputs_agree(capsys, place, tmp_path):
    (tmp_path / "slow.toml").write_text('extends = "ax650n"\n[teng]\nbytes_per_cycle = 16\n')
    target = tmp_path / "c.json"
    code, out, _ = npusim(
        capsys, "compare", "--model", place / "several.onnx", "--npu_modes", "NPU1,NPU3",
        "--hardware", f"ax650n,{tmp_path / 'slow.toml'}", "--json", target,
    )  # fmt: skip
    assert code == 0
    record = json.loads(target.read_text())
    assert record["outputs_agree"] is True
    rows = record["rows"]
    points = [("ax650n", "NPU1"), ("ax650n", "NPU3"), ("slow", "NPU1"), ("slow", "NPU3")]
    assert [(row["hardware"], row["npu_mode"]) for row in rows] == points
    assert rows[2]["cycles"] > rows[0]["cycles"]
    assert all(set(row) >= FIGURES for row in rows)
    for row in rows:
        assert re.search(rf"^{row['hardware']} +{row['npu_mode']} +{row['cycles']:,} ", out, flags=re.MULTILINE)
    assert "outputs agree: 2 outputs, the same bytes in all 4 builds" in out


def test_compare_says_where_outputs_differ(capsys, place, monkeypatch):
    from npusim.cli import compare

    usual = compare._row

    def tampered(built, path):
        row = usual(built, path)
        return row | {"outputs": {}} if row["npu_mode"] == "NPU2" else row

    monkeypatch.setattr(compare, "_row", tampered)
    code, out, _ = npusim(capsys, "compare", "--model", place / "chain.onnx", "--npu_modes", "NPU1,NPU2")
    assert code == 1
    assert "outputs DIFFER from those of NPU1 of ax650n: NPU2 of ax650n" in out


def test_check_agrees_and_finds_a_planted_fault(capsys, place, built, tmp_path):
    code, out, _ = npusim(capsys, "check", "--model", place / "several.onnx", "-m", built)
    assert code == 0
    assert re.search(r"agrees: \d+ tensors, [\d,]+ elements, every one equal", out)
    onnx.save(small.altered(onnx.load(place / "several.onnx"), 0), tmp_path / "altered.onnx")
    words = ["--input", tmp_path / "altered.onnx", "--npu_mode", "NPU2", "--output_dir", tmp_path]
    assert npusim(capsys, "build", *words)[0] == 0
    target = tmp_path / "c.json"
    words = ["check", "--model", place / "several.onnx", "-m", tmp_path / "compiled.axmodel", "--json", target]
    code, out, _ = npusim(capsys, *words)
    record = json.loads(target.read_text())
    assert (code, record["agrees"]) == (1, False)
    assert f"first difference: {record['first']['tensor']} (conv " in out
    assert record["first"]["differing"] > 0
    assert [output["differing"] > 0 for output in record["outputs"]] == [False, True]


def test_check_on_inputs_from_files(capsys, place, built, tmp_path):
    np.zeros((1, 4, 6, 6), np.uint8).tofile(tmp_path / "a.bin")
    np.zeros((1, 4, 6, 6), np.float32).tofile(tmp_path / "b.bin")
    words = ["check", "--model", place / "several.onnx", "-m", built, "--input_dir", tmp_path]
    assert npusim(capsys, *words)[0] == 0
    np.zeros(3, np.float32).tofile(tmp_path / "b.bin")
    code, _, err = npusim(capsys, *words)
    assert code == 2
    assert "b.bin has 12 bytes; b: f32[1,4,6,6] takes 576" in err


def test_info_describes_models_and_operators(capsys, built, tmp_path):
    code, out, _ = npusim(capsys, "info", built)
    assert code == 0
    assert re.search(r"input +a +u8 +1x4x6x6 +0\.02 +100", out)
    code, out, _ = npusim(capsys, "info", built, "--json", "-")
    assert json.loads(out)["npu_mode"] == "NPU2"
    code, out, _ = npusim(capsys, "info", "ops")
    assert code == 0
    assert re.search(r"^Conv +an input of shape .*\n +a quantized first input", out, flags=re.MULTILINE)


def test_info_counts_work_and_bytes(capsys, built):
    # one convolution, 4 to 8 channels, 3x3, from 6x6 to 4x4 (small.several)
    macs = 4 * 4 * 8 * 4 * 9
    code, out, _ = npusim(capsys, "info", built, "--json", "-")
    record = json.loads(out)
    assert (code, record["macs"]) == (0, macs)
    assert record["file_bytes"] == built.stat().st_size
    model = axmodel.read(built)
    assert record["instructions"] == len(model.program) == sum(record["unit_instructions"].values())
    assert sum(record["mnemonics"].values()) == record["instructions"]
    # a: u8 and b: f32, both 1x4x6x6; out: u8 1x4x6x6, f32 1x8x4x4
    assert (record["segment_bytes"]["input"], record["segment_bytes"]["output"]) == (144 + 4 * 144, 144 + 4 * 128)
    assert record["parameter_bytes"] >= 8 * 4 * 9
    assert {layer["op"]: layer["macs"] for layer in record["layers"] if layer["macs"]} == {"conv": macs}
    assert 0 < sum(layer["instructions"] for layer in record["layers"]) <= record["instructions"]
    _, out, _ = npusim(capsys, "info", built)
    assert f"MACs          {macs:,}\n" in out
    assert "ONNX nodes" not in out
    _, out, _ = npusim(capsys, "info", built, "--layers")
    assert re.search(rf"^\S+ +conv +\d+ +{macs:,} +\S", out, flags=re.MULTILINE)


@pytest.fixture
def vendor(tmp_path):
    node = helper.make_node("neu mode", ["image"], ["logits"], name="subgraph_npu_0")
    inputs = [helper.make_tensor_value_info("image", TensorProto.UINT8, (1, 8, 8, 3))]
    outputs = [helper.make_tensor_value_info("logits", TensorProto.FLOAT, (1, 10))]
    proto = helper.make_model(helper.make_graph([node], "main", inputs, outputs), producer_name="Pulsar2")
    onnx.save(proto, tmp_path / "vendor.axmodel")
    return tmp_path / "vendor.axmodel"


def test_a_vendors_file_is_described_and_not_run(capsys, vendor):
    code, out, _ = npusim(capsys, "info", vendor)
    assert code == 0
    assert "image" in out
    assert "subgraph_npu_0" in out
    assert "rebuild" in out
    code, _, err = npusim(capsys, "run", "-m", vendor, "--random_input")
    assert code == 2
    assert f"{vendor}: is a vendor's axmodel (Pulsar2" in err


MISTAKES = [
    (["build", "--input", "{several}", "--output_dir", "{tmp}", "--model_type", "ONNX"], "is quantized already; pass"),
    (["build", "--input", "{several}", "--output_dir", "{tmp}", "--npu_mode", "NPU4"], "did you mean 'NPU3'"),
    (["build", "--input", "{several}", "--output_dir", "{tmp}", "--target_hardware", "AX65"], "did you mean"),
    (["build", "--input", "{tmp}/absent.onnx", "--output_dir", "{tmp}"], "absent.onnx"),
    (["build", "--input", "{built}", "--output_dir", "{tmp}"], "built model already"),
    (["run", "-m", "{built}", "--random_input", "--enable_perlayer_output"], "--enable_perlayer_output needs"),
    (["build", "--input", "{built}", "--output_dir", "{built}/.."], "would replace its own model"),
    (["run", "-m", "{several}", "--random_input"], "build it first"),
    (["run", "-m", "{built}", "--random_input", "--mode", "values", "--trace", "t.csv"], "need a mode with time"),
    (["info", "{several}"], "build it first"),
    (
        ["bench", "-m", "{built}", "--target_hardware", "{tmp}/tiny.toml"],
        "was built for ax650n and does not fit tiny: build",
    ),
    (["bench", "-m", "{built}", "--json", "{built}"], "would overwrite a file that the command reads"),
    (["bench", "-m", "{built}", "--json", "{built}/../../out/compiled.axmodel"], "would overwrite a file that"),
    (["bench", "-m", "{built}", "--json", "{tmp}/a", "--csv", "{tmp}/a"], "another result goes there as well"),
    (["bench", "-m", "{built}", "--json", "-", "--csv", "-"], "another result goes there as well"),
    (["bench", "-m", "{built}", "--json", "{tmp}"], "{tmp}: cannot be written: Is a directory"),
    (["bench", "-m", "{built}", "-b", "1001"], "-b takes at most 1,000, not 1001"),
    (["bench", "-m", "{built}", "-r", "9999999999"], "-r takes at most 999,999,999"),
    (["bench", "-m", "{several}"], "build it first"),
    (["bench", "-m", "{built}", "-a", "0b1000"], "masks of ax650n are 0b1 to 0b111"),
    (["bench", "-m", "{built}", "-a", "x"], "-a takes a mask"),
    (["bench", "-m", "{built}", "-v", "4"], "-v takes 0 (Disable)"),
    (["bench", "-m", "{built}", "-v", "1"], "an NPU2 model needs 2 cores in one block"),
    (["bench", "-m", "{built}", "-r", "0"], "-r takes a whole number from 1 on"),
    (["compare", "--model", "{several}", "--npu_modes", ","], "--npu_modes names nothing"),
    (["compare", "--model", "{several}", "--npu_modes", "NPU1,NPU5"], "has no npu_mode 'NPU5'"),
    (["compare", "--model", "{several}", "--hardware", "smal"], "did you mean 'small'"),
    (["check", "--model", "{chain}", "-m", "{built}"], "was not built from this model"),
    (["check", "--model", "{several}", "-m", "{several}"], "build it first"),
    (["check", "--model", "{several}", "-m", "{built}", "--seed", "-1"], "--seed takes a whole number from 0 on"),
]


@pytest.mark.parametrize(("words", "message"), MISTAKES, ids=range(len(MISTAKES)))
def test_mistakes_are_one_line_and_exit_code_2(capsys, place, built, tmp_path, words, message):
    (tmp_path / "tiny.toml").write_text('extends = "ax650n"\n[machine]\nname = "tiny"\n[ocm]\nbytes = 768\n')
    names = {"tmp": tmp_path, "several": place / "several.onnx", "chain": place / "chain.onnx", "built": built}
    code, out, err = npusim(capsys, *(word.format(**names) for word in words))
    assert code == 2
    assert out == ""
    assert err.count("\n") == 1
    assert err.startswith("npusim: ")
    assert message.format(**names) in err
    assert axmodel.read(built).npu_mode == "NPU2"  # what a command reads outlives its mistakes


def test_a_quantized_model_is_not_built_over_itself(capsys, place, tmp_path):
    kept = tmp_path / "quant" / "quant_axmodel.onnx"
    kept.parent.mkdir()
    kept.write_bytes((place / "chain.onnx").read_bytes())
    code, _, err = npusim(capsys, "build", "--input", kept, "--output_dir", tmp_path)
    assert (code, err) == (
        2,
        f"npusim: a build into {tmp_path} would replace its own model {kept}: name another output_dir\n",
    )
    assert kept.read_bytes() == (place / "chain.onnx").read_bytes()


def test_a_model_cut_short_is_one_clear_error(capsys, built, tmp_path):
    (tmp_path / "cut.axmodel").write_bytes(built.read_bytes()[:-40])
    for command in (["run", "--random_input", "-m"], ["bench", "-m"], ["info"], ["disasm"]):
        code, _, err = npusim(capsys, *command, tmp_path / "cut.axmodel")
        assert code == 2
        assert err.startswith(f"npusim: {tmp_path / 'cut.axmodel'}: ")
        assert err.count("\n") == 1


def test_disasm_takes_a_model(capsys, built):
    code, out, _ = npusim(capsys, "disasm", built, "--no_data")
    assert code == 0
    assert "conv" in out


@pytest.mark.parametrize("name", ["../../escaped", "..", "/escaped"])
def test_names_in_a_model_cannot_lead_out_of_the_output_folder(capsys, built, place, tmp_path, name):
    model = axmodel.read(built)
    axmodel.save(replace(model, name=name), tmp_path / "evil.axmodel")
    words = ["run", "-m", tmp_path / "evil.axmodel", "-m", place / "out" / "one.axmodel", "--random_input"]
    one = ["build", "--input", place / "chain.onnx", "--output_dir", place / "out", "--output_name", "one.axmodel"]
    assert npusim(capsys, *one)[0] == 0
    assert npusim(capsys, *words, "--output_dir", tmp_path / "deep" / "out")[0] == 0
    written = {path.relative_to(tmp_path).parts[:-1] for path in tmp_path.rglob("*.bin")}
    assert ("deep", "out", "tiny") in written
    assert {(parts[:2], len(parts)) for parts in written} == {(("deep", "out"), 3)}
