"""Random machines' random programs: shapes small and meaningless, but well formed, and free of deadlock.

Used by ``test_reference``, which compares the engine with the reference model; only time is compared, so the bytes may
be anything and races do not matter. The engine refuses operands that overlap or lie outside: an instruction reads from
one half of OCM and writes to the other.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from hypothesis import strategies as st

from isa.dtypes import DType, item_bytes
from isa.instruction import MNEMONICS, UNITS_PER_CORE, Instruction, Unit, Wait
from isa.instructions import Barrier, End, Interpolation, MatrixLayout, Padding
from isa.program import Program, Segment, SegmentKind, make_program

T = TypeVar("T")
Fields = dict[str, Any]

REACH_BYTES = 24 << 10
"""No operand of a random instruction reaches further behind its address, but for tables of 16-bit lookups."""

SMALLEST_OCM_BYTES = 64 << 10


class Chooser:
    """Draws the pieces of one instruction after the other; names are short, because everything is a draw.

    ``source`` and ``target`` are addresses in the half of OCM that the present instruction reads, and writes.
    """

    def __init__(self, draw: Callable[[st.SearchStrategy[Any]], Any], ocm_bytes: int) -> None:
        assert ocm_bytes >= SMALLEST_OCM_BYTES
        self.draw = draw
        self.half_bytes = ocm_bytes // 2
        self.upper_half_is_read = 0

    def n(self, low: int, high: int) -> int:
        return self.draw(st.integers(low, high))

    def pick(self, options: Sequence[T]) -> T:
        return self.draw(st.sampled_from(options))

    def flag(self) -> int:
        return self.n(0, 1)

    def source(self) -> int:
        return self.upper_half_is_read * self.half_bytes + 64 * self.n(0, (self.half_bytes - REACH_BYTES) // 64)

    def target(self) -> int:
        return (1 - self.upper_half_is_read) * self.half_bytes + 64 * self.n(0, (self.half_bytes - REACH_BYTES) // 64)

    def stride(self, dtype: DType, most: int) -> int:
        """For a source, which may overlap itself."""
        return item_bytes(dtype) * self.n(1, most // item_bytes(dtype))

    def nest(self, run: int, *counts: int, item: int = 1, most_gap: int = 24) -> list[int]:
        """Strides of ``counts``, fastest first, for a destination: each steps over all that is inside it."""
        strides, inside = [], run
        for count in counts:
            strides.append(inside + item * self.n(0, most_gap // item))
            inside = count * strides[-1]
        return strides

    def activation(self) -> DType:
        return self.pick((DType.U8, DType.S8, DType.U16, DType.S16))

    def moved(self) -> DType:
        return self.pick((DType.U8, DType.U16, DType.S32))


def _image(c: Chooser, source: DType) -> Fields:
    return {"src": c.source(), "src_row_stride": c.stride(source, 400), "src_pixel_stride": c.stride(source, 60)}


def _window(c: Chooser, source: DType, target: DType, channels: int, out_channels: int) -> Fields:
    height, width = c.n(1, 4), c.n(1, 4)
    pixel, row = c.nest(out_channels * item_bytes(target), width, height, item=item_bytes(target))
    return _image(c, source) | {
        "in_height": c.n(4, 6), "in_width": c.n(4, 6), "in_channels": channels, "dst": c.target(),
        "out_height": height, "out_width": width, "dst_row_stride": row, "dst_pixel_stride": pixel,
        "kernel_height": c.n(1, 3), "kernel_width": c.n(1, 2),
    }  # fmt: skip


def _epilogue(c: Chooser, source: DType, weight: DType) -> Fields:
    raw = DType.S64 if item_bytes(source) == 2 or item_bytes(weight) == 2 else DType.S32
    return {
        "params": c.source(), "partial": c.source(), "src_type": source, "weight_type": weight,
        "dst_type": c.pick((c.activation(), raw)), "has_bias": c.flag(), "per_channel": c.flag(),
        "accumulate": c.flag(),
    }  # fmt: skip


def _conv(c: Chooser) -> Fields:
    epilogue = _epilogue(c, c.activation(), c.pick((DType.S8, DType.U8, DType.S16)))
    groups = c.n(1, 3)
    channels, out_channels = groups * c.n(1, 8), groups * c.n(1, 8)
    window = _window(c, epilogue["src_type"], epilogue["dst_type"], channels, out_channels)
    return window | epilogue | {"weights": c.source(), "groups": groups, "out_channels": out_channels}


def _depthwise(c: Chooser) -> Fields:
    epilogue, channels = _epilogue(c, c.activation(), c.pick((DType.S8, DType.S16))), c.n(1, 20)
    window = _window(c, epilogue["src_type"], epilogue["dst_type"], channels, channels)
    return window | epilogue | {"weights": c.source()}


def _matmul(c: Chooser) -> Fields:
    epilogue = _epilogue(c, c.activation(), c.activation())
    a, b, target = epilogue["src_type"], epilogue["weight_type"], epilogue["dst_type"]
    outer, inner, m, n = c.n(1, 2), c.n(1, 2), c.n(1, 20), c.n(1, 20)
    row, dst_inner, dst_outer = c.nest(n * item_bytes(target), m, inner, outer, item=item_bytes(target))
    return epilogue | {
        "a": c.source(), "b": c.source(), "dst": c.target(), "batch_outer": outer, "batch_inner": inner, "m": m,
        "k": c.n(1, 40), "n": n, "a_row_stride": c.stride(a, 80), "b_row_stride": c.stride(b, 80),
        "a_outer_stride": c.stride(a, 3000), "a_inner_stride": 0, "b_inner_stride": c.stride(b, 2000),
        "dst_row_stride": row, "dst_inner_stride": dst_inner, "dst_outer_stride": dst_outer,
        "b_layout": c.pick(tuple(MatrixLayout)), "a_transposed": c.flag(),
    }  # fmt: skip


def _elementwise(c: Chooser) -> Fields:
    a, b, target = c.activation(), c.activation(), c.activation()
    count, counts = c.n(1, 100), [c.n(1, 3) for _ in range(3)]
    strides = c.nest(count * item_bytes(target), *counts, item=item_bytes(target))
    return {
        "a": c.source(), "b": c.source(), "dst": c.target(), "params": c.source(), "count": count,
        "a_broadcast": c.flag(), "a_type": a, "b_type": b, "dst_type": target,
        **{f"count_{d}": counts[d - 1] for d in (1, 2, 3)},
        **{f"a_stride_{d}": c.stride(a, 600) for d in (1, 2, 3)},
        **{f"b_stride_{d}": c.stride(b, 600) for d in (1, 2, 3)},
        **{f"dst_stride_{d}": strides[d - 1] for d in (1, 2, 3)},
    }  # fmt: skip


def _rows(c: Chooser, source: DType, target: DType, count: str = "count") -> Fields:
    length, rows = c.n(1, 300), c.n(1, 6)
    (stride,) = c.nest(length * item_bytes(target), rows, item=item_bytes(target))
    return {
        "src": c.source(), "dst": c.target(), count: length, "rows": rows, "src_row_stride": c.stride(source, 800),
        "dst_row_stride": stride,
    }  # fmt: skip


def _lookup(c: Chooser) -> Fields:
    large = c.half_bytes >= 2 * 65536
    source, target = c.activation() if large else c.pick((DType.U8, DType.S8)), c.activation()
    table = c.upper_half_is_read * c.half_bytes if item_bytes(source) == 2 else c.source()
    return _rows(c, source, target) | {"table": table, "src_type": source, "dst_type": target}


def _requantize(c: Chooser) -> Fields:
    types = (DType.U8, DType.S8, DType.S16, DType.U16, DType.S32, DType.S64)
    source, target = c.pick(types), c.pick(types)
    return _rows(c, source, target) | {
        "params": c.source(), "src_type": source, "dst_type": target, "per_channel": c.flag()
    }  # fmt: skip


def _rescale(c: Chooser) -> Fields:
    source, target = c.activation(), c.activation()
    return _rows(c, source, target) | {"params": c.source(), "src_type": source, "dst_type": target}


def _quantize(c: Chooser) -> Fields:
    target = c.activation()
    return _rows(c, DType.F32, target) | {"params": c.source(), "dst_type": target}


def _dequantize(c: Chooser) -> Fields:
    source = c.pick((DType.U8, DType.S16, DType.S32))
    return _rows(c, source, DType.F32) | {"params": c.source(), "src_type": source}


def _max_pool(c: Chooser) -> Fields:
    data_type, channels = c.activation(), c.n(1, 60)
    return _window(c, data_type, data_type, channels, channels) | {"data_type": data_type}


def _average_pool(c: Chooser) -> Fields:
    source, target, channels = c.activation(), c.activation(), c.n(1, 60)
    types = {"src_type": source, "dst_type": target}
    return _window(c, source, target, channels, channels) | {"params": c.source()} | types


def _global_average_pool(c: Chooser) -> Fields:
    source = c.activation()
    return _image(c, source) | {
        "dst": c.target(), "params": c.source(), "height": c.n(1, 5), "width": c.n(1, 5), "channels": c.n(1, 80),
        "src_type": source, "dst_type": c.activation(),
    }  # fmt: skip


def _arg(c: Chooser) -> Fields:
    source = c.activation()
    return {
        "src": c.source(), "dst": c.target(), "outer": c.n(1, 4), "length": c.n(1, 40), "inner": c.pick((1, 2, 30)),
        "src_outer_stride": c.stride(source, 2000), "src_stride": c.stride(source, 60), "src_type": source,
    }  # fmt: skip


def _reduce(c: Chooser) -> Fields:
    return _arg(c) | {"params": c.source(), "dst_type": c.activation()}


def _resize(c: Chooser) -> Fields:
    source, target, channels = c.activation(), c.activation(), c.n(1, 60)
    height, width = c.n(1, 6), c.n(1, 6)
    pixel, row = c.nest(channels * item_bytes(target), width, height, item=item_bytes(target))
    return _image(c, source) | {
        "dst": c.target(), "params": c.source(), "tables": c.source(), "in_height": c.n(1, 5), "in_width": c.n(1, 5),
        "out_height": height, "out_width": width, "channels": channels, "dst_row_stride": row,
        "dst_pixel_stride": pixel, "src_type": source, "dst_type": target,
        "interpolation": c.pick(tuple(Interpolation)),
    }  # fmt: skip


def _normalization(c: Chooser) -> Fields:
    source, target = c.activation(), c.activation()
    rows = _rows(c, source, target, count="length")
    return rows | {"params": c.source(), "src_type": source, "dst_type": target}


def _copy(c: Chooser) -> Fields:
    run, counts = c.n(1, 150), [c.n(1, 3) for _ in range(4)]
    strides = c.nest(run, *counts)
    return {
        "src": c.source(), "dst": c.target(), "run": run,
        **{f"count_{d}": counts[d - 1] for d in (1, 2, 3, 4)},
        **{f"src_stride_{d}": c.n(0, 600) for d in (1, 2, 3, 4)},
        **{f"dst_stride_{d}": strides[d - 1] for d in (1, 2, 3, 4)},
    }  # fmt: skip


def _transpose(c: Chooser) -> Fields:
    data_type, batch, rows, columns = c.moved(), c.n(1, 3), c.n(1, 30), c.n(1, 40)
    row, matrix = c.nest(rows * item_bytes(data_type), columns, batch, item=item_bytes(data_type))
    return {
        "src": c.source(), "dst": c.target(), "batch": batch, "rows": rows, "columns": columns,
        "src_batch_stride": c.stride(data_type, 2000), "src_row_stride": c.stride(data_type, 200),
        "dst_batch_stride": matrix, "dst_row_stride": row, "data_type": data_type,
    }  # fmt: skip


def _pad(c: Chooser) -> Fields:
    data_type, channels, height, width = c.moved(), c.n(1, 20), c.n(1, 5), c.n(1, 5)
    top, bottom, left, right = (c.n(0, 2) for _ in range(4))
    item = item_bytes(data_type)
    dense = channels * item
    pixel = dense + c.pick((0, 0, 2 * item))
    (row,) = c.nest((left + width + right) * pixel, top + height + bottom, item=item)
    return {
        "src": c.source(), "dst": c.target(), "height": height, "width": width, "channels": channels, "top": top,
        "bottom": bottom, "left": left, "right": right, "src_row_stride": c.stride(data_type, 500),
        "src_pixel_stride": dense + c.pick((0, 0, 2 * item)), "dst_row_stride": row, "dst_pixel_stride": pixel,
        "data_type": data_type, "mode": Padding.EDGE,
    }  # fmt: skip


def _gather(c: Chooser) -> Fields:
    run, count = c.n(1, 100), c.n(1, 20)
    (stride,) = c.nest(run, count)
    return {
        "table": c.source(), "indices": c.source(), "dst": c.target(), "table_rows": c.n(1, 20), "count": count,
        "run": run, "table_row_stride": c.n(1, 200), "dst_row_stride": stride,
    }  # fmt: skip


def _fill(c: Chooser) -> Fields:
    data_type, run, counts = c.moved(), c.n(1, 100), [c.n(1, 3) for _ in range(3)]
    strides = c.nest(run * item_bytes(data_type), *counts, item=item_bytes(data_type))
    return {
        "dst": c.target(), "run": run, "data_type": data_type,
        **{f"count_{d}": counts[d - 1] for d in (1, 2, 3)},
        **{f"dst_stride_{d}": strides[d - 1] for d in (1, 2, 3)},
    }  # fmt: skip


SMALLEST_SEGMENT_BYTES = 10_000


def _dram_transfer(c: Chooser) -> Fields:
    """Strides without gaps are frequent on the DRAM side, so that dimensions merge, alone and in company."""
    run, counts = c.n(1, 300), (c.n(1, 4), c.n(1, 3), c.n(1, 2))
    dram, inside = [], run
    for count in counts:
        dram.append(inside + c.pick((0, 0, 16, c.n(0, 250))))
        inside = count * dram[-1]
    return {
        "segment": c.n(0, 1), "run": run,
        **{f"count_{d}": counts[d - 1] for d in (1, 2, 3)},
        **{f"dram_stride_{d}": dram[d - 1] for d in (1, 2, 3)},
    }  # fmt: skip


def _fits(c: Chooser, fields: Fields) -> Fields:
    """The transfer at some offset in the segment, with fewer runs if it must."""
    for reduced in ({}, {"count_3": 1}, {"count_3": 1, "count_2": 1}):
        fields = fields | reduced
        reach = fields["run"] + sum((fields[f"count_{d}"] - 1) * fields[f"dram_stride_{d}"] for d in (1, 2, 3))
        if reach <= SMALLEST_SEGMENT_BYTES:
            break
    return fields | {"offset": c.n(0, SMALLEST_SEGMENT_BYTES - reach)}


def _load(c: Chooser) -> Fields:
    fields = _dram_transfer(c)
    if c.n(0, 3) == 3:  # a source may read bytes twice
        fields |= {"dram_stride_1": c.n(0, 300), "dram_stride_2": c.pick((0, fields["run"], 500))}
    strides = c.nest(fields["run"], *(fields[f"count_{d}"] for d in (1, 2, 3)))
    return _fits(c, fields | {"ocm": c.target()} | {f"ocm_stride_{d}": strides[d - 1] for d in (1, 2, 3)})


def _store(c: Chooser) -> Fields:
    strides = {f"ocm_stride_{d}": c.n(0, 700) for d in (1, 2, 3)}
    return _fits(c, _dram_transfer(c) | {"ocm": c.source()} | strides)


def _send(c: Chooser) -> Fields:
    run, counts = c.n(1, 300), [c.n(1, 3) for _ in range(3)]
    strides = c.nest(run, *counts)
    return {
        "src": c.source(), "dst": c.target(), "run": run,
        **{f"count_{d}": counts[d - 1] for d in (1, 2, 3)},
        **{f"src_stride_{d}": c.n(0, 700) for d in (1, 2, 3)},
        **{f"dst_stride_{d}": strides[d - 1] for d in (1, 2, 3)},
    }  # fmt: skip


def _nothing(_: Chooser) -> Fields:
    return {}


FIELDS: dict[str, Callable[[Chooser], Fields]] = {
    "conv": _conv, "conv_transpose": _conv, "depthwise_conv": _depthwise, "matmul": _matmul,
    "add": _elementwise, "mul": _elementwise, "sub": _elementwise, "div": _elementwise, "min": _elementwise,
    "max": _elementwise, "lookup": _lookup, "requantize": _requantize, "rescale": _rescale, "quantize": _quantize,
    "dequantize": _dequantize, "max_pool": _max_pool, "average_pool": _average_pool,
    "global_average_pool": _global_average_pool, "reduce_sum": _reduce, "reduce_mean": _reduce,
    "reduce_max": _reduce, "reduce_min": _reduce, "arg_max": _arg, "arg_min": _arg, "resize": _resize,
    "layer_norm": _normalization, "rms_norm": _normalization, "softmax": _normalization, "copy": _copy,
    "transpose": _transpose, "pad": _pad, "gather": _gather, "fill": _fill, "load": _load,
    "store": _store, "multicast": _load, "send": _send, "sync": _nothing,
}  # fmt: skip
"""How to draw the fields of each instruction but ``barrier`` and ``end``, which ``random_program`` places itself."""

_KINDS = {unit: [name for name in FIELDS if unit in MNEMONICS[name].layout.units] for unit in Unit}
_KINDS[Unit.SDMA] += ["load", "load", "store"]


def random_instruction(
    c: Chooser, mnemonic: str, core: int, cores: int, waits: Callable[[int], tuple[Wait, ...]] = lambda _: ()
) -> Instruction:
    """One instruction for a unit of logical ``core`` among ``cores``; ``waits`` draws at most so many."""
    c.upper_half_is_read = c.flag()
    fields = FIELDS[mnemonic](c)
    if mnemonic == "multicast":
        fields["cores"] = c.n(1, (1 << cores) - 1)
    if mnemonic == "send":
        fields["dst_core"] = (core + c.n(1, cores - 1)) % cores
    cls: Any = MNEMONICS[mnemonic]
    return cls(**fields, waits=waits(6 if mnemonic == "sync" else 3))


def random_segments(c: Chooser) -> list[Segment]:
    """The two segments that transfers name."""
    return [
        Segment(name="first", kind=SegmentKind.SCRATCH, size_bytes=c.n(SMALLEST_SEGMENT_BYTES, 20_000)),
        Segment(name="second", kind=SegmentKind.SCRATCH, size_bytes=c.n(SMALLEST_SEGMENT_BYTES, 20_000)),
    ]


def random_program(c: Chooser, name: str, cores: int, length: int) -> Program:
    """A program in which each instruction waits only for ones placed before it, so that it always ends."""
    streams: dict[int, list[Instruction]] = {}
    meetings: dict[frozenset[int], int] = {}
    # some programs use few units, so that those meet more often
    transfer_units = [core * UNITS_PER_CORE + Unit.SDMA for core in range(cores)]
    units = [n for n in range(cores * UNITS_PER_CORE) if c.n(0, 3) or n in transfer_units]

    def waits(most: int) -> tuple[Wait, ...]:
        placed = sorted(streams)
        made = []
        for _ in range(max(0, c.n(-most, most)) if placed else 0):
            unit = c.pick(placed)
            made.append(Wait(unit, len(streams[unit]) - c.n(0, min(2, len(streams[unit]) - 1))))
        return tuple(made)

    for _ in range(length):
        if c.n(0, 15) == 9:
            participants = frozenset(c.draw(st.sets(st.sampled_from(units), min_size=1, max_size=6)))
            mask = sum(1 << number for number in participants)
            identity = meetings.setdefault(participants, len(meetings))
            before = {number: waits(2) for number in sorted(participants)}
            for number in sorted(participants):
                barrier = Barrier(units=mask, id=identity, waits=before[number])  # type: ignore[call-arg]
                streams.setdefault(number, []).append(barrier)
            continue
        number = c.pick(transfer_units if c.flag() else units)
        core, unit = number // UNITS_PER_CORE, Unit(number % UNITS_PER_CORE)
        mnemonic = c.pick(_KINDS[unit])
        if mnemonic == "send" and cores == 1:
            mnemonic = "load"
        made = random_instruction(c, mnemonic, core, cores, waits)
        streams.setdefault(number, []).append(made)
    for number, stream in streams.items():
        if c.n(0, 3) == 0:
            stream.append(End(waits=tuple(w for w in waits(2) if w.unit != number)))  # type: ignore[call-arg]
    return make_program(name, streams, random_segments(c), cores=cores)
