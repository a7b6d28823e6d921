import csv
import json
import re
from pathlib import Path

import numpy as np
import pytest

from isa.container import load as load_program
from npusim.cli import main
from npusim.kernels import tier

EXAMPLES = Path(__file__).parents[2] / "examples"
ONE, THREE = EXAMPLES / "matmul_1core.npuasm", EXAMPLES / "matmul_3core.npuasm"
BUFFERED = EXAMPLES / "double_buffer.npuasm"


def npusim(capsys, *words):
    """Run a command; exit code, standard output, standard error."""
    code = main([str(word) for word in words])
    out, err = capsys.readouterr()
    return code, out, err


@pytest.fixture
def racy(tmp_path):
    path = tmp_path / "racy.npuasm"
    path.write_text(ONE.read_text().replace(" wait(load_x0)", ""))
    return path


def test_asm_writes_a_program_that_disasm_prints(capsys, tmp_path):
    target = tmp_path / "p.npuprog"
    code, out, _ = npusim(capsys, "asm", ONE, "-o", target)
    assert (code, out) == (0, f"{target}: 11 instructions on 3 units of 1 core\n")
    code, text, _ = npusim(capsys, "disasm", target)
    assert code == 0
    again = tmp_path / "again.npuasm"
    npusim(capsys, "disasm", target, "-o", again)
    assert again.read_text() == text
    assert not list(tmp_path.glob(".*"))  # no temporary file is left
    npusim(capsys, "asm", again)
    assert load_program(tmp_path / "again.npuprog").fingerprint() == load_program(target).fingerprint()


def test_disasm_can_leave_the_data_out(capsys):
    _, text, _ = npusim(capsys, "disasm", ONE, "--no_data")
    assert "; 32 bytes of p left out" in text
    assert ".data" not in text


def test_verify_stamps_a_program_file(capsys, tmp_path):
    target = tmp_path / "p.npuprog"
    npusim(capsys, "asm", ONE, "-o", target)
    code, out, _ = npusim(capsys, "verify", target)
    assert code == 0
    assert "matmul_1core: verified for ax650n (11 instructions, 1 core)" in out
    assert load_program(target).stamp
    before = target.read_bytes()
    npusim(capsys, "verify", target, "--no_stamp")
    assert target.read_bytes() == before


def test_verify_names_both_instructions_and_the_bytes(capsys, racy, tmp_path):
    report = tmp_path / "report.json"
    code, out, _ = npusim(capsys, "verify", racy, "--json", report)
    assert code == 1
    assert re.search(
        r"race: core0\.conv0 instruction 0 \(matmul for upper:\d+\) reads and core0\.sdma instruction 2 "
        r"\(load for load_x0:\d+\) writes core0 OCM 0x0\.\.0x17fff",
        out,
    )
    assert "NOT verified" in out
    record = json.loads(report.read_text())
    assert record["verified"] is False
    assert {"race", "uninitialised"} == {row["kind"] for row in record["violations"]}


def test_run_gives_the_same_integers_on_one_and_three_cores(capsys, tmp_path):
    records = {}
    for source in (ONE, THREE):
        folder = tmp_path / source.stem
        code, _, _ = npusim(
            capsys, "run", "-m", source, "--random_input", "--output_dir", folder, "--json", folder.with_suffix(".json")
        )
        assert code == 0
        records[source] = json.loads(folder.with_suffix(".json").read_text())
    x, w = (np.fromfile(tmp_path / "matmul_1core" / f"{n}.bin", d) for n, d in (("x", np.uint8), ("w", np.int8)))
    acc = (x.reshape(768, 256).astype(np.int32) - 128) @ w.reshape(256, 256).astype(np.int32)
    # one float32 multiply, round half to even, zero point 128, saturate
    expected = np.clip(np.rint(acc.astype(np.float32) * np.float32(0.0005)) + 128, 0, 255).astype(np.uint8)
    for source in (ONE, THREE):
        assert (tmp_path / source.stem / "y.bin").read_bytes() == expected.tobytes()
    one, three = records[ONE], records[THREE]
    assert one["outputs"] == three["outputs"]
    assert one["macs"] == three["macs"] == 768 * 256 * 256
    assert (one["npu_mode"], three["npu_mode"]) == ("NPU1", "NPU3")
    assert three["cycles"] < one["cycles"]
    figures = {"cycles", "latency_ms", "fps", "macs", "mac_utilization", "dram_bytes", "layers"}
    assert figures | {"model", "npu_mode", "hardware"} <= set(one)
    assert {"name", "op", "cycles", "start", "end", "bound_by"} <= set(one["layers"][0])
    # latency_ms = cycles / clock + launch_ms, from configs/ax650n.toml
    assert one["latency_ms"] == pytest.approx(one["cycles"] / 880e6 * 1e3 + 0.05)


def test_run_reads_inputs_and_lists_of_folders(capsys, tmp_path):
    generator = np.random.default_rng(0)
    for sub in ("a", "b"):
        (tmp_path / "in" / sub).mkdir(parents=True)
        generator.integers(0, 256, 4 * 256 * 64, np.uint8).tofile(tmp_path / "in" / sub / "x.bin")
        generator.integers(0, 256, 64 * 64, np.uint8).tofile(tmp_path / "in" / sub / "w.bin")
    (tmp_path / "list.txt").write_text("a\n\nb\n")
    code, out, _ = npusim(
        capsys, "run", "-m", BUFFERED, "--input_dir", tmp_path / "in", "--output_dir", tmp_path / "out",
        "--list", tmp_path / "list.txt", "--json", "-",
    )  # fmt: skip
    assert code == 0
    rows = json.loads(out)["rows"]
    assert rows[0]["cycles"] == rows[1]["cycles"]
    assert rows[0]["outputs"] != rows[1]["outputs"]
    assert (tmp_path / "out" / "b" / "y.bin").stat().st_size == 4 * 256 * 64


def test_run_several_programs_at_once(capsys):
    code, out, _ = npusim(
        capsys, "run", "-m", ONE, "--cores", "2", "-m", BUFFERED, "--random_input", "--mode", "time", "--json", "-"
    )
    assert code == 0
    rows = json.loads(out)["rows"]
    assert [(row["model"], row["cores"]) for row in rows] == [("matmul_1core", [2]), ("double_buffer", [0])]
    _, alone, _ = npusim(capsys, "run", "-m", BUFFERED, "--random_input", "--mode", "time", "--json", "-")
    assert rows[1]["cycles"] > json.loads(alone)["cycles"]  # they share the DRAM


def test_run_prints_a_table_and_a_trace(capsys, tmp_path):
    code, out, _ = npusim(
        capsys, "run", "-m", BUFFERED, "--random_input", "--show_trace", "3", "--trace", tmp_path / "t.csv"
    )
    assert code == 0
    assert "double_buffer on ax650n, core 0" in out
    assert re.search(r"core0\.conv0 +5 ", out)
    assert "... 13 more" in out
    with (tmp_path / "t.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 16
    assert rows[0]["name"] == "core0.sdma"
    assert rows[0]["mnemonic"] == "load"
    assert int(rows[0]["start"]) == 0


def test_an_unverified_program_needs_permission(capsys, racy):
    code, _, err = npusim(capsys, "run", "-m", racy, "--random_input")
    assert code == 2
    assert err.startswith("npusim: the program does not verify: race:")
    assert err.count("\n") == 1
    code, _, _ = npusim(capsys, "run", "-m", racy, "--random_input", "--allow_unverified")
    assert code == 0


MISTAKES = [
    (["run", "-m", ONE], "needs x, w: give --input_dir or --random_input"),
    (["run", "-m", ONE, "--input_dir", "nowhere"], "nowhere/x.bin: No such file"),
    (["run", "-m", ONE, "-m", ONE, "--random_input"], "two programs are named matmul_1core"),
    (["run", "-m", ONE, "--cores", "one", "--random_input"], "--cores takes numbers"),
    (["run", "-m", ONE, "--cores", "7", "--random_input"], "no core 7"),
    (["run", "-m", THREE, "--cores", "0", "--random_input"], "3 cores"),
    (["run", "-m", ONE, "--random_input", "--target_hardware", "ax65n"], "did you mean"),
    (["run", "-m", ONE, "--random_input", "--max_cycles", "100"], "100"),
    (["run", "-m", ONE, "--random_input", "--max_cycles", "-5"], "--max_cycles takes a whole number from 1 on"),
    (["run", "-m", ONE, "--mode", "ful"], "--mode: invalid choice: 'ful'"),
    (["run"], "-m; see npusim run --help"),
    ([], "see npusim --help"),
    (["vrify", ONE], "no command 'vrify', only build, run, bench,"),
    (["vrify", ONE], "did you mean 'verify'?"),
    (["verify", ONE, "--max_violations", "-1"], "--max_violations takes a whole number from 1 on"),
    (["disasm", ONE, "-o", ONE], "would overwrite a file that the command reads"),
    (["asm", "absent.npuasm"], "absent.npuasm: No such file"),
    (["disasm", __file__], "neither a program file nor an assembly source"),
    (["info", "nosuchmachine"], "nosuchmachine"),
]


@pytest.mark.parametrize(("words", "message"), MISTAKES, ids=range(len(MISTAKES)))
def test_mistakes_are_one_line_and_exit_code_2(capsys, words, message):
    code, out, err = npusim(capsys, *words)
    assert code == 2
    assert out == ""
    assert err.count("\n") == 1
    assert err.startswith("npusim: ")
    assert message in err


def test_a_list_cannot_leave_its_folder(capsys, tmp_path):
    (tmp_path / "list.txt").write_text("../secrets\n")
    code, _, err = npusim(capsys, "run", "-m", ONE, "--input_dir", tmp_path, "--list", tmp_path / "list.txt")
    assert code == 2
    assert "leaves the input folder" in err


def test_a_program_file_cut_short_is_one_clear_error(capsys, tmp_path):
    target = tmp_path / "p.npuprog"
    npusim(capsys, "asm", ONE, "-o", target)
    target.write_bytes(target.read_bytes()[:-5])
    code, _, err = npusim(capsys, "run", "-m", target, "--random_input")
    assert code == 2
    assert "truncated" in err
    assert str(target) in err


def test_too_little_memory_is_one_line(capsys, monkeypatch):
    monkeypatch.setattr("npusim.cli.run.read_runnable", lambda _: np.empty(1 << 60, np.uint8))
    code, _, err = npusim(capsys, "run", "-m", ONE)
    assert code == 2
    assert re.fullmatch(r"npusim: not enough memory: Unable to allocate 1.* EiB .*\n", err)


def test_an_unknown_kernel_tier_is_one_line(capsys, monkeypatch, tmp_path):
    monkeypatch.setenv("NPUSIM_KERNELS", "fast")
    monkeypatch.setattr(tier, "_chosen", [])
    code, _, err = npusim(capsys, "run", "-m", ONE, "--random_input", "--output_dir", tmp_path)
    assert (code, err) == (2, "npusim: NPUSIM_KERNELS='fast': not a kernel tier; allowed: vnni, portable, numpy\n")


def test_traceback_shows_the_rest(capsys):
    code, _, err = npusim(capsys, "disasm", "absent.npuasm", "--traceback")
    assert code == 2
    assert "Traceback" in err


def test_info_prints_peaks_units_and_the_origin_of_every_number(capsys):
    code, out, _ = npusim(capsys, "info")
    assert code == 0
    # 3 cores x 2 units x 1024 MAC x 2 operations x 880 MHz = 10.81 TOPS
    assert "10.81 TOPS INT8 (10.8 declared), 3.60 a core" in out
    for word in ("conv0", "conv1", "teng", "cv", "sdma", "published", "measured", "inferred", "assumed"):
        assert word in out
    code, out, _ = npusim(capsys, "info", "small", "--json", "-")
    assert json.loads(out)["values"]["conv.rows"]["source"]


def test_info_describes_a_program(capsys):
    code, out, _ = npusim(capsys, "info", THREE)
    assert code == 0
    assert "29 instructions for 3 cores" in out
    assert re.search(r"core2\.sdma +5", out)


def test_a_reader_that_goes_away_is_no_error():
    import subprocess
    import sys

    command = f"{sys.executable} -m npusim info | head -1"
    done = subprocess.run(["bash", "-o", "pipefail", "-c", command], capture_output=True, text=True, check=False)
    assert done.stdout.startswith("ax650n")
    assert "Error" not in done.stderr
