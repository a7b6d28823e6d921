"""``InferenceSession``: a built model, called as onnxruntime and pyaxengine sessions are called.

Used by people's scripts. The machine does the work; the words of the errors are those onnxruntime's users know.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any

import numpy as np

from npusim import axmodel, markup
from npusim.axmodel import Axmodel, Port, ports_html
from npusim.config import Hardware
from npusim.errors import UsageError, did_you_mean
from npusim.session.builder import Built
from npusim.session.call import call, numpy_type, typed
from npusim.session.machine import find_hardware, hardware_of
from npusim.session.summaries import summary_of

if TYPE_CHECKING:
    from npusim.report.summary import Summary
    from npusim.sim import Result, Trace

PROVIDER = "NpusimExecutionProvider"
ALIASES = ("AxEngineExecutionProvider", "AXCLRTExecutionProvider", "CPUExecutionProvider")
"""Providers a script may ask for; the simulator stands in for them."""

OPTIONS = ("cores", "hardware", "device_id")
"""Provider options: physical cores, the machine, and the only device, 0."""


def get_available_providers() -> list[str]:
    """What a session can run on: the simulator."""
    return [PROVIDER]


def get_all_providers() -> list[str]:
    """Every name ``providers`` may hold; the simulator stands in for the others."""
    return [PROVIDER, *ALIASES]


class NodeArg:
    """An input or an output, as onnxruntime (``type``) and pyaxengine (``dtype``) describe it.

    Attributes:
        name: of the tensor.
        type: ``tensor(uint8)``.
        dtype: NumPy type.
        shape: extents, as a list.
    """

    __slots__ = ("dtype", "name", "shape", "type")

    def __init__(self, port: Port) -> None:
        self.name = port.name
        self.dtype = numpy_type(port)
        self.type = type_name(self.dtype)
        self.shape = list(port.shape)

    def __repr__(self) -> str:
        return f"NodeArg(name={self.name!r}, type={self.type!r}, shape={self.shape})"


def type_name(dtype: np.dtype[Any]) -> str:
    """Onnxruntime's name of a type.

    >>> type_name(np.dtype("float32"))
    'tensor(float)'
    """
    special = {"float32": "float", "float64": "double"}
    return f"tensor({special.get(dtype.name, dtype.name)})"


class InferenceSession:
    """A model on the machine it was built for.

    Args:
        path_or_bytes: an ``.axmodel`` file, its bytes, or what ``npusim.build`` returned.
        sess_options: taken for compatibility; nothing in them applies to the simulator.
        providers: names, or pairs of name and options; see ``get_all_providers``.
        provider_options: one mapping per provider; see ``OPTIONS``.

    Raises:
        AxmodelError: no ``.axmodel``, a vendor's, or a damaged one.
        UsageError: an unknown provider or option.
        OSError: the file cannot be read.
    """

    def __init__(
        self,
        path_or_bytes: str | os.PathLike[str] | bytes | Built,
        sess_options: object = None,
        providers: Sequence[Any] | None = None,
        provider_options: Sequence[Mapping[str, Any]] | None = None,
    ) -> None:
        del sess_options
        options = _options(providers, provider_options)
        built = path_or_bytes if isinstance(path_or_bytes, Built) else None
        self._model = axmodel.read(path_or_bytes) if not isinstance(path_or_bytes, Built) else path_or_bytes.axmodel
        self._hardware = _hardware(options.get("hardware"), self._model, built)
        self._cores = _cores(options.get("cores"))
        self._timed: Result | None = None

    def __enter__(self) -> InferenceSession:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        del kind, error, trace

    def __repr__(self) -> str:
        model = self._model
        ports = f"{', '.join(map(str, model.inputs))} -> {', '.join(map(str, model.outputs))}"
        return f"<InferenceSession {model.name} on {model.npu_mode} of {self._hardware.machine.name}: {ports}>"

    def _repr_html_(self) -> str:
        model = self._model
        title = f"InferenceSession of {model.name} on {model.npu_mode} of {self._hardware.machine.name}"
        return markup.heading(title) + ports_html(model.inputs, model.outputs)

    # ------------------------------------------------------------------------------------------------- descriptions

    @property
    def model(self) -> Axmodel:
        """What the file holds."""
        return self._model

    @property
    def hardware(self) -> Hardware:
        """The machine that is simulated."""
        return self._hardware

    def get_inputs(self) -> list[NodeArg]:
        """The inputs, in the model's order."""
        return [NodeArg(port) for port in self._model.inputs]

    def get_outputs(self) -> list[NodeArg]:
        """The outputs, in the model's order."""
        return [NodeArg(port) for port in self._model.outputs]

    def get_providers(self) -> list[str]:
        """What the session runs on."""
        return [PROVIDER]

    # ---------------------------------------------------------------------------------------------------------- runs

    def run(
        self, output_names: Sequence[str] | None, input_feed: Mapping[str, Any], run_options: object = None
    ) -> list[np.ndarray[Any, Any]]:
        """Outputs for inputs.

        The cycles do not depend on the values, so that only the first call simulates them; see ``profile``.

        Args:
            output_names: which outputs, in this order; None for all.
            input_feed: an array for every input, of its type and shape.
            run_options: taken for compatibility.

        Raises:
            UsageError: (a ValueError) inputs missing, unknown, or of the wrong type or shape; unknown outputs.
            MachineFault: an instruction found something it cannot compute with.
        """
        del run_options
        wanted = self._wanted(output_names)
        feeds = check_feeds(self._model.inputs, input_feed)
        from npusim.sim import Mode

        result = self._simulate(Mode.FULL if self._timed is None else Mode.VALUES, feeds)
        if self._timed is None:
            self._timed = result
        outputs = typed(self._model, result.outputs)
        return [outputs[port.name] for port in wanted]

    def profile(self) -> Summary:
        """Cycles, latency, utilization and traffic of a call, whole and by layer."""
        return summary_of(self._timing(), self._model, self._hardware)

    @property
    def trace(self) -> Trace:
        """Start and retire cycle of every instruction of a call."""
        return self._timing().trace

    def _timing(self) -> Result:
        from npusim.sim import Mode

        if self._timed is None:
            self._timed = self._simulate(Mode.TIME, {})
        return self._timed

    def _simulate(self, mode: Any, feeds: Mapping[str, np.ndarray[Any, Any]]) -> Result:
        return call(self._model, self._hardware, feeds, mode, cores=self._cores)

    def _wanted(self, names: Sequence[str] | None) -> list[Port]:
        if not names:
            return list(self._model.outputs)
        ports = {port.name: port for port in self._model.outputs}
        unknown = [name for name in names if name not in ports]
        if unknown:
            there = f"the outputs are {list(ports)}"
            raise UsageError(f"Invalid output name: {unknown[0]}; {there}", did_you_mean(str(unknown[0]), ports))
        return [ports[name] for name in names]


def check_feeds(ports: Sequence[Port], feed: Mapping[str, Any]) -> dict[str, np.ndarray[Any, Any]]:
    """The arrays for all inputs, each of the right type and shape.

    Raises:
        UsageError: in onnxruntime's words.
    """
    known = [port.name for port in ports]
    if not isinstance(feed, Mapping):
        raise UsageError(f"input_feed is a mapping of input names to arrays, not {type(feed).__name__}")
    for name in feed:
        if name not in known:
            raise UsageError(f"Invalid input name: {name}; the inputs are {known}", did_you_mean(str(name), known))
    missing = [name for name in known if name not in feed]
    if missing:
        raise UsageError(f"Required inputs ({missing}) are missing from input feed ({list(feed)}).")
    return {port.name: _checked(port, feed[port.name]) for port in ports}


def _checked(port: Port, given: Any) -> np.ndarray[Any, Any]:
    array, expected = np.asarray(given), numpy_type(port)
    if array.dtype != expected:
        found = f"Actual: ({type_name(array.dtype)}) , expected: ({type_name(expected)})"
        raise UsageError(f"Unexpected input data type for input {port.name!r}. {found}")
    if array.ndim != len(port.shape):
        ranks = f"Got: {array.ndim} Expected: {len(port.shape)}, which is {list(port.shape)}"
        raise UsageError(f"Invalid rank for input: {port.name} {ranks}. Please fix either the inputs or the model.")
    if array.shape != port.shape:
        places = [
            f"index: {axis} Got: {found} Expected: {extent}"
            for axis, (found, extent) in enumerate(zip(array.shape, port.shape, strict=True))
            if found != extent
        ]
        raise UsageError(
            f"Got invalid dimensions for input: {port.name} for the following indices: {', '.join(places)}. "
            f"It takes {list(port.shape)}, not {list(array.shape)}."
        )
    return array


# ------------------------------------------------------------------------------------------------------------- options


def _options(providers: Sequence[Any] | None, provider_options: Sequence[Mapping[str, Any]] | None) -> dict[str, Any]:
    """All options given to providers, checked.

    Raises:
        UsageError: unknown providers or options.
    """
    if isinstance(providers, str):
        providers = [providers]
    entries = [entry if isinstance(entry, tuple | list) else (entry, {}) for entry in providers or ()]
    if provider_options is not None and len(provider_options) != len(entries):
        lengths = f"{len(provider_options)} provider_options for {len(entries)} providers"
        raise UsageError(f"{lengths}: each provider takes one mapping")
    options: dict[str, Any] = {}
    for index, (name, given) in enumerate(entries):
        known = get_all_providers()
        if name not in known:
            raise UsageError(f"there is no provider {name!r}, only {', '.join(known)}", did_you_mean(str(name), known))
        for key, value in {**given, **(provider_options[index] if provider_options else {})}.items():
            if key not in OPTIONS:
                raise UsageError(f"{name} has no option {key!r}, only {', '.join(OPTIONS)}", did_you_mean(key, OPTIONS))
            options[key] = value
    if str(options.get("device_id", 0)) != "0":
        raise UsageError(f"device_id is 0, the only device there is, not {options['device_id']!r}")
    return options


def _hardware(named: Any, model: Axmodel, built: Built | None) -> Hardware:
    if named is not None:
        return find_hardware(named)
    return built.hardware if built is not None else hardware_of(model)


def _cores(given: Any) -> tuple[int, ...] | None:
    """Physical cores: ``[0, 2]`` or ``"0,2"``."""
    if given is None:
        return None
    try:
        return tuple(int(core) for core in (given.split(",") if isinstance(given, str) else given))
    except (TypeError, ValueError):
        raise UsageError(f"cores takes numbers such as [0, 2] or '0,2', not {given!r}") from None
