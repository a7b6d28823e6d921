"""The build configuration: files of three kinds and flags become one record, or one error that names the key."""

import json
import re
import tomllib
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from npusim.errors import ConfigError
from npusim.quant.settings import QuantSettings
from npusim.session.configuration import KEYS, BuildConfig, load
from npusim.session.configuration.key import Kind

VENDORS_OWN = """
{
  // the example of the vendor's documentation
  "model_type": "ONNX",
  "npu_mode": "NPU1",
  "quant": {
    "input_configs": [
      {
        "tensor_name": "input",
        "calibration_dataset": "./dataset/imagenet-32-images.tar",
        "calibration_size": 32,
        "calibration_mean": [103.939, 116.779, 123.68],
        "calibration_std": [58.0, 58.0, 58.0],
      }
    ],
    "calibration_method": "MinMax",
    "precision_analysis": false, /* and a comma too many */
  },
  "input_processors": [
    {"tensor_name": "input", "tensor_format": "BGR", "src_format": "BGR", "src_dtype": "U8", "src_layout": "NHWC",
     "csc_mode": "NoCSC"}
  ],
  "compiler": {"check": 0}
}
"""


def write(folder, name, text):
    (folder / name).write_text(text, encoding="utf-8")
    return folder / name


def test_the_vendors_example_is_understood(tmp_path):
    build = load(write(tmp_path, "c.json", VENDORS_OWN)).build
    (given,) = build.quant.input_configs
    assert (given.tensor_name, given.calibration_mean) == ("input", (103.939, 116.779, 123.68))
    assert (given.calibration_format, given.calibration_size) == ("Image", 32)
    (processor,) = build.input_processors
    assert (processor.src_layout, processor.src_dtype, processor.mean) == ("NHWC", "U8", ())


def test_json_yaml_and_toml_say_the_same(tmp_path):
    as_json = write(tmp_path, "c.json", VENDORS_OWN)
    table = load(as_json).record()
    as_yaml = write(tmp_path, "c.yml", yaml.safe_dump(json.loads(json.dumps(table))))
    as_toml = write(
        tmp_path,
        "c.toml",
        """
        model_type = "ONNX"
        [quant]
        calibration_method = "MinMax"
        [[quant.input_configs]]
        tensor_name = "input"
        calibration_dataset = "./dataset/imagenet-32-images.tar"
        calibration_mean = [103.939, 116.779, 123.68]
        calibration_std = [58, 58, 58]  # whole numbers are numbers
        [[input_processors]]
        tensor_name = "input"
        tensor_format = "BGR"
        src_format = "BGR"
        src_dtype = "U8"
        src_layout = "NHWC"
        """,
    )
    assert load(as_json).build == load(as_yaml).build == load(as_toml).build


def test_flags_win_over_the_file_and_overrides_over_flags(tmp_path):
    path = write(tmp_path, "c.json", VENDORS_OWN)
    flags = {"quant.calibration_method": "KL", "npu_mode": "NPU2", "quant.precision_analysis": "true"}
    build = load(path, flags, {"npu_mode": "NPU3"}).build
    assert (build.quant.calibration_method, build.npu_mode) == ("KL", "NPU3")
    assert build.quant.precision_analysis is True
    assert build.quant.input_configs[0].tensor_name == "input"


def test_a_flag_of_a_record_goes_into_every_entry_or_makes_the_first():
    two = {"quant": {"input_configs": [{"tensor_name": "a"}, {"tensor_name": "b", "calibration_size": 8}]}}
    entries = load(two, {"quant.input_configs.calibration_size": "-1"}).build.quant.input_configs
    assert [(entry.tensor_name, entry.calibration_size) for entry in entries] == [("a", -1), ("b", -1)]
    (made,) = load(None, {"quant.input_configs.calibration_format": "Random"}).build.quant.input_configs
    assert (made.tensor_name, made.calibration_format) == ("DEFAULT", "Random")
    layers = '[{op_types: ["Softmax", "Gelu"], data_type: "U16"},]'
    (entry,) = load(None, {"quant.layer_configs": layers}).build.quant.layer_configs
    assert entry.op_types == ("Softmax", "Gelu")


def test_what_a_file_says_is_left_as_it_was():
    table = {"quant": {"input_configs": [{"tensor_name": "a"}]}}
    load(table, {"quant.input_configs.calibration_size": "3", "quant.calibration_method": "MSE"})
    assert table == {"quant": {"input_configs": [{"tensor_name": "a"}]}}


def values_of(key):
    """Valid values of a key, as a file holds them."""
    if key.choices:
        return st.sampled_from(key.choices)
    least = max(key.least, -1e6)
    number = st.floats(least, min(key.most, 1e6), allow_nan=False)
    return {
        Kind.TEXT: st.just(key.example.split(" or ")[0])
        if key.pattern
        else st.from_regex(r"[a-z.\[\]=]{1,8}", fullmatch=True),
        Kind.TEXTS: st.lists(st.from_regex(r"[a-z/.]{1,8}", fullmatch=True), max_size=3),
        Kind.WHOLE: st.integers(max(int(least), 1), int(min(key.most, 99))),
        Kind.WHOLES: st.lists(st.integers(int(least), 99), max_size=3),
        Kind.NUMBER: number,
        Kind.NUMBERS: st.lists(number, max_size=3),
        Kind.SWITCH: st.booleans(),
    }[key.kind]


PLAIN = [
    path
    for path, (key, _) in KEYS.items()
    if key.kind is not Kind.RECORDS and not key.refused and ".layer_configs." not in path and path != "output_name"
]


@given(st.data())
def test_a_configuration_survives_the_trip_through_its_record(data):
    flags, overrides = {}, {}
    for path in data.draw(st.lists(st.sampled_from(PLAIN), unique=True)):
        value = data.draw(values_of(KEYS[path][0]), label=path)
        overrides[path] = value
        words = [str(part) for part in value] if isinstance(value, list) else [str(value)]
        flags[path] = ",".join(words)
    made = load(None, None, overrides)
    assert load(json.loads(json.dumps(made.record()))).build == made.build
    assert load(None, flags).build == made.build
    assert load(made.record(), flags).build == made.build


def test_defaults_of_quantization_are_the_quantizers():
    ours, theirs = BuildConfig().quant, QuantSettings()
    assert BuildConfig().onnx_opt.disable_onnx_optimization is not theirs.enable_fusion
    for name in QuantSettings.__dataclass_fields__.keys() - {"enable_fusion"}:
        assert getattr(ours, name) == getattr(theirs, name)


def test_every_key_is_documented():
    for path, (key, _) in KEYS.items():
        assert key.doc, path
        assert not key.doc.endswith("."), path


# ------------------------------------------------------------------------------------------------------------ refusals


def quant(**keys):
    return {"quant": keys}


def compiler(**keys):
    return {"compiler": keys}


def data(**keys):
    return quant(input_configs=[keys])


def layer(**keys):
    return quant(layer_configs=[keys])


MISTAKES = [
    (quant(calibration_metod="KL"), "quant.calibration_metod: there is no such key; did you mean 'calibration_method'"),
    ({"calibration_method": "KL"}, "there is no such key; did you mean 'quant.calibration_method'?"),
    ({"qant": {}}, "qant: there is no such key; did you mean 'quant'?"),
    (compiler(zzz=1), "compiler.zzz: there is no such key; there are check, npu_perf, ddr_bw_limit, st"),
    ({3: 4}, "3: there is no such key"),
    ({"quant": [1]}, r"quant: holds keys with values, not [1]"),
    (quant(calibration_method="minmax"), "is 'minmax', must be one of MinMax, Percentile, MSE, KL; did you"),
    (quant(calibration_method=3), "quant.calibration_method: takes text, not 3"),
    (quant(precision_analysis=1), "quant.precision_analysis: takes true or false, not 1"),
    (quant(precision_analysis=None), "takes true or false, not None"),
    (quant(transformer_opt_level=True), "takes a whole number, not True"),
    (quant(transformer_opt_level=1.5), "takes a whole number, not 1.5"),
    (quant(transformer_opt_level=3), "quant.transformer_opt_level: is 3, must be 0 to 2"),
    (quant(smooth_quant_strength=float("nan")), "is nan, must be 0 to 1"),
    (quant(auto_mix_precision="cos:1"), "is 'cos:1', must look like cosine:0.999 or snr:30"),
    (quant(input_configs={}), "quant.input_configs: takes a list of records, not {}"),
    (quant(input_configs=[1]), "quant.input_configs[0]: holds keys with values, not 1"),
    (data(calibration_size=0), "quant.input_configs[0].calibration_size: is 0, must be"),
    (data(calibration_mean="abc"), "calibration_mean: takes a list of numbers, not 'abc'"),
    (data(calibration_std=[1, 0]), "calibration_std: is 0, must be 1e-06 or more"),
    (quant(input_configs=[{}, {}]), "quant.input_configs[1].tensor_name: 'DEFAULT' has an entry already"),
    (data(calibration_form=""), "did you mean 'calibration_format'"),
    (layer(data_type="U16"), "quant.layer_configs[0]: selects layers in exactly one way: "),
    (layer(op_type="Add", layer_name="a", data_type="U16"), "it has several"),
    (layer(op_type="Add"), "needs data_type or weight_data_type"),
    (layer(start_tensor_names=["a"], data_type="U16"), "needs both start_tensor_names and"),
    (layer(op_type="Add", data_type="U61"), "did you mean 'U16'"),
    (quant(enable_adaround=True), "a key of the vendor's that npusim does not have: weights are not"),
    ({"input_processors": [{"csc_mat": []}]}, "input_processors[0].csc_mat: is a key of the vendor's"),
    (compiler(ddr_bw_limit=10), "compiler.ddr_bw_limit: 10.0 is refused: describe such a machine in"),
    (compiler(static_batch_sizes=[1, 2]), "one model has one batch size"),
    ({"output_name": "../x"}, "output_name: is a file name in output_dir, not '../x'"),
]  # fmt: skip


@pytest.mark.parametrize(("table", "message"), MISTAKES, ids=lambda value: str(value)[:50])
def test_mistakes(table, message):
    with pytest.raises(ConfigError) as caught:
        load(table)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


BROKEN = [
    ("c.json", "{", "is not JSON: line 1 "),
    ("c.json", '{"a": 1, "a": 2}', "is not JSON: "),
    ("c.json", "[1, 2]", "holds [1, 2], not keys with values"),
    ("c.json", "[" * 100_000, "is not JSON"),
    ("c.yaml", "a: [", "is not YAML: "),
    ("c.yaml", "quant: {}\nquant: {}\n", "the key 'quant' is there twice (line 2)"),
    ("c.yaml", "npu_mode: !!python/object/apply:os.system ['true']", "is not YAML: could not determine a constructor"),
    ("c.toml", "a = ", "is not TOML: "),
    ("c.ini", "", "a configuration is a file with suffix .json, .json5, .jsonc, .yaml, .yml, .toml"),
    ("c.json", '{"quant": {"calibration_metod": 1}}', "quant.calibration_metod: there is no such key"),
]


@pytest.mark.parametrize(("name", "text", "message"), BROKEN, ids=lambda value: str(value)[:30])
def test_broken_files_are_named(tmp_path, name, text, message):
    path = write(tmp_path, name, text)
    with pytest.raises(ConfigError) as caught:
        load(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_other_faults_of_files(tmp_path):
    with pytest.raises(FileNotFoundError):
        load(tmp_path / "absent.json")
    (tmp_path / "c.json").write_bytes(b"\xff\xfe{}")
    with pytest.raises(ConfigError, match="is not UTF-8 text"):
        load(tmp_path / "c.json")
    write(tmp_path, "c.json", " " * (1 << 20) + "{}")
    with pytest.raises(ConfigError, match="has 1,048,578 bytes"):
        load(tmp_path / "c.json")


def test_a_yaml_file_of_references_to_references_is_refused_at_once(tmp_path):
    lines = ["a0: &a0 [x, x]"] + [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]" for i in range(1, 40)]
    with pytest.raises(ConfigError, match="there is no such key"):
        load(write(tmp_path, "bomb.yaml", "\n".join(lines)))
    with pytest.raises(ConfigError, match="takes text, not"):
        load(write(tmp_path, "bomb.yaml", "\n".join(["npu_mode: &m", *(f" - {line}" for line in lines)])))


FLAG_MISTAKES = [
    ({"quant.calibration_metod": "KL"}, "command line: quant.calibration_metod: there is no such key; did you mean"),
    ({"quant.calibration_method": "KLD"}, "command line: quant.calibration_method: is 'KLD'"),
    ({"quant.transformer_opt_level": "one"}, "takes a whole number, not 'one'"),
    ({"quant.smooth_quant_strength": "1e999"}, "is inf, must be 0 to 1"),
    ({"quant.precision_analysis": "maybe"}, "takes true or false, not 'maybe'"),
    ({"quant.layer_configs": "U16"}, "takes a list of records as JSON"),
    ({"quant.layer_configs": "{op_type: 'Add'}"}, "takes a list of records, not"),
    ({"quant.input_configs.calibration_mean": "1,two"}, "takes a list of numbers, not 'two'"),
]


@pytest.mark.parametrize(("flags", "message"), FLAG_MISTAKES, ids=lambda value: str(value)[:40])
def test_mistakes_in_flags(flags, message):
    with pytest.raises(ConfigError) as caught:
        load(None, flags)
    assert message in str(caught.value)


def test_the_documents_example_is_a_configuration(tmp_path):
    text = (Path(__file__).parents[2] / "docs" / "build.md").read_text(encoding="utf-8")
    example = text.split("```\n")[1]
    build = load(write(tmp_path, "c.json", example)).build
    assert build.quant.layer_configs[0].data_type == "U16"
    named = set(re.findall(r"--([a-z_]+(?:\.[a-z_]+)+)", text))
    short = {path.replace("input_configs.", "") for path in KEYS}
    assert named
    assert named <= KEYS.keys() | short


def test_keys_that_change_nothing_say_so():
    (note,) = load({"compiler": {"check": 2}}).notes
    assert note == "compiler.check changes nothing: every program is proven; see npusim check"
    assert load({"compiler": {"check": 0}}).notes == ()


def test_tomllib_agrees_on_the_type_of_numbers():
    assert load(tomllib.loads("[quant]\nsmooth_quant_strength = 1")).build.quant.smooth_quant_strength == 1.0
