"""Automatic mixed precision: the target is met with few layers, or the user is told what can be had."""

from __future__ import annotations

import onnx
import pytest

from npusim.errors import UsageError
from npusim.quant import quantize
from npusim.quant.errors import QuantizationError
from npusim.quant.mixed import _fewest, parse_target
from npusim.quant.precision import compare_outputs
from npusim.quant.settings import LayerConfig, QuantSettings
from tests.quant.floats import TRAINED, DigitImages

SAMPLES = DigitImages(4)


@pytest.fixture(scope="module")
def cnn():
    return onnx.load(TRAINED / "digits_cnn.onnx")


def reached(model, settings):
    quantized = quantize(model, SAMPLES, settings)
    (output,) = compare_outputs(quantized.float_model, quantized.model, SAMPLES)
    return output.snr_db


def test_the_target_is_met_by_the_fewest_leading_layers_and_the_cost_is_asked_for(cnn):
    asked = []
    target = round(reached(cnn, QuantSettings(highest_mix_precision=True)) - 1, 1)

    def cycles_of(model):
        wide = sum(item.data_type == onnx.TensorProto.UINT16 for item in model.graph.initializer)
        asked.append(wide)
        return 1000 + wide

    found = quantize(cnn, SAMPLES, QuantSettings(auto_mix_precision=f"snr:{target}"), cycles_of=cycles_of)
    mixed = found.mixed
    assert mixed.before < target <= mixed.after
    assert mixed.weight_data_type == "S8"
    (output,) = compare_outputs(found.float_model, found.model, SAMPLES)
    assert output.snr_db == mixed.after
    fewer = (LayerConfig(layer_names=mixed.layers[:-1], data_type="U16", weight_data_type="S8"),)
    assert reached(cnn, QuantSettings(layer_configs=fewer)) < target
    assert asked[0] == 0 < asked[1]
    assert (mixed.cycles_before, mixed.cycles_after) == (1000, 1000 + asked[1])


def test_weights_get_16_bits_where_8_are_not_enough(cnn):
    wide = reached(cnn, QuantSettings(highest_mix_precision=True))
    found = quantize(cnn, SAMPLES, QuantSettings(auto_mix_precision=f"snr:{wide + 6}"))
    assert found.mixed.weight_data_type == "S16"
    assert found.mixed.after >= wide + 6


def test_a_target_that_is_met_already_promotes_nothing(cnn):
    plain = quantize(cnn, SAMPLES)
    found = quantize(cnn, SAMPLES, QuantSettings(auto_mix_precision="cosine:0.99"))
    assert (found.mixed.layers, found.mixed.cycles_after) == ((), None)
    assert found.model == plain.model


def test_a_target_out_of_reach_says_what_is_in_reach(cnn):
    with pytest.raises(
        QuantizationError, match=r"snr:99 cannot be met: with 16 bits in all 7 layers .* reach snr \d\d"
    ):
        quantize(cnn, SAMPLES, QuantSettings(auto_mix_precision="snr:99"))


@pytest.mark.parametrize("needed", range(1, 24))
def test_doubling_and_halving_finds_the_smallest_number_in_few_tries(needed):
    class Stub:
        tries = 0

        def meets(self, layers, weight_data_type):
            del weight_data_type
            self.tries += 1
            return len(layers) >= needed

    stub = Stub()
    assert _fewest(stub, tuple(map(str, range(23))), "S8") == needed
    assert stub.tries <= 9  # 1, 2, 4, 8, 16, then four halvings of what is left


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("snr", "cosine:0.999 or snr:30"),
        ("cosin:0.9", "did you mean 'cosine'"),
        ("snr:much", "not 'snr:much'"),
        ("cosine:1.5", "between 0 and 1"),
        ("snr:-3", "between 0 and 100 dB"),
        ("cosine:nan", "between 0 and 1"),
    ],
)
def test_targets_that_make_no_sense_are_refused(text, words):
    with pytest.raises(UsageError, match=words):
        parse_target(text)


def test_what_is_moved_between_16_bit_layers_stays_at_16_bits():
    model = onnx.load(TRAINED / "digits_swin.onnx")
    plain = quantize(model, SAMPLES)
    moves = ("Concat", "Slice", "Reshape", "Transpose", "Gather", "Flatten", "Squeeze")
    names = tuple(row.name for row in plain.table if row.ops[-1] not in moves)
    wide = quantize(model, SAMPLES, QuantSettings(layer_configs=(LayerConfig(layer_names=names, data_type="U16"),)))
    assert [row.name for row in wide.table if row.data_type != "U16"] == []
