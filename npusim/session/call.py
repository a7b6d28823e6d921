"""One call of a built model: its parts one after the other, programs on the machine and ONNX models on the host.

Used by everything that runs a model: sessions, notebooks, checks and commands. For a model that is one program this is
``npusim.sim.simulate`` with arrays under the model's own names.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
from onnx import helper

from isa.program import segment_name
from npusim.axmodel import ELEMENT_TYPES, Axmodel, CpuPart, NpuPart, Port
from npusim.config import Hardware
from npusim.errors import SimulationError, UnverifiedProgramError

if TYPE_CHECKING:
    import onnxruntime

    from npusim.sim import Mode, Result

Array = np.ndarray[Any, Any]

SESSIONS_KEPT = 16
"""CPU parts whose sessions are kept for the next call."""


def numpy_type(port: Port) -> np.dtype[Any]:
    """NumPy type of a port's elements."""
    return np.dtype(helper.tensor_dtype_to_np_dtype(ELEMENT_TYPES[port.dtype]))


def call(
    model: Axmodel,
    hardware: Hardware,
    inputs: Mapping[str, Array],
    mode: Mode,
    *,
    cores: Sequence[int] | None = None,
    allow_unverified: bool = False,
    max_cycles: int | None = None,
) -> Result:
    """Run a model once.

    Args:
        model: what runs.
        hardware: the machine.
        inputs: an array, or bytes, for every input; none are needed for time alone.
        mode: values, time, or both.
        cores: physical cores; by default the first ones.
        allow_unverified: run programs that are not proven.
        max_cycles: the last cycle of the NPU that may happen.

    Returns:
        A result with one job, whose outputs are the bytes of the model's outputs by their names. Its cycles are those
        of the NPU: parts on the CPU take none, their time is in ``summaries.summary_of``.

    Raises:
        UsageError, MachineFault, ...: as ``npusim.sim.simulate``.
    """
    from npusim.sim import Mode

    values = {port.name: _bytes(inputs[port.name]) for port in model.inputs if port.name in inputs}
    results: list[Result] = []
    for part in model.parts:
        if isinstance(part, CpuPart):
            if mode is not Mode.TIME:
                values |= _on_host(part, values)
            continue
        left = None if max_cycles is None else max(max_cycles - _cycles(results), 1)
        found = _on_npu(model, part, hardware, values, mode, cores=cores, proven=not allow_unverified, max_cycles=left)
        values |= found.outputs
        results.append(found)
    outputs = {port.name: values[port.name] for port in model.outputs if mode is not Mode.TIME}
    return _joined(model, hardware, mode, results, outputs, cores)


def typed(model: Axmodel, outputs: Mapping[str, Array]) -> dict[str, Array]:
    """Outputs as arrays of their types and shapes."""
    return {port.name: _array(port, outputs[port.name]) for port in model.outputs if port.name in outputs}


def _array(port: Port, data: Array) -> Array:
    return data.view(numpy_type(port)).reshape(port.shape)


def _bytes(data: Array | bytes) -> Array:
    if isinstance(data, bytes):
        return np.frombuffer(data, np.uint8)
    return np.ascontiguousarray(data).reshape(-1).view(np.uint8)


def _cycles(results: Sequence[Result]) -> int:
    return sum(result.jobs[0].end or 0 for result in results)


def _on_npu(
    model: Axmodel, part: NpuPart, hardware: Hardware, values: Mapping[str, Array], mode: Mode, *,
    cores: Sequence[int] | None, proven: bool, max_cycles: int | None,
) -> Result:  # fmt: skip
    """The result of a program, its outputs under the names of its ports."""
    from npusim.sim import Job, simulate

    feeds = {segment_name(port.name): values[port.name] for port in part.inputs if port.name in values}
    job = Job(program=part.program, cores=cores, inputs=feeds, name=model.name)
    try:
        result = simulate(hardware, job, mode=mode, allow_unverified=not proven, max_cycles=max_cycles)
    except UnverifiedProgramError as error:
        if hardware.machine.name == model.hardware:
            raise
        built = f"{model.name} was built for {model.hardware} and does not fit {hardware.machine.name}"
        raise SimulationError(f"{built}: build it for that machine (--target_hardware); {error}") from error
    held = result.jobs[0].outputs
    named = {port.name: held[segment_name(port.name)] for port in part.outputs if held}
    return replace(result, jobs=(replace(result.jobs[0], outputs=named),))


def _on_host(part: CpuPart, values: Mapping[str, Array]) -> dict[str, Array]:
    session = host_session(part.model)
    feeds = {port.name: _array(port, values[port.name]) for port in part.inputs}
    names = [port.name for port in part.outputs]
    try:
        results = session.run(names, feeds)
    except Exception as error:  # onnxruntime's own, which share no other base
        raise SimulationError(f"{part.name}, on the CPU: {str(error).splitlines()[0]}") from error
    return {name: _bytes(array) for name, array in zip(names, results, strict=True)}


@lru_cache(SESSIONS_KEPT)
def host_session(model: bytes) -> onnxruntime.InferenceSession:
    """What runs a CPU part: operators one by one and on one thread, for fused kernels round as the processor likes.

    Raises:
        Exception: onnxruntime's own, where it cannot run the model.
    """
    from npusim.quant import exact

    return exact.session(model, threads=1, optimized=False)


def _joined(
    model: Axmodel, hardware: Hardware, mode: Mode, results: Sequence[Result], outputs: dict[str, Array],
    cores: Sequence[int] | None,
) -> Result:  # fmt: skip
    """The results of all programs as that of one job."""
    from npusim.sim import JobResult, Mode, Result
    from npusim.sim.trace import concatenate

    end = None if mode is Mode.VALUES else _cycles(results)
    begins = [_cycles(results[:index]) for index in range(len(results))]
    recorded = None
    if mode is not Mode.VALUES:
        traces = [result.trace for result in results]
        recorded = traces[0] if len(traces) == 1 else concatenate(traces, begins, model.name)
    used = tuple(range(model.cores)) if cores is None else tuple(cores)
    begin = None if end is None else 0
    return Result(
        hardware=hardware,
        mode=mode,
        jobs=(JobResult(name=model.name, cores=used, arrival=0, begin=begin, end=end, outputs=outputs),),
        instructions=sum(result.instructions for result in results),
        burst_groups=sum(result.burst_groups for result in results),
        recorded=recorded,
    )
