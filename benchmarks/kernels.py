"""Our INT8 kernels against onnxruntime's: ``python -m benchmarks.kernels [--threads 1] [--json F]``.

A and B run in turn, several rounds, and the best of each counts: process CPU time for one thread, wall-clock time for
more. Multiply-accumulates are also held against a register-only loop of the best multiply-add this CPU offers
(``vpdpbusd`` with VNNI, else pairs of 16-bit products), measured in the same rounds.
Prints a table and writes ``{"rows": [{kernel, shape, threads, gops, share_of_peak, ratio_to_onnxruntime, peer}]}``;
``gops`` counts a multiply-accumulate as two operations and an element of any other kernel as one. With several threads
each kernel runs with one in the same rounds, too: ``ratio_to_one_thread``; calls follow one another, so that our
threads are awake, and what it costs to hand work to them is measured first.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numba import njit, types
from numba.core import cgutils
from numba.extending import intrinsic

from benchmarks import peers, swin_t
from isa import law
from npusim import kernels
from npusim.kernels import threads
from npusim.kernels.compiled import emit, pairs

Array = np.ndarray[Any, Any]
Run = Callable[[], None]

MEASURED_SECONDS = 0.01
"""A measurement repeats its call until it takes about this long."""

IDLE_SECONDS = 0.005
"""Time in which threads that wait awake for more work fall asleep."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One comparison: our call, the peer's, and what they compute."""

    kernel: str
    shape: str
    operations: int
    ours: Run
    peer: str
    theirs: Run | None
    multiplies: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One line of the result."""

    kernel: str
    shape: str
    threads: int
    microseconds: float
    gops: float
    share_of_peak: float | None
    ratio_to_onnxruntime: float | None
    ratio_to_one_thread: float | None
    peer: str


VNNI = kernels.Tier.VNNI in kernels.available()
PEAK_LOOP = "vpdpbusd, 8 bits" if VNNI else "pairs of 16-bit products, as the portable tier multiplies"
"""The multiply-add of the register loop."""

PEAK_SUMS, PEAK_LANES = (24, 16) if VNNI else (12, pairs.LANES)
PEAK_ROUNDS = 100_000
PEAK_OPERATIONS = 2 * PEAK_SUMS * PEAK_LANES * (4 if VNNI else 2) * PEAK_ROUNDS


@intrinsic
def _register_loop(typingctx, rounds, seed):  # noqa: ARG001
    """Independent multiply-adds, as many a round as the registers hold sums, and nothing else."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:  # noqa: ARG001
        accs = [cgutils.alloca_once(builder, emit.vector(emit.I32, PEAK_LANES)) for _ in range(PEAK_SUMS)]
        operand = emit.splat(builder, builder.trunc(args[1], emit.I32), PEAK_LANES)
        for acc in accs:
            builder.store(operand, acc)
        with cgutils.for_range(builder, args[0]):
            for acc in accs:
                value = builder.load(acc)  # a factor too in the second form: a constant product would leave the loop
                total = emit.dot_bytes(builder, value, operand, operand) if VNNI else emit.dot_pairs(
                    builder, value, value, operand
                )  # fmt: skip
                builder.store(total, acc)
        total = builder.load(accs[0])
        for acc in accs[1:]:
            total = builder.xor(total, builder.load(acc))
        name = f"llvm.vector.reduce.xor.v{PEAK_LANES}i32"
        return builder.sext(emit.call(builder, name, emit.I32, [total]), emit.I64)

    return types.int64(types.int64, types.int64), codegen


@njit(nogil=True)
def _peak(rounds, seed):
    return _register_loop(rounds, seed)


class Stopwatch:
    """Times calls: CPU seconds of the process with one thread, wall-clock seconds with more."""

    def __init__(self, threads: int) -> None:
        self._clock = time.process_time if threads == 1 else time.perf_counter
        self._repeats: dict[int, int] = {}

    def seconds(self, run: Run) -> float:
        """Seconds of one call, averaged over enough of them."""
        repeats = self._repeats.get(id(run))
        if repeats is None:
            run()
            once = self._time(run, 1)
            repeats = self._repeats[id(run)] = max(1, round(MEASURED_SECONDS / max(once, 1e-6)))
        return self._time(run, repeats) / repeats

    def _time(self, run: Run, repeats: int) -> float:
        if self._clock is time.perf_counter:
            time.sleep(IDLE_SECONDS)
            run()  # wakes its own threads
        start = self._clock()
        for _ in range(repeats):
            run()
        return self._clock() - start


def _integers(rng: np.random.Generator, dtype: Any, *shape: int) -> Array:
    info = np.iinfo(dtype)
    return rng.integers(info.min, info.max, shape, dtype=dtype, endpoint=True)


SWIN_T_MATMULS = [
    (3136, 96, 288), (3136, 96, 96), (3136, 96, 384), (3136, 384, 96), (784, 384, 192), (784, 192, 576),
    (784, 192, 192), (784, 192, 768), (784, 768, 192), (196, 768, 384), (196, 384, 1152),
    (196, 384, 384), (196, 384, 1536),
    (196, 1536, 384), (49, 1536, 768), (49, 768, 2304), (49, 768, 768), (49, 768, 3072), (49, 3072, 768),
]  # fmt: skip
SWIN_T_ATTENTION = [(192, 49, 32, 49), (96, 49, 32, 49), (48, 49, 32, 49), (24, 49, 32, 49)]


def matmul_cases(rng: np.random.Generator, runtime: peers.Runtime) -> Iterator[Case]:
    """Swin-T's products: with constant weights, and of two live tensors."""
    for m, k, n in SWIN_T_MATMULS:
        a, weights, dst = _integers(rng, np.uint8, m, k), swin_t.blocked(n, k, rng), np.empty((m, n), np.uint8)
        bias, multiplier = swin_t.folded_bias(weights, 128)[:n], np.full(n, 4e-4, np.float32)

        def ours(a=a, weights=weights, dst=dst, bias=bias, multiplier=multiplier) -> None:
            kernels.matmul(a, weights, dst, weight_layout="blocked", bias=bias, multiplier=multiplier,
                           dst_zero=128)  # fmt: skip

        theirs = peers.matmul(a, _integers(rng, np.int8, k, n), dst, runtime, live=False)
        yield Case(kernel="matmul", shape=f"{m}x{k}x{n}", operations=2 * m * k * n, ours=ours, peer="QLinearMatMul",
                   theirs=theirs)  # fmt: skip
    for batch, m, k, n in SWIN_T_ATTENTION:
        for layout, depth, width in (("transposed", k, n), ("row_major", n, k)):
            a, dst = _integers(rng, np.uint8, batch, 1, m, depth), np.empty((batch, 1, m, width), np.uint8)
            b = _integers(rng, np.uint8, batch, 1, depth, width)
            stored = np.ascontiguousarray(b.swapaxes(2, 3)) if layout == "transposed" else b

            def both_live(a=a, b=stored, dst=dst, layout=layout) -> None:
                kernels.matmul(a, b, dst, weight_layout=layout, src_zero=128, multiplier=4e-4, dst_zero=128)

            # onnxruntime has no transposed product: its operand is transposed beforehand, at no cost to it.
            theirs = peers.matmul(a, b, dst, runtime, live=True)
            yield Case(kernel="matmul", shape=f"{batch}x{m}x{depth}x{width} {layout}",
                       operations=2 * batch * m * depth * width, ours=both_live, peer="QLinearMatMul, live",
                       theirs=theirs)  # fmt: skip


CONVOLUTIONS = [
    ("conv", 56, 64, 64, 3, 1), ("conv", 28, 128, 128, 3, 1), ("conv", 14, 256, 256, 3, 1), ("conv", 7, 512, 512, 3, 1),
    ("conv", 56, 128, 128, 3, 2), ("conv", 56, 64, 256, 1, 1), ("conv", 28, 512, 128, 1, 1),
    ("conv", 14, 256, 1024, 1, 1), ("conv", 7, 2048, 512, 1, 1),
    ("patch_embed", 224, 3, 96, 4, 4), ("stem", 224, 3, 64, 7, 2),
]  # fmt: skip
DEPTHWISE = [(112, 32, 3, 1), (112, 96, 3, 2), (56, 144, 3, 1), (28, 192, 3, 1), (14, 576, 3, 1), (7, 960, 3, 1),
             (56, 96, 7, 1)]  # fmt: skip


def conv_cases(rng: np.random.Generator, runtime: peers.Runtime) -> Iterator[Case]:
    """Convolutions of ResNet-50 and Swin-T."""
    for name, side, ic, oc, size, stride in CONVOLUTIONS:
        pad = 0 if size in (1, 4) else size // 2
        out = (side + 2 * pad - size) // stride + 1
        src, dst = _integers(rng, np.uint8, side, side, ic), np.empty((out, out, oc), np.uint8)
        weights = swin_t.blocked(oc, size * size * ic, rng)
        bias, multiplier = np.zeros(oc, np.int32), np.full(oc, 4e-4, np.float32)
        settings = {"kernel": (size, size), "stride": (stride, stride), "pad": (pad, pad), "src_zero": 100,
                    "bias": bias, "multiplier": multiplier, "dst_zero": 128}  # fmt: skip

        def ours(src=src, weights=weights, dst=dst, settings=settings) -> None:
            kernels.conv(src, weights, dst, **settings)

        theirs = peers.conv(src, _integers(rng, np.int8, oc, ic, size, size), dst, runtime, stride=stride, pad=pad,
                            groups=1)  # fmt: skip
        yield Case(kernel=name, shape=f"{side}x{side}x{ic} to {oc}, {size}x{size} s{stride}",
                   operations=2 * out * out * oc * size * size * ic, ours=ours, peer="QLinearConv, channels last",
                   theirs=theirs)  # fmt: skip


def depthwise_cases(rng: np.random.Generator, runtime: peers.Runtime) -> Iterator[Case]:
    """Depthwise convolutions of MobileNetV2 and ConvNeXt."""
    for side, channels, size, stride in DEPTHWISE:
        pad, out = size // 2, (side - 1) // stride + 1
        src, dst = _integers(rng, np.uint8, side, side, channels), np.empty((out, out, channels), np.uint8)
        weights = _integers(rng, np.int8, size, size, channels)
        bias, multiplier = np.zeros(channels, np.int32), np.full(channels, 4e-4, np.float32)
        settings = {"kernel": (size, size), "stride": (stride, stride), "pad": (pad, pad), "src_zero": 100,
                    "bias": bias, "multiplier": multiplier, "dst_zero": 128}  # fmt: skip

        def ours(src=src, weights=weights, dst=dst, settings=settings) -> None:
            kernels.depthwise(src, weights, dst, **settings)

        theirs = peers.conv(src, weights.transpose(2, 0, 1)[:, None], dst, runtime, stride=stride, pad=pad,
                            groups=channels)  # fmt: skip
        yield Case(kernel="depthwise", shape=f"{side}x{side}x{channels}, {size}x{size} s{stride}",
                   operations=2 * out * out * channels * size * size, ours=ours, peer="QLinearConv, channels last",
                   theirs=theirs)  # fmt: skip


def row_cases(rng: np.random.Generator, runtime: peers.Runtime) -> Iterator[Case]:
    """Everything that is not a product, on Swin-T's shapes."""
    for rows, n in ((3136, 96), (784, 192), (196, 384), (49, 768)):
        src, dst = _integers(rng, np.uint8, rows, n), np.empty((rows, n), np.uint8)
        gain, offset = np.ones(n, np.float32), np.zeros(n, np.float32)

        def norm(src=src, dst=dst, gain=gain, offset=offset) -> None:
            kernels.layer_norm(src, dst, gain=gain, offset=offset, src_scale=0.02, epsilon=1e-5, dst_scale=0.03,
                               dst_zero=128)  # fmt: skip

        theirs = peers.between_reals("LayerNormalization", src, dst, runtime, gain, offset, src_scale=0.02,
                                     dst_scale=0.03, dst_zero=128, epsilon=1e-5)  # fmt: skip
        yield Case(kernel="layernorm", shape=f"{rows}x{n}", operations=src.size, ours=norm, theirs=theirs,
                   peer="Q/DQ LayerNormalization", multiplies=False)  # fmt: skip
    for rows, n in ((9408, 49), (1176, 49), (1, 1000)):
        src, dst, table = _integers(rng, np.uint8, rows, n), np.empty((rows, n), np.uint8), law.exp_table(0.05)

        def softmax(src=src, dst=dst, table=table) -> None:
            kernels.softmax(src, dst, table=table, dst_scale=1 / 256)

        theirs = peers.between_reals("Softmax", src, dst, runtime, src_scale=0.05, dst_scale=1 / 256, dst_zero=0,
                                     axis=-1)  # fmt: skip
        yield Case(kernel="softmax", shape=f"{rows}x{n}", operations=src.size, ours=softmax, theirs=theirs,
                   peer="Q/DQ Softmax", multiplies=False)  # fmt: skip
    for rows, n in ((3136, 384), (196, 1536)):
        src, dst, table = (
            _integers(rng, np.uint8, rows, n),
            np.empty((rows, n), np.uint8),
            _integers(rng, np.uint8, 256),
        )

        def gelu(src=src, dst=dst, table=table) -> None:
            kernels.lookup(src, table, dst)

        theirs = peers.between_reals("Gelu", src, dst, runtime, src_scale=0.05, dst_scale=0.05, dst_zero=4)
        yield Case(kernel="gelu", shape=f"{rows}x{n}", operations=src.size, ours=gelu, theirs=theirs,
                   peer="Q/DQ Gelu", multiplies=False)  # fmt: skip
    for rows, n in ((3136, 96), (196, 384)):
        a, b = (_integers(rng, np.uint8, rows, n) for _ in range(2))
        dst, acc = np.empty((rows, n), np.uint8), _integers(rng, np.int32, rows, n)
        multiplier = np.full(n, 1e-7, np.float32)

        def add(a=a, b=b, dst=dst) -> None:
            kernels.add(a, b, dst, a_scale=0.02, b_scale=0.03, dst_scale=0.04, a_zero=128, b_zero=120, dst_zero=128)

        yield Case(kernel="add", shape=f"{rows}x{n}", operations=a.size, ours=add,
                   theirs=peers.add(a, b, dst, runtime), peer="QLinearAdd", multiplies=False)  # fmt: skip

        def requantize(acc=acc, dst=dst, multiplier=multiplier) -> None:
            kernels.requantize(acc, dst, multiplier=multiplier, dst_zero=128)

        theirs = peers.between_reals("", acc, dst, runtime, src_scale=1e-4, dst_scale=1e3, dst_zero=128)
        yield Case(kernel="requantize", shape=f"{rows}x{n}", operations=acc.size, ours=requantize, theirs=theirs,
                   peer="DequantizeLinear, QuantizeLinear", multiplies=False)  # fmt: skip


def swin_cases(rng: np.random.Generator, runtime: peers.Runtime) -> Iterator[Case]:
    """All of Swin-T's arithmetic against onnxruntime's INT8 Swin-T."""
    from models.quantize import quantize
    from models.recipe import build

    theirs = peers.whole_model(quantize(build("swin_t"), "u8s8"), runtime)
    calls = swin_t.calls(rng)

    def ours() -> None:
        for call in calls:
            call()

    macs = 4_490_000_000  # multiply-accumulates of Swin-T at 224 x 224, attention included
    yield Case(kernel="swin_t_total", shape="224x224", operations=2 * macs, ours=ours, theirs=theirs,
               peer="INT8 Swin-T, U8S8")  # fmt: skip


FAMILIES = {"matmul": matmul_cases, "conv": conv_cases, "depthwise": depthwise_cases, "rows": row_cases,
            "swin_t": swin_cases}  # fmt: skip


def measure(cases: Iterator[Case], threads: int, rounds: int) -> Iterator[Row]:
    """Run each case in turn with its peer and the register loop; the best of the rounds counts."""
    watch = Stopwatch(threads)

    def peak() -> None:
        _peak(PEAK_ROUNDS, 1)

    for case in cases:
        ours = alone = theirs = loop = float("inf")

        def on_one_thread(case: Case = case) -> None:
            kernels.set_threads(1)
            case.ours()
            kernels.set_threads(threads)

        for _ in range(rounds):
            ours = min(ours, watch.seconds(case.ours))
            if threads > 1:
                alone = min(alone, watch.seconds(on_one_thread))
            if case.theirs is not None:
                theirs = min(theirs, watch.seconds(case.theirs))
            if case.multiplies:
                loop = min(loop, watch.seconds(peak))
        gops = case.operations / ours / 1e9
        share = gops / (PEAK_OPERATIONS / loop / 1e9 * threads) if loop < float("inf") else None
        yield Row(kernel=case.kernel, shape=case.shape, threads=threads, microseconds=ours * 1e6, gops=gops,
                  share_of_peak=share, ratio_to_onnxruntime=_ratio(theirs, ours),
                  ratio_to_one_thread=_ratio(alone, ours), peer=case.peer)  # fmt: skip


def handover_microseconds(idle_seconds: float, rounds: int = 200) -> float:
    """Median time of a kernel call that has nothing to do but to share that with other threads, after an idle time."""
    times = []
    for _ in range(rounds):
        time.sleep(idle_seconds)
        start = time.perf_counter()
        threads.split(lambda *_: None, 2, threads.WORTHWHILE)
        times.append(time.perf_counter() - start)
    return sorted(times)[rounds // 2] * 1e6


def _ratio(theirs: float, ours: float) -> float | None:
    """How many times as fast ours is; None where theirs was not measured."""
    return theirs / ours if theirs < float("inf") else None


def main() -> None:
    """Parse the command, measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=7, help="measurements of each side (default: 7)")
    parser.add_argument("--only", choices=FAMILIES, action="append", help="this family; may be given several times")
    parser.add_argument("--exact", action="store_true", help="make onnxruntime's products exact, without VNNI too")
    parser.add_argument("--json", type=Path, help="file to write")
    arguments = parser.parse_args()
    kernels.set_threads(arguments.threads)
    runtime = peers.Runtime(threads=arguments.threads, exact=arguments.exact)
    rng, rows = np.random.default_rng(0), []
    print(f"kernels: {kernels.active().value}; peak: a register-only loop of multiply-adds, {PEAK_LOOP}")
    several = arguments.threads > 1
    if several:
        awake, asleep = handover_microseconds(0), handover_microseconds(IDLE_SECONDS)
        print(f"handing work over and waiting for its end: {awake:.0f} us, {asleep:.0f} us to threads that sleep")
    print(f"{'kernel':13}{'shape':36}{'us':>9}{'Gop/s':>8}{'peak':>7}{'x one' if several else '':>7}{'ratio':>7}  peer")
    for family in arguments.only or FAMILIES:
        for row in measure(FAMILIES[family](rng, runtime), arguments.threads, arguments.rounds):
            rows.append(row)
            share = f"{row.share_of_peak:7.0%}" if row.share_of_peak is not None else f"{'':7}"
            alone, ratio = (
                f"{value:7.2f}" if value is not None else f"{'':7}"
                for value in (row.ratio_to_one_thread, row.ratio_to_onnxruntime)
            )
            figures = f"{row.microseconds:9.1f}{row.gops:8.1f}{share}{alone}{ratio}"
            print(f"{row.kernel:13}{row.shape:36}{figures}  {row.peer}")
            sys.stdout.flush()
    if arguments.json:
        arguments.json.write_text(json.dumps({"rows": [asdict(row) for row in rows]}, indent=1) + "\n")


if __name__ == "__main__":
    main()
