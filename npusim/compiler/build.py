"""``compile_graph``: from an integer graph to a program, in a list of stages.

The only module of this package that others call. Each stage is a file.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass

from isa.errors import EncodingError
from isa.program import Program, Segment, SegmentKind, make_program
from npusim.config import Hardware
from npusim.errors import UsageError
from npusim.graph import Graph, Node, require_integer

from . import lower
from .arena import Arena, OutOfRoomError
from .context import LOWERINGS, Context, LoweringError
from .core import Core
from .hazards import predecessors
from .lower.assemble import copy
from .memory import place_storages
from .observe import Drafted, Place, group_storages, places_of
from .order import Order, list_schedule
from .plan import Plan, Storage
from .schedule import Placed, drop_dead_stores, place
from .view import View, dense
from .waits import assign_waits

assert lower.__doc__, "imported for its entries in the registry"

FEW_STEPS = 1500
"""Plans up to this length are compared with those for fewer cores; longer ones are models that keep all cores busy."""
WORTH_A_CORE = 1.08
"""By how much more cores have to be faster on modelled time, which is that exact."""

Measure = Callable[[Program], int]
"""The cycles that a program takes; the machine's own, where the caller has it."""
SHARED_SHARE = 0.4
"""Part of OCM in which all cores hold the same constants, where there are several cores."""


def compile_graph(graph: Graph, hardware: Hardware, cores: int, measure: Measure | None = None) -> Program:
    """Lower a graph for a number of cores; it uses fewer of them where that is faster.

    Args:
        graph: what is lowered.
        hardware: for this machine.
        cores: of the allocation.
        measure: says what is faster; by default the time that the order of the steps was made by.

    Raises:
        UsageError: more cores than the machine has.
        UnsupportedError, LoweringError: a node that cannot be lowered.
    """
    return emit(graph, fastest_plan(graph, hardware, cores, measure), cores)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Probe:
    """A program that does what another one does, and leaves inner tensors behind.

    Attributes:
        program: with one output more, ``label``; its parameters lie where they lie in the other program.
        size_bytes: of that output; 0 where the program has no need of it.
        places: where the tensors are found, by name, once it has run.
    """

    program: Program
    size_bytes: int
    places: dict[str, Place]


def compile_observed(
    graph: Graph, hardware: Hardware, cores: int, names: Sequence[str], label: str, measure: Measure | None = None
) -> tuple[Program, Iterator[Probe]]:
    """What ``compile_graph`` gives, and programs of the same plan that show inner tensors.

    Args:
        graph: what is lowered.
        hardware: for this machine.
        cores: of the allocation.
        names: tensors of the graph; each is shown by one of the programs, as many at once as fit the DRAM.
        label: name of the output that holds them.
        measure: as for ``compile_graph``.

    Raises:
        UsageError, UnsupportedError, LoweringError: as ``compile_graph``.
    """
    planned = fastest_plan(graph, hardware, cores, measure)
    program = emit(graph, planned, cores)
    room = hardware.dram.bytes - sum(segment.size_bytes for segment in program.segments)
    return program, _probes(graph, planned, hardware, cores, group_storages(planned.drafted, names, room), label)


def _probes(
    graph: Graph, planned: Planned, hardware: Hardware, cores: int, groups: Sequence[dict[str, View]], label: str
) -> Iterator[Probe]:  # fmt: skip
    for views in groups:
        kept = {view.storage for view in views.values()}
        shown = arrange(planned.drafted, hardware, kept, label)
        size = next((s.size_bytes for s in shown.segments if s.name == label), 0)
        places = places_of(planned.drafted, views, shown.addresses, shown.segments)
        yield Probe(program=emit(graph, shown, cores), size_bytes=size, places=places)


def fastest_plan(graph: Graph, hardware: Hardware, cores: int, measure: Measure | None = None) -> Planned:
    """The plan for a number of cores, or for fewer of them where that is faster.

    Raises:
        UsageError: more cores than the machine has.
        UnsupportedError, LoweringError: a node that cannot be lowered.
    """
    if not 1 <= cores <= hardware.machine.cores:
        raise UsageError(f"{cores} cores asked for; {hardware.machine.name} has {hardware.machine.cores}")
    require_integer(graph)
    planned = plan_graph(graph, hardware, cores)
    if cores == 1 or len(planned.placed) > FEW_STEPS:
        return planned

    def cycles_of(plan: Planned) -> int:
        return plan.order.cycles if measure is None else measure(emit(graph, plan, cores))

    cycles, margin = cycles_of(planned), WORTH_A_CORE if measure is None else 1.0
    for fewer in reversed(range(1, cores)):  # small models lose more by waiting than they gain
        if planned.order.least_cycles(fewer) > cycles:
            continue
        try:
            other = plan_graph(graph, hardware, fewer)
        except LoweringError:
            continue
        if (others := cycles_of(other)) <= cycles * margin:
            planned, cycles = other, others
    return planned


@dataclass(frozen=True, slots=True, eq=False)
class Planned:
    """A graph planned for a number of cores: steps, what each comes after, and when each starts."""

    drafted: Drafted
    placed: list[Placed]
    before: list[tuple[int, ...]]
    order: Order
    segments: list[Segment]
    addresses: dict[str, tuple[int, int]]  # segment and offset of each storage


def plan_graph(graph: Graph, hardware: Hardware, cores: int) -> Planned:
    """The stages from nodes to steps in the order of their start."""
    return arrange(draft(graph, hardware, cores), hardware)


def draft(graph: Graph, hardware: Hardware, cores: int) -> Drafted:
    """Every node lowered, one after the other."""
    plan = Plan()
    context = Context(graph, hardware, plan, make_cores(plan, hardware, cores))
    add_inputs(context)
    for node in graph.nodes:
        if node.op not in LOWERINGS:
            raise LoweringError(f"{node.name} ({node.op}): the compiler has no lowering for it", node.name)
        plan.begin(node.name)
        lower_node(context, node)
        context.finish(node)
    return Drafted(plan, context.views)


def arrange(drafted: Drafted, hardware: Hardware, kept: Collection[str] = (), label: str = "") -> Planned:
    """From sequential steps to the order of their start.

    Args:
        drafted: the steps.
        hardware: whose units take time.
        kept: storages that are to hold their tensors when the program has ended.
        label: the segment of those that would else be scratch.
    """
    steps = drop_dead_stores(drafted.plan, kept)  # results that nobody loads again stay in OCM
    segments, addresses = place_storages(drafted.plan, steps, kept, label)  # DRAM, shared where lives do not overlap
    placed = place(steps, addresses)  # instructions, and the bytes that they touch
    before = predecessors(placed)  # what touches the same bytes keeps its order
    order = list_schedule(placed, before, hardware)  # the most urgent first, on every unit
    return Planned(drafted, placed, before, order, segments, addresses)


def emit(graph: Graph, planned: Planned, cores: int) -> Program:
    """The program: units run apart, and wait where they depend on one another.

    Args:
        graph: what was planned.
        planned: its steps.
        cores: of the allocation; those that the plan leaves out have nothing to do.
    """
    streams, origins = assign_waits(planned.placed, planned.before, planned.order)
    return make_program(
        graph.name or "model", streams, planned.segments, cores=cores, origins=origins,
        origin_names=planned.drafted.plan.origin_names,
    )  # fmt: skip


def lower_node(context: Context, node: Node) -> None:
    """Plan one node.

    Raises:
        LoweringError: naming node, operation and the constraint that it violates.
    """
    try:
        LOWERINGS[node.op](context, node)
        deliver(context, node.outputs)
    except LoweringError as error:
        named = str(error).startswith(node.name)
        raise LoweringError(str(error) if named else f"{node.name} ({node.op}): {error}", node.name) from error
    except OutOfRoomError as error:
        raise LoweringError(
            f"{node.name} ({node.op}): what one step of it needs at once does not fit the OCM ({error}); "
            "use a smaller model, fewer cores, which leave each more room, or a machine with more OCM",
            node.name,
        ) from error
    except EncodingError as error:
        what = f"an instruction cannot hold it ({error}); use smaller extents, strides or padding"
        raise LoweringError(f"{node.name} ({node.op}): {what}", node.name) from error


def make_cores(plan: Plan, hardware: Hardware, cores: int) -> list[Core]:
    """The cores with their OCM empty."""
    ocm = hardware.ocm.bytes
    common = int(ocm * SHARED_SHARE) // 64 * 64 if cores > 1 else 0
    shared = Arena(0, common)
    made: list[Core] = []
    made += [Core(number, plan, Arena(common, ocm - common), shared, made) for number in range(cores)]
    return made


def add_inputs(context: Context) -> None:
    """A segment for every input, in the order the user gives it."""
    from .context import dtype_of

    for name in context.graph.inputs:
        tensor = context.tensor(name)
        context.plan.add_storage(Storage(name, dtype_of(tensor), tensor.size, SegmentKind.INPUT))
        context.views[name] = dense(name, tensor.shape)


def deliver(context: Context, names: tuple[str, ...]) -> None:
    """Bring results that are graph outputs to segments of their own, in the order the user expects."""
    for name in names:
        if name not in context.graph.outputs:
            continue
        view, tensor = context.views[name], context.tensor(name)
        target = dense(name, tensor.shape)
        if view != target:
            copy(context, view, context.place(name, tensor, target, is_output=True))
            context.views[name] = target
