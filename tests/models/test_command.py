"""The command ``python -m models``: what it writes, and in which words it refuses."""

from __future__ import annotations

import onnx
import pytest

import models
from models.__main__ import main


def test_list_names_every_recipe_with_its_parameters(capsys):
    assert main(["list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == [recipe.name for recipe in models.recipes()]
    assert any(line.startswith("conv_stack") and "channels=64" in line for line in lines)


def test_a_file_holds_what_build_returns(tmp_path, capsys):
    path = tmp_path / "stack.onnx"
    assert (
        main(["conv_stack", "channels=8", "-o", str(path), "size=4", "layers=2", "--seed", "7", "--opset", "13"]) == 0
    )
    assert onnx.load(path) == models.build("conv_stack", channels=8, size=4, layers=2, seed=7, opset=13)
    assert "4 nodes" in capsys.readouterr().out


def test_quantized_file_with_another_input_shape(tmp_path):
    path = tmp_path / "stack.onnx"
    words = ["conv_stack", "channels=4", "layers=1", "--input_shape", "2x4x6x6", "--quantize", "u8s8", "-o", str(path)]
    assert main(words) == 0
    model = onnx.load(path)
    assert [dimension.dim_value for dimension in model.graph.input[0].type.tensor_type.shape.dim] == [2, 4, 6, 6]
    assert "QuantizeLinear" in {node.op_type for node in model.graph.node}


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["swint"], "no model is called 'swint'; did you mean 'swin_t' or 'swin_s'?"),
        (["zzz"], "no model is called 'zzz'; known are convnext_t"),
        (["resnet18", "clases=10"], "resnet18: parameter 'clases' is unknown; did you mean 'classes'?"),
        (["resnet18", "zzz=10"], "resnet18: parameter 'zzz' is unknown; it takes classes"),
        (["resnet18", "classes=ten"], "resnet18: parameter 'classes' is 'ten', but must be a positive integer"),
        (["resnet18", "classes=0"], "resnet18: parameter 'classes' is '0', but must be a positive integer"),
        (["resnet18", "seed=3"], "'seed' is an option: write --seed"),
        (["resnet18", "classes"], "'classes' is no parameter: write key=value"),
        (["swin_t", "style=torch"], "must be one of torchvision, timm, transformers"),
        (["resnet18", "--quantize", "u8s9"], "no quantized format is called 'u8s9'; did you mean 'u8s8'?"),
        (["resnet18", "--opset", "9"], "resnet18: parameter 'opset' is 9, but recipes write opset 11 to 24"),
        (["resnet18", "--seed", "-1"], "must not be negative"),
        (["resnet18", "--input_shape", "3,224,224"], "must be 4 positive numbers like (1, 3, 224, 224)"),
        (["resnet18", "--pretrained", "somewhere"], "--pretrained knows swin models only, not resnet18"),
        (["swin_t", "classes=2", "--pretrained", "somewhere"], "takes shape and parameters from the checkpoint"),
        (["vgg16", "--input_shape", "1,3,200,200"], "avgpool: sides 6 and 6 are no multiples of 7"),
        (["yolov8n", "--input_shape", "1,3,100,100"], "Concat does not take inputs of shapes"),
    ],
)
def test_a_wrong_word_is_one_line_and_exit_code_2(words, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(words) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert message in printed.err
    assert printed.err.startswith("models: ")
    assert printed.err.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["resnet18", "--ouput", "x.onnx"], "no option is called '--ouput'; did you mean '--output' or '--opset'?"),
        (["resnet18", "--input_shape", "1,3,wide"], "'1,3,wide' is no shape: write 1,3,224,224"),
    ],
)
def test_a_wrong_option_ends_with_the_usage(words, message, capsys):
    with pytest.raises(SystemExit) as ended:
        main(words)
    assert ended.value.code == 2
    assert message in capsys.readouterr().err


def test_a_folder_that_is_not_there(tmp_path, capsys):
    assert main(["conv_stack", "channels=4", "size=4", "-o", str(tmp_path / "missing" / "stack.onnx")]) == 2
    assert "No such file or directory" in capsys.readouterr().err
