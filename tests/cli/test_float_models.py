"""Float models on the command line: build with a configuration, classify, compare; and what goes wrong there."""

import json
import re

import onnx
import pytest

from npusim.cli import main
from npusim.session.configuration import KEYS
from tests.quant.test_dataset_archives import pack
from tests.session.test_float_build import NAMES, colours, picture

CONFIG = """
{
  "quant": {
    "input_configs": [{
      "calibration_dataset": "%s",  // pictures
      "calibration_mean": [127.5], "calibration_std": [127.5],
    }],
    "calibration_method": "KL",
  },
  "input_processors": [{"src_dtype": "U8", "src_layout": "NHWC"}],
}
"""


def npusim(capsys, *words):
    """Run a command; exit code, standard output, standard error."""
    code = main([str(word) for word in words])
    out, err = capsys.readouterr()
    return code, out, err


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with a float model, pictures, a configuration, labels, and the model built in out/."""
    folder = tmp_path_factory.mktemp("float")
    onnx.save(colours(), folder / "colours.onnx")
    pictures = pack(folder / "pictures.zip", {f"{i}.png": picture(i, i % 3) for i in range(6)})
    (folder / "c.json").write_text(CONFIG % pictures)
    (folder / "labels.txt").write_text("\n".join(NAMES))
    (folder / "green.png").write_bytes(picture(77, 1))
    words = ["--input", folder / "colours.onnx", "--output_dir", folder / "out", "--config", folder / "c.json"]
    assert main(["build", *map(str, words), "--quant.calibration_method", "MSE"]) == 0
    return folder


def test_a_build_from_a_float_model_reads_like_a_build(capsys, place, tmp_path):
    words = ["--input", place / "colours.onnx", "--output_dir", tmp_path, "--config", place / "c.json"]
    code, out, err = npusim(capsys, "build", *words, "--quant.calibration_method", "MinMax", "--npu_mode", "NPU2")
    assert (code, err) == (0, "")
    stages = ["optimize", "calibrate", "quantize", "import", "compile", "verify", "simulate", "write"]
    assert [line.split()[0] for line in out.splitlines()[1:9]] == stages
    assert re.search(r"^  calibrate .* 6 samples$", out, flags=re.MULTILINE)
    assert re.search(r"^operators +layers +type +weights +observer$", out, flags=re.MULTILINE)
    assert re.search(r"^Gemm +1 +U8 +S8 +MinMax$", out, flags=re.MULTILINE)
    context = json.loads((tmp_path / "build_context.json").read_text())
    assert f"max_cycle = {context['max_cycle']:,}\n" in out
    assert context["config"]["quant"]["calibration_method"] == "MinMax"
    assert context["config"]["quant"]["input_configs"][0]["calibration_mean"] == [127.5]
    written = {line.split()[1] for line in out.splitlines() if line.startswith("written ")}
    assert written == {str(path) for path in tmp_path.rglob("*") if path.is_file()}


def test_precision_is_kept_and_shown_where_it_is_asked_for(capsys, place, tmp_path):
    words = ["--input", place / "colours.onnx", "--output_dir", tmp_path, "--config", place / "c.json"]
    asked = ["--quant.auto_mix_precision", "snr:75", "--quant.precision_analysis", "--quant.enable_bias_correction"]
    code, out, _ = npusim(capsys, "build", *words, *asked)
    assert code == 0
    before, after = map(float, re.search(r"snr of the outputs (\S+) -> (\S+)", out).groups())
    assert before < 75 <= after
    cycles = re.search(r"cycles ([\d,]+) -> ([\d,]+) \(\+", out)
    assert re.search(r"^layer +operator +type +cosine +SNR dB$", out, flags=re.MULTILINE)
    debug = tmp_path / "quant" / "debug"
    layers = json.loads((debug / "precision_analysis.json").read_text())["layers"]
    table = (debug / "precision_analysis_table.txt").read_text()
    assert all(layer["layer"] in table for layer in layers)
    record = json.loads((tmp_path / "quant" / "quant_axmodel.json").read_text())
    assert f"{record['auto_mix_precision']['cycles_after']:,}" == cycles[2]
    assert {layer["data_type"] for layer in record["layers"]} >= {"U16"}
    # another build without an analysis leaves no old one beside the new model
    assert npusim(capsys, "build", *words)[0] == 0
    assert sorted(path.name for path in debug.iterdir()) == ["quantization_table.txt"]


def test_an_image_is_classified_as_the_boards_sample_prints_it(capsys, place, tmp_path):
    words = ["-m", place / "out" / "compiled.axmodel", "-i", place / "green.png", "-r", "100"]
    code, out, err = npusim(capsys, "classify", *words, "--labels", place / "labels.txt", "--json", tmp_path / "c.json")
    assert (code, err) == (0, "")
    record = json.loads((tmp_path / "c.json").read_text())
    lines = out.splitlines()
    assert re.fullmatch(r"0\.\d{4}, 1 green", lines[0])
    assert [line.split()[-1] for line in lines[:3]] == [score["label"] for score in record["top"]]
    ms = f"{record['avg_ms']:.2f} ms"
    assert lines[4] == f"Repeat 100 times, avg time {ms}, max_time {ms}, min_time {ms}"
    code, out, _ = npusim(capsys, "classify", *words)
    assert re.fullmatch(r"0\.\d{4}, 1", out.splitlines()[0])  # three classes are none of ImageNet's


def test_float_models_are_compared_with_random_data(capsys, place):
    words = ["--model", place / "colours.onnx", "--npu_modes", "NPU1,NPU3", "--quant.calibration_format", "Random"]
    code, out, err = npusim(capsys, "compare", *words, "--quant.calibration_size", "2")
    assert code == 0
    assert "outputs agree" in out
    assert err == "npusim: calibrated with random data: its cycles are right, its values mean nothing\n"


def test_a_random_build_says_that_its_scores_mean_nothing(capsys, place, tmp_path):
    words = ["--input", place / "colours.onnx", "--output_dir", tmp_path, "--quant.calibration_format", "Random"]
    code, _, err = npusim(capsys, "build", *words, "--compiler.check", "1")
    assert code == 0
    assert err.splitlines() == [
        "npusim: compiler.check changes nothing: every program is proven; see npusim check",
        "npusim: calibrated with random data: its cycles are right, its values mean nothing",
    ]
    code, _, err = npusim(capsys, "classify", "-m", tmp_path / "compiled.axmodel", "-i", place / "green.png")
    assert (code, err) == (0, "npusim: the model was calibrated with random data: its scores mean nothing\n")


def test_help_documents_every_key(capsys):
    with pytest.raises(SystemExit) as caught:
        main(["build", "--help"])
    assert caught.value.code == 0
    words = " ".join(capsys.readouterr().out.split())
    for path, (key, _) in KEYS.items():
        assert f"--{path} " in words
        assert " ".join(key.doc.split()) in words


BUILD = ["build", "--input", "{model}", "--output_dir", "{tmp}"]
MISTAKES = [
    (["build", "--output_dir", "{tmp}"], "npusim build needs --input, or input in its configuration"),
    (["build", "--input", "{model}"], "npusim build needs --output_dir"),
    (BUILD, "pass --quant.calibration_dataset images.tar, or, for timing only, --quant.calibration_format Random"),
    ([*BUILD, "--quant.calibration_metod", "KL"], "npusim build takes no '--quant.calibration_metod'; did you mean"),
    ([*BUILD, "--quant.calibration_method", "KLD"], "command line: quant.calibration_method: is 'KLD', must be one of"),
    ([*BUILD, "--config", "{tmp}/absent.json"], "absent.json: No such file or directory"),
    ([*BUILD, "--quant.calibration_dataset", "{model}"], "colours.onnx: is no readable archive"),
    ([*BUILD, "--input_shapes", "image:1x3x0x8"], "input_shapes takes name:1x3x224x224, from 1 on, and ;"),
    ([*BUILD, "--input_shapes", "imag:1x3x8x8"], "the model has no input 'imag', only image"),
    ([*BUILD, "--model_type", "QuantONNX"], "colours.onnx has no quantized operators; pass --model_type ONNX"),
    (["compare", "--model", "{model}", "--npu_mode", "NPU2"], "npusim compare takes no '--npu_mode'; did you mean"),
    (["classify", "-m", "{built}", "-i", "{model}"], "colours.onnx: is no image that can be read: not one of JPEG,"),
    (["classify", "-m", "{built}", "-i", "{tmp}/absent.png"], "absent.png: No such file or directory"),
    (["classify", "-m", "{built}", "-i", "{green}", "-r", "0"], "-r takes a whole number from 1 on, not '0'"),
    (["classify", "-m", "{built}", "-i", "{green}", "--labels", "{tmp}/l.txt"], "l.txt has 2 names, one a line; the "),
    (["classify", "-m", "{model}", "-i", "{green}"], "is an ONNX file without NPU subgraphs; build it first"),
]  # fmt: skip


@pytest.mark.parametrize(("words", "message"), MISTAKES, ids=lambda value: str(value)[-40:])
def test_mistakes_are_one_line_and_leave_nothing(capsys, place, tmp_path, words, message):
    (tmp_path / "l.txt").write_text("one\ntwo\n")
    before = sorted(tmp_path.rglob("*"))
    names = {"model": place / "colours.onnx", "built": place / "out" / "compiled.axmodel", "tmp": tmp_path,
             "green": place / "green.png"}  # fmt: skip
    code, out, err = npusim(capsys, *(word.format(**names) for word in words))
    assert (code, out) == (2, "")
    assert err.startswith("npusim: ")
    assert err.count("\n") == 1
    assert message in err
    assert sorted(tmp_path.rglob("*")) == before
