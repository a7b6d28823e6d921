"""Results of runs as JSON records and as text, the same for every command that runs something.

The record's fields are fixed (docs/architecture.md); commands add their own.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

from isa.program import segment_name
from npusim.cli.programs import Runnable
from npusim.cli.text import table
from npusim.config import Hardware

PERLAYER_COLUMNS = ("name", "op", "cycles", "start", "end", "bound_by", "busy_cycles", "macs", "dram_bytes")


def job_record(result: Any, index: int, subject: Runnable, hardware: Hardware) -> dict[str, Any]:
    """One job of a run as the fixed JSON record."""
    job = result.jobs[index]
    row: dict[str, Any] = {
        "model": subject.name,
        "npu_mode": f"NPU{subject.cores}",
        "hardware": hardware.machine.name,
        "mode": result.mode.value,
        "cores": list(job.cores),
    }
    if result.recorded is not None:
        row |= _figures(result, index, subject, hardware)
    ports = {
        name: port
        for port in (subject.model.outputs if subject.model else ())
        for name in (port.name, segment_name(port.name))
    }
    row["outputs"] = {
        name: {"bytes": int(data.size), "sha256": hashlib.sha256(data.tobytes()).hexdigest()}
        | ({"dtype": ports[name].dtype, "shape": list(ports[name].shape)} if name in ports else {})
        for name, data in job.outputs.items()
    }
    return row


def _figures(result: Any, index: int, subject: Runnable, hardware: Hardware) -> dict[str, Any]:
    if subject.model is not None:
        from npusim.session.summaries import summary_of

        return summary_of(result, subject.model, hardware, index).record()
    from npusim.report.summary import summarize

    cycles = result.jobs[index].cycles
    return summarize(result.trace, hardware, index, cycles, subject.cores).record()


def print_record(row: dict[str, Any], hardware: Hardware) -> None:
    """Figures, units and outputs of one job."""
    cores = row["cores"]
    where = f"core {cores[0]}" if len(cores) == 1 else f"cores {', '.join(map(str, cores))}"
    print(f"{row['model']} on {row['hardware']}, {where}")
    if "cycles" in row:
        seconds = row["cycles"] / hardware.machine.clock_hz
        traffic = row["dram_bytes"] / seconds / 1e9 if seconds else 0.0
        print(f"  cycles       {row['cycles']:,}")
        host = f", {row['host_ms']:.4f} ms of it CPU parts and the launches behind them" if row["cpu_parts"] else ""
        print(f"  latency      {row['latency_ms']:.4f} ms, {hardware.machine.launch_ms} ms of it the call itself{host}")
        print(f"  MACs         {row['macs']:,}, {row['mac_utilization']:.1%} of the peak of its cores")
        print(f"  DRAM         {row['dram_bytes']:,} bytes, {traffic:.1f} GB/s")
        print()
        header = ("unit", "instructions", "busy cycles", "stall cycles", "utilization")
        uses = [
            (u["name"], u["instructions"], u["busy_cycles"], u["stall_cycles"], f"{u['utilization']:.1%}")
            for u in row["units"]
        ]
        print("\n".join(f"  {line}" for line in table(header, uses).splitlines()))
        if row["cpu_parts"]:
            print()
            print("\n".join(f"  {line}" for line in cpu_table(row["cpu_parts"]).splitlines()))
    if row["outputs"]:
        print()
        for name, output in row["outputs"].items():
            shape = f"{output['dtype']}{output['shape']}, " if "shape" in output else ""
            print(f"  {name}: {shape}{output['bytes']:,} bytes, sha256 {output['sha256'][:16]}")


def cpu_table(parts: Sequence[Mapping[str, Any]]) -> str:
    """The parts of a model that run on the CPU: what each costs, and why it is there."""
    rows = [
        (p["name"], p["operators"], f"{p['ms']:.4f}", p["flops"], p["bytes"], p["copied_bytes"],
         ", ".join(p["ops"]), f"{p['node']}: {p['reason']}")
        for p in parts
    ]  # fmt: skip
    header = ("CPU part", "operators", "ms", "operations", "bytes", "copied", "operators are", "because of")
    return table(header, rows, "<>>>>><<")


def perlayer_csv(row: dict[str, Any]) -> str:
    """The layers of a record, one a line."""
    lines = [",".join(PERLAYER_COLUMNS)]
    for layer in row["layers"]:
        name = layer["name"].replace('"', '""')
        lines.append(",".join([f'"{name}"', *(str(layer[key]) for key in PERLAYER_COLUMNS[1:])]))
    return "\n".join(lines) + "\n"
