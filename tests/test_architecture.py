"""The rooms of the house: who may import whom, and what library code never does.

The rules are those of docs/architecture.md. The checker reads source text only, so it imports nothing it judges; the
second half of the file plants a violation of every rule, because a checker that finds nothing proves nothing.
"""

from __future__ import annotations

import ast
import importlib.util
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
OURS = ("isa", "models", "npusim")


@dataclass(frozen=True, slots=True, kw_only=True)
class Room:
    """What one room may import; every name includes what is below it.

    Attributes:
        ours: our own modules, beside the room itself.
        theirs: third-party packages, beside the standard library.
        lazily: third-party packages that may be imported inside functions only.
    """

    ours: tuple[str, ...] = ()
    theirs: tuple[str, ...] = ()
    lazily: tuple[str, ...] = ()


ERRORS = "npusim.errors"
MARKUP = "npusim.markup"
TRAINING = ("onnx", "numpy", "torch", "transformers", "sklearn")

# The longest name that a module starts with is its room.
ROOMS = {
    "isa": Room(theirs=("numpy",)),
    "models": Room(theirs=("onnx", "numpy"), lazily=("onnxruntime",)),
    "models.training": Room(ours=("models",), theirs=TRAINING, lazily=("onnxruntime",)),
    "models.pretrained": Room(ours=("models",), theirs=TRAINING, lazily=("onnxruntime",)),
    "npusim.errors": Room(),
    "npusim.markup": Room(),
    "npusim.config": Room(ours=(ERRORS, MARKUP)),
    "npusim.timing": Room(ours=(ERRORS, "isa", "npusim.config"), theirs=("numpy",)),
    "npusim.graph": Room(ours=(ERRORS,), theirs=("numpy", "onnx")),
    "npusim.quant": Room(
        ours=(ERRORS, "npusim.graph", "isa"), theirs=("numpy", "onnx", "onnxruntime"), lazily=("PIL", "matplotlib")
    ),
    "npusim.kernels": Room(ours=(ERRORS, "isa.law", "isa.dtypes"), theirs=("numpy", "numba", "llvmlite")),
    "npusim.compiler": Room(
        ours=(ERRORS, "npusim.graph", "npusim.timing", "npusim.config", "isa"), theirs=("numpy", "onnx")
    ),
    "npusim.sim": Room(
        ours=(ERRORS, MARKUP, "isa", "npusim.kernels", "npusim.timing", "npusim.config"),
        theirs=("numpy", "numba", "simpy"),
    ),
    "npusim.report": Room(
        ours=(ERRORS, MARKUP, "npusim.sim.trace", "isa", "npusim.config"), theirs=("numpy",), lazily=("matplotlib",)
    ),
    "npusim.axmodel": Room(ours=(ERRORS, MARKUP, "isa"), theirs=("numpy", "onnx")),
    "npusim.testing": Room(ours=(ERRORS, "isa", "npusim.kernels"), theirs=("numpy", "hypothesis")),
    "npusim.session": Room(
        ours=("npusim", "isa"), theirs=("numpy", "onnx", "onnxruntime"), lazily=("json5", "matplotlib", "yaml")
    ),
    "npusim.backend": Room(ours=(ERRORS, "npusim.session"), theirs=("numpy", "onnx")),
    "npusim.cli": Room(ours=("npusim", "isa"), theirs=("numpy", "onnx"), lazily=("onnxruntime",)),
    "npusim.__main__": Room(ours=("npusim.cli",)),
}
FRONT_DOOR = "npusim"  # npusim/__init__.py: its public names are loaded on demand, so it may name any room
FREE = ("npusim.__version__",)  # a string, not a room
RELATIVE = ("isa", "models")  # rooms whose imports of themselves are relative
SIMPY_ROOM = "npusim.sim"

# Commands and scripts: they have a terminal to write to.
WRITERS = ("npusim.cli", "npusim.__main__", "isa.document", "models.__main__", "models.training")
OUTPUT_CALLS = ("print", "exit", "quit", "input", "breakpoint")
OUTPUT_ATTRIBUTES = ("sys.exit", "sys.stdout", "sys.stderr", "os._exit")

CODE_CALLS = ("eval", "exec", "__import__")
CODE_MODULES = ("pickle", "marshal", "shelve", "dill", "cloudpickle", "joblib")
DYNAMIC_IMPORTERS = (FRONT_DOOR, "isa.instructions")  # may import a module by a name they compute


def within(name: str, prefixes: tuple[str, ...]) -> bool:
    """Whether a dotted name is one of the prefixes or below one."""
    return any(name == prefix or name.startswith(prefix + ".") for prefix in prefixes)


def room_of(module: str) -> str | None:
    """The room a module belongs to, or None where the rules know none."""
    if module == FRONT_DOOR:
        return FRONT_DOOR
    return max((room for room in ROOMS if within(module, (room,))), key=len, default=None)


@dataclass(frozen=True, slots=True)
class Import:
    """One name that a module imports, as an absolute dotted path."""

    line: int
    target: str
    relative: bool
    lazy: bool


def imports(tree: ast.Module, module: str, is_package: bool) -> Iterator[Import]:
    """Every import of a module, ``from x import y`` as ``x.y``, with relative ones made absolute."""
    lazy_nodes = {id(inner) for node in ast.walk(tree) if _defers(node) for inner in ast.walk(node)}
    package = module if is_package else module.rpartition(".")[0]
    for node in ast.walk(tree):
        lazy = id(node) in lazy_nodes
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield Import(node.lineno, alias.name, False, lazy)
        elif isinstance(node, ast.ImportFrom):
            source = node.module or ""
            if node.level:
                above = package.split(".")[: len(package.split(".")) - node.level + 1]
                source = ".".join([*above, *filter(None, [source])])
            for alias in node.names:
                target = source if alias.name == "*" else f"{source}.{alias.name}"
                yield Import(node.lineno, target, bool(node.level), lazy)
        elif isinstance(node, ast.Call) and _imports_by_name(node) and _constant_argument(node):
            yield Import(node.lineno, str(ast.literal_eval(node.args[0])), False, lazy)


def _defers(node: ast.AST) -> bool:
    """Whether what a node holds runs later than the import of its module, or never."""
    if isinstance(node, ast.If):
        return _dotted(node.test).endswith("TYPE_CHECKING")
    return isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)


def _dotted(node: ast.AST) -> str:
    """``a.b.c`` for a chain of attributes on a name, and an empty string for anything else."""
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute):
        base = _dotted(node.value)
        return f"{base}.{node.attr}" if base else ""
    return ""


def violations(module: str, source: str, *, is_package: bool = False) -> list[str]:
    """What a module does against the rules, one line each, with its name and line number."""
    room = room_of(module)
    if room is None:
        return [f"{module}: belongs to no room; give it one in ROOMS and in docs/architecture.md"]
    tree = ast.parse(source)
    found = [
        (entry.line, complaint)
        for entry in imports(tree, module, is_package)
        if (complaint := _import_complaint(room, entry))
    ]
    found += _conduct(tree, module)
    return [f"{module}:{line}: {complaint}" for line, complaint in sorted(set(found))]


def _import_complaint(room: str, entry: Import) -> str:
    """Why a room may not import something, or an empty string."""
    target, top = entry.target, entry.target.split(".")[0]
    if within(target, CODE_MODULES):
        return f"imports {top}: program files are data, and loading them runs no code"
    if top == "simpy" and not within(room, (SIMPY_ROOM,)):
        return f"imports simpy, which lives in {SIMPY_ROOM} and nowhere else"
    if top in sys.stdlib_module_names:
        return ""
    if top not in OURS:
        return _foreign_complaint(room, entry, top)
    if top in RELATIVE and within(room, (top,)) and not entry.relative:
        return f"imports {target} absolutely; {top} imports itself relatively"
    rule = ROOMS.get(room)
    allowed = FREE + ((*rule.ours, room) if rule else ("npusim", "isa"))
    return "" if within(target, allowed) else f"imports {target}, which {room} may not know"


def _foreign_complaint(room: str, entry: Import, top: str) -> str:
    rule = ROOMS.get(room, Room())
    if top in rule.theirs:
        return ""
    if top in rule.lazily:
        return "" if entry.lazy else f"imports {top} at module level; {room} may do so inside functions only"
    return f"imports {top}, which is not among the dependencies of {room}"


def _conduct(tree: ast.Module, module: str) -> Iterator[tuple[int, str]]:
    """What library code does beside importing: writing to the terminal, ending the process, running text as code."""
    writes = within(module, WRITERS)
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            name = _dotted(node.func)
            if name in OUTPUT_CALLS and not writes:
                yield node.lineno, f"calls {name}(); library code neither talks to a terminal nor ends the process"
            if name in CODE_CALLS:
                yield node.lineno, f"calls {name}(); no text becomes code here"
            if any(keyword.arg == "allow_pickle" and not _is_false(keyword.value) for keyword in node.keywords):
                yield node.lineno, "allows pickles: program files are data, and loading them runs no code"
            if _imports_by_name(node) and not _constant_argument(node) and module not in DYNAMIC_IMPORTERS:
                yield node.lineno, "imports a module by a computed name, which hides who knows whom"
        elif isinstance(node, ast.Attribute) and _dotted(node) in OUTPUT_ATTRIBUTES and not writes:
            yield node.lineno, f"uses {_dotted(node)}; library code neither talks to a terminal nor ends the process"
        elif isinstance(node, ast.ImportFrom) and node.module in ("sys", "os") and not writes:
            for alias in node.names:
                if f"{node.module}.{alias.name}" in OUTPUT_ATTRIBUTES:
                    yield node.lineno, f"imports {node.module}.{alias.name}, which only a command may use"
        elif isinstance(node, ast.Raise) and not writes and node.exc is not None:
            raised = node.exc.func if isinstance(node.exc, ast.Call) else node.exc
            if _dotted(raised) in ("SystemExit", "KeyboardInterrupt"):
                yield node.lineno, f"raises {_dotted(raised)}; library code raises errors of its own tree"


def _is_false(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and node.value is False


def _imports_by_name(call: ast.Call) -> bool:
    return _dotted(call.func).split(".")[-1] == "import_module"


def _constant_argument(call: ast.Call) -> bool:
    return bool(call.args) and isinstance(call.args[0], ast.Constant)


def modules() -> dict[str, Path]:
    """Every module of ours that exists, by dotted name."""
    found = {}
    for house in OURS:
        for path in sorted((ROOT / house).rglob("*.py")):
            parts = path.relative_to(ROOT).with_suffix("").parts
            found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


# ------------------------------------------------------------------------------------------- the house as it stands


@pytest.mark.parametrize("module", modules())
def test_module_keeps_the_rules(module):
    path = modules()[module]
    found = violations(module, path.read_text(encoding="utf-8"), is_package=path.name == "__init__.py")
    assert not found, "\n".join(found)


def test_the_checker_sees_the_modules():
    assert {"isa.law", "npusim", "npusim.errors"} <= modules().keys()


def test_a_package_is_a_package():
    # A folder without __init__.py would be left out of the wheel without a word.
    folders = {path.parent for path in modules().values()}
    assert [str(f.relative_to(ROOT)) for f in folders if not (f / "__init__.py").exists()] == []


COMMANDS_START_WITHOUT = ("numba", "llvmlite", "simpy", "onnx", "onnxruntime")
LIGHT = {"npusim": (*COMMANDS_START_WITHOUT, "numpy"), "npusim.cli": COMMANDS_START_WITHOUT}


@pytest.mark.parametrize("module", [name for name in LIGHT if name in modules()])
def test_import_is_light(module):
    program = f"import sys, {module}; print(*sorted(set(sys.modules) & set({LIGHT[module]!r})))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.split() == []


def test_light_modules_are_spelled_right():
    # A misspelt name would never be found among the loaded modules.
    assert [name for name in LIGHT["npusim"] if importlib.util.find_spec(name) is None] == []


# ----------------------------------------------------------------------------------------- the checker, on planted text

PLANTED = {
    "isa knows npusim": ("isa.law", "from npusim.errors import NpusimError"),
    "isa uses a package beside numpy": ("isa.law", "import numba"),
    "isa imports itself absolutely": ("isa.codec", "from isa.law import fma"),
    "isa imports itself absolutely, whole": ("isa.codec", "import isa"),
    "isa leaves itself by a relative import": ("isa.codec", "from ..npusim import errors"),
    "models knows isa": ("models.swin", "import isa"),
    "models knows npusim": ("models.swin", "def f():\n    import npusim"),
    "models imports itself absolutely": ("models.swin", "from models.blocks import attention"),
    "models loads onnxruntime at once": ("models.quantize", "import onnxruntime"),
    "models loads onnxruntime in a class body": ("models.quantize", "class A:\n    import onnxruntime"),
    "models uses torch": ("models.swin", "def f():\n    import torch"),
    "models uses transformers": ("models.swin", "from transformers import AutoModel"),
    "models uses scikit-learn": ("models.swin", "import sklearn.datasets"),
    "training knows npusim": ("models.training.digits", "import npusim"),
    "training uses a package beside its own": ("models.training.digits", "import tensorflow"),
    "pretrained knows isa": ("models.pretrained", "from isa import law"),
    "npusim knows models": ("npusim.session", "from models.swin import build"),
    "cli knows models": ("npusim.cli", "def f():\n    import models"),
    "errors knows a room": ("npusim.errors", "from npusim import config"),
    "errors knows isa": ("npusim.errors", "from isa.errors import IsaError"),
    "errors uses numpy": ("npusim.errors", "import numpy as np"),
    "markup uses numpy": ("npusim.markup", "import numpy as np"),
    "config knows isa": ("npusim.config", "import isa"),
    "timing knows kernels": ("npusim.timing.conv", "from npusim.kernels import matmul"),
    "timing knows sim": ("npusim.timing", "from .sim import trace"),
    "graph knows isa": ("npusim.graph.ir", "from isa.dtypes import DType"),
    "graph knows config": ("npusim.graph.ir", "from ..config import load"),
    "quant knows sim": ("npusim.quant.calibration", "import npusim.sim"),
    "quant knows session": ("npusim.quant.calibration", "from npusim.session import InferenceSession"),
    "kernels know instructions": ("npusim.kernels.matmul", "from isa.instructions import matrix"),
    "kernels know the whole isa": ("npusim.kernels.matmul", "import isa"),
    "kernels know another name of isa": ("npusim.kernels.matmul", "from isa import law, program"),
    "kernels know config": ("npusim.kernels.matmul", "from npusim import config"),
    "compiler knows sim": ("npusim.compiler.tile", "from npusim.sim import engine"),
    "compiler knows quant": ("npusim.compiler.tile", "from npusim.quant import observers"),
    "sim knows compiler": ("npusim.sim.engine", "from npusim import compiler"),
    "sim knows compiler by a relative import": ("npusim.sim.engine", "from ..compiler import tile"),
    "sim knows graph": ("npusim.sim.engine", "def f():\n    from npusim.graph import ir"),
    "sim knows compiler for types": (
        "npusim.sim",
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from .compiler import X",
    ),
    "sim knows the front door": ("npusim.sim.engine", "import npusim"),
    "sim takes a public name": ("npusim.sim.engine", "from npusim import InferenceSession"),
    "sim knows compiler by name": ("npusim.sim.engine", "import importlib\nimportlib.import_module('npusim.compiler')"),
    "report knows the engine": ("npusim.report.html", "from npusim.sim import engine"),
    "report knows all of sim": ("npusim.report.html", "import npusim.sim"),
    "report loads matplotlib at once": ("npusim.report.html", "import matplotlib"),
    "backend knows graph": ("npusim.backend", "from npusim.graph import load"),
    "axmodel knows graph": ("npusim.axmodel", "from npusim.graph import ir"),
    "testing knows sim": ("npusim.testing", "from npusim import sim"),
    "main knows sim": ("npusim.__main__", "from npusim import sim"),
    "front door knows models": ("npusim", "import models"),
    "front door uses numpy": ("npusim", "import numpy"),
    "simpy outside of sim": ("npusim.session", "def f():\n    import simpy"),
    "simpy in timing": ("npusim.timing", "from simpy import Environment"),
    "a package nobody declared": ("npusim.graph", "import networkx"),
    "a room nobody declared": ("npusim.utils", ""),
    "print": ("npusim.sim.engine", "print('here')"),
    "print in isa": ("isa.law", "def f():\n    print(1)"),
    "exit": ("npusim.sim", "exit(1)"),
    "quit": ("npusim.sim", "quit()"),
    "input": ("npusim.sim", "input()"),
    "breakpoint": ("npusim.sim", "breakpoint()"),
    "sys.exit": ("npusim.session", "import sys\nsys.exit(2)"),
    "exit by name": ("npusim.session", "from sys import exit as leave"),
    "os._exit": ("npusim.session", "import os\nos._exit(2)"),
    "sys.stdout": ("npusim.report", "import sys\nsys.stdout.write('x')"),
    "sys.stderr": ("npusim.report", "import sys\nf(file=sys.stderr)"),
    "SystemExit": ("npusim.sim", "raise SystemExit(2)"),
    "SystemExit bare": ("npusim.sim", "raise SystemExit"),
    "pickle": ("npusim.sim.trace", "import pickle"),
    "pickle from": ("npusim.cli", "from pickle import loads"),
    "marshal": ("isa.container", "import marshal"),
    "allow_pickle": ("npusim.sim.trace", "import numpy as np\nnp.load('f', allow_pickle=True)"),
    "eval": ("isa.assembler", "eval('1')"),
    "exec": ("npusim.kernels.matmul", "exec('x = 1')"),
    "exec in the cli": ("npusim.cli", "exec('x = 1')"),
    "__import__": ("npusim.sim", "__import__('npusim.compiler')"),
    "computed import": ("npusim.sim", "import importlib\nimportlib.import_module(name)"),
}


@pytest.mark.parametrize(("module", "source"), PLANTED.values(), ids=PLANTED.keys())
def test_planted_violation_is_found(module, source):
    is_package = module in ("npusim", "npusim.cli")
    assert len(violations(module, source, is_package=is_package)) == 1


def test_every_room_has_a_planted_violation():
    assert {room_of(module) for module, _ in PLANTED.values()} >= ROOMS.keys()


ALLOWED = {
    "isa": ("isa.codec", "import struct\nimport numpy as np\nfrom . import law\nfrom .law import fma"),
    "isa below": ("isa.instructions.matrix", "from .. import law\nfrom ..dtypes import DType\nfrom .move import Move"),
    "models": ("models.swin", "import onnx.helper\nfrom .blocks import attention\ndef f():\n    import onnxruntime"),
    "training": ("models.training.digits", "import torch, sklearn.datasets, transformers\nfrom ..swin import build"),
    "pretrained": ("models.pretrained", "import torch\nfrom .swin import build\nfrom transformers import SwinModel"),
    "config": ("npusim.config", "import tomllib\nfrom npusim.errors import ConfigError"),
    "timing": ("npusim.timing.conv", "from isa.instructions import Conv\nfrom npusim import config, errors"),
    "graph": ("npusim.graph.load", "import onnx\nfrom .ir import Graph\nfrom npusim.errors import NpusimError"),
    "quant": ("npusim.quant", "import onnxruntime\nfrom isa import law\nfrom npusim.graph import ir"),
    "kernels": ("npusim.kernels.matmul", "import numba\nfrom isa import dtypes, law\nfrom isa.law import fma"),
    "compiler": ("npusim.compiler.tile", "from npusim import config, graph, timing\nimport isa\nfrom . import emit"),
    "sim": ("npusim.sim.engine", "import simpy\nimport isa.program\nfrom npusim import config, kernels, timing"),
    "sim by relative imports": ("npusim.sim.engine", "from ..kernels import matmul\nfrom .trace import Trace"),
    "report": ("npusim.report.html", "from npusim.sim.trace import Trace\nfrom npusim.sim import trace\nimport isa"),
    "testing": ("npusim.testing", "import hypothesis\nimport isa\nfrom npusim.kernels import matmul"),
    "session": ("npusim.session", "from npusim import compiler, graph, quant, sim\nimport onnxruntime"),
    "cli": ("npusim.cli.run", "import sys\nfrom npusim import session\nprint(1)\nprint(2, file=sys.stderr)"),
    "main": ("npusim.__main__", "from npusim.cli import main\nraise SystemExit(main())"),
    "version": ("npusim.axmodel", "from npusim import __version__"),
    "document": ("isa.document", "import sys\nsys.stdout.write('text')"),
    "front door": ("npusim", "import importlib\ndef __getattr__(name):\n    return importlib.import_module(name)"),
    "methods of the same name": ("npusim.sim", "model.eval()\nre.compile('x')\nself.print()\nstack.exit()"),
    "assert": ("npusim.sim", "assert True"),
    "no pickles": ("npusim.sim", "import numpy as np\nnp.load('f', allow_pickle=False)"),
}


@pytest.mark.parametrize(("module", "source"), ALLOWED.values(), ids=ALLOWED.keys())
def test_what_the_rules_allow_is_left_alone(module, source):
    assert violations(module, source, is_package=module == "npusim") == []


def test_relative_imports_of_a_package_start_at_itself():
    assert violations("npusim.sim", "from ..compiler import tile", is_package=True)
    assert violations("npusim.sim", "from .compiler import tile", is_package=True) == []  # npusim.sim.compiler


def test_message_names_the_module_the_line_and_both_rooms():
    assert violations("npusim.sim.engine", "\nfrom npusim.graph import ir") == [
        "npusim.sim.engine:2: imports npusim.graph.ir, which npusim.sim may not know"
    ]
