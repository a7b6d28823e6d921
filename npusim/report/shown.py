"""The figures of a run as HTML for notebooks: a heading, the totals, and the layers that cost most.

Used by ``Summary`` and by what has one. The report's page is ``page``'s business.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from npusim import markup

if TYPE_CHECKING:
    from npusim.report.summary import Summary

SHOWN_LAYERS = 20


def summary_html(title: str, summary: Summary) -> str:
    """A heading, the figures, and the layers through which the critical path goes longest."""
    spent = sorted(summary.critical_cycles.items(), key=lambda item: -item[1])
    heading = markup.heading(
        title,
        f"{summary.fps:,.1f} fps; {summary.tops:.2f} TOPS, {summary.mac_utilization:.1%} of the peak; "
        f"DRAM {summary.dram_gb_per_second:.1f} GB/s, {summary.dram_bytes:,} bytes",
        "critical path: " + ", ".join(f"{kind} {cycles / max(summary.cycles, 1):.1%}" for kind, cycles in spent),
        *(f"on the CPU: {work.name}, {work.ms:.3f} ms ({', '.join(work.ops)})" for work in summary.cpu_parts),
    )
    longest = sorted(summary.layers, key=lambda layer: (-layer.critical_cycles, layer.start))[:SHOWN_LAYERS]
    rows = [(layer.name, layer.op, layer.bound_by, layer.critical_cycles, layer.cycles, layer.macs, layer.dram_bytes)
            for layer in longest]  # fmt: skip
    return heading + markup.table(("layer", "op", "bound by", "critical cycles", "span", "MACs", "DRAM bytes"), rows)
