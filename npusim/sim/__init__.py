"""The machine: units, memories, arbitration, the event loop, the executor and the trace.

``simulate`` runs programs and hand-written assembly alike, ``serve`` calls them again and again. No ONNX, no compiler,
and no formula of uncontended cycles here (those are ``npusim.timing``'s); what waiting and contention cost is defined
in docs/microarchitecture.md.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:  # what a type checker and an editor see; at run time __getattr__ loads the same names
    from .executor import executes as executes
    from .job import Demand as Demand
    from .job import Job as Job
    from .job import Mode as Mode
    from .loader import limits_of as limits_of
    from .run import JobResult as JobResult
    from .run import Result as Result
    from .run import simulate as simulate
    from .service import Served as Served
    from .service import serve as serve
    from .trace import Trace as Trace
    from .turns import Call as Call

__all__ = ["Call", "Demand", "Job", "JobResult", "Mode", "Result", "Served", "Trace", "executes", "limits_of", "serve",
           "simulate"]  # fmt: skip


def __getattr__(name: str) -> object:
    """Load the public names on first use (PEP 562), so that a report that reads traces loads no simpy."""
    if name not in __all__:
        raise AttributeError(f"module 'npusim.sim' has no attribute {name!r}", name=name)
    from . import executor, job, loader, run, service, trace, turns

    homes = {
        "Call": turns, "Demand": job, "Job": job, "Mode": job, "Served": service, "Trace": trace, "executes": executor,
        "limits_of": loader, "serve": service,
    }  # fmt: skip
    globals().update({public: getattr(homes.get(public, run), public) for public in __all__})
    value: object = globals()[name]
    return value
