"""``compile_graph``: from an integer graph to a program, in a list of stages.

The only module of this package that others call. Each stage is a file.
"""

from __future__ import annotations

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
from .order import Order, list_schedule
from .plan import Plan, Storage
from .schedule import Placed, drop_dead_stores, place
from .view import dense
from .waits import assign_waits

assert lower.__doc__, "imported for its entries in the registry"

FEW_STEPS = 1500
"""Plans up to this length are compared with those for fewer cores; longer ones are models that keep all cores busy."""
WORTH_A_CORE = 1.08
"""By how much more cores have to be faster on modelled time, which is that exact."""
SHARED_SHARE = 0.4
"""Part of OCM in which all cores hold the same constants, where there are several cores."""


def compile_graph(graph: Graph, hardware: Hardware, cores: int) -> Program:
    """Lower a graph for a number of cores; it uses fewer of them where that is faster.

    Raises:
        UsageError: more cores than the machine has.
        UnsupportedError, LoweringError: a node that cannot be lowered.
    """
    if not 1 <= cores <= hardware.machine.cores:
        raise UsageError(f"{cores} cores asked for; {hardware.machine.name} has {hardware.machine.cores}")
    require_integer(graph)
    planned = plan_graph(graph, hardware, cores)
    for fewer in reversed(range(1, cores)):  # small models lose more by waiting than they gain
        if len(planned.placed) > FEW_STEPS or planned.order.least_cycles(fewer) > planned.order.cycles:
            continue
        try:
            other = plan_graph(graph, hardware, fewer)
        except LoweringError:
            continue
        if other.order.cycles <= planned.order.cycles * WORTH_A_CORE:
            planned = other
    return emit(graph, planned, cores)


@dataclass(frozen=True, slots=True, eq=False)
class Planned:
    """A graph planned for a number of cores: steps, what each comes after, and when each starts."""

    placed: list[Placed]
    before: list[tuple[int, ...]]
    order: Order
    segments: list[Segment]
    origin_names: list[str]


def plan_graph(graph: Graph, hardware: Hardware, cores: int) -> Planned:
    """The stages from nodes to steps in the order of their start."""
    plan = Plan()
    context = Context(graph, hardware, plan, make_cores(plan, hardware, cores))
    add_inputs(context)
    for node in graph.nodes:
        if node.op not in LOWERINGS:
            raise LoweringError(f"{node.name} ({node.op}): the compiler has no lowering for it", node.name)
        plan.begin(node.name)
        lower_node(context, node)
        context.finish(node)
    steps = drop_dead_stores(plan)  # results that nobody loads again stay in OCM
    segments, addresses = place_storages(plan, steps)  # DRAM, shared by storages that do not live at once
    placed = place(steps, addresses)  # instructions, and the bytes that they touch
    before = predecessors(placed)  # what touches the same bytes keeps its order
    order = list_schedule(placed, before, hardware)  # the most urgent first, on every unit
    return Planned(placed, before, order, segments, plan.origin_names)


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
        origin_names=planned.origin_names,
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
