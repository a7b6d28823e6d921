"""``npusim profile`` as it is typed."""

import gzip
import json
from pathlib import Path

import onnx
import pytest

from npusim.cli import main
from tests.report.trace_format import complaints
from tests.session import small

MATMUL = Path(__file__).parents[2] / "examples" / "matmul_3core.npuasm"


def npusim(capsys, *words):
    """Run a command; exit code, standard output, standard error."""
    code = main([str(word) for word in words])
    out, err = capsys.readouterr()
    return code, out, err


def embedded(path):
    """The data of a report."""
    text = path.read_text(encoding="utf-8")
    return json.loads(text.partition('id="data">')[2].partition("</script>")[0])


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    onnx.save(small.chain(), folder / "chain.onnx")
    for mode in ("NPU1", "NPU3"):
        words = ["--input", folder / "chain.onnx", "--output_dir", folder / mode, "--npu_mode", mode]
        assert main(["build", *map(str, words)]) == 0
    return [folder / mode / "compiled.axmodel" for mode in ("NPU1", "NPU3")]


def test_a_report_of_two_allocations(capsys, models, tmp_path):
    target = tmp_path / "deep" / "report.html"
    code, out, err = npusim(capsys, "profile", "-m", models[0], "-m", models[1], "-o", target)
    assert (code, err) == (0, "")
    assert f"written {target}: 2 runs\n" in out
    runs = embedded(target)["runs"]
    assert [run["mode"] for run in runs] == ["NPU1", "NPU3"]
    for run, model in zip(runs, models, strict=True):
        _, bench, _ = npusim(capsys, "bench", "-m", model, "--json", "-")
        assert run["figures"]["cycles"] == json.loads(bench)["cycles"]
        assert run["figures"]["cycles"] == sum(run["critical"])
    assert sorted(path.name for path in target.parent.iterdir()) == ["report.html"]  # no temporary file is left


def test_the_precision_a_build_left_beside_the_model_is_shown(capsys, models, tmp_path):
    row = {"layer": "/fc", "op": "MatMul", "dtype": "u8", "cosine": 0.5, "snr_db": None, "max_error": 0.25}
    found = models[0].parent / "quant" / "debug" / "precision_analysis.json"
    found.parent.mkdir(parents=True)
    found.write_text(json.dumps({"layers": [row], "outputs": []}))
    assert npusim(capsys, "profile", "-m", models[0], "-m", models[1], "-o", tmp_path / "r.html")[0] == 0
    shown = [run["precision"] for run in embedded(tmp_path / "r.html")["runs"]]
    assert shown == [[["/fc", "MatMul", "u8", 0.5, None, 0.25]], []]
    found.write_text("{}")
    code, _, err = npusim(capsys, "profile", "-m", models[0], "-o", tmp_path / "other.html")
    assert (code, (tmp_path / "other.html").exists()) == (2, False)
    assert f"{found} is no precision analysis" in err
    found.unlink()


def test_a_trace_beside_the_report(capsys, models, tmp_path):
    plain, packed = tmp_path / "trace.json", tmp_path / "trace.json.gz"
    for target in (plain, packed):
        code, out, _ = npusim(capsys, "profile", "-m", models[1], "-o", tmp_path / "r.html", "--trace", target)
        assert code == 0
        assert f"written {target}: " in out
    assert gzip.decompress(packed.read_bytes()) == plain.read_bytes()
    assert complaints(json.loads(plain.read_bytes())) == []


def test_programs_are_profiled_on_the_machine_that_is_named(capsys, tmp_path):
    code, _, _ = npusim(capsys, "profile", "-m", MATMUL, "-o", tmp_path / "r.html", "--target_hardware", "ax650n")
    assert code == 0
    (run,) = embedded(tmp_path / "r.html")["runs"]
    assert (run["name"], run["hardware"], run["cores"]) == ("matmul_3core", "ax650n", [0, 1, 2])


def test_mistakes_are_one_line_and_write_nothing(capsys, models, tmp_path):
    target = tmp_path / "r.html"
    for words, told in (
        (
            ["-m", models[0], "-m", models[1], "--trace", tmp_path / "t.json"],
            "--trace writes the timeline of one model",
        ),
        (["-m", tmp_path / "none.axmodel"], "No such file"),
        (["-m", Path(__file__)], "is neither a program file nor"),
    ):
        code, out, err = npusim(capsys, "profile", *words, "-o", target)
        assert (code, out, len(err.splitlines())) == (2, "", 1)
        assert told in err
    assert list(tmp_path.iterdir()) == []
