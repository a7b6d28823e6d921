from isa.assembler import assemble
from npusim.config import load
from npusim.report.summary import summarize
from npusim.sim import Job, Mode, simulate

# Two layers on `small` (4 x 4 arrays, 1 GHz, 3 cores): a load and a matmul that waits for it.
SOURCE = """
.segment x input 64
in: sdma load ocm=0 segment=x run=64
mm: conv0 matmul a=0 b=16 dst=128 params=32 m=4 k=4 n=4 a_row_stride=4 b_row_stride=4 dst_row_stride=4 wait(in)
"""


def test_figures_follow_from_the_trace():
    hardware = load("small")
    job = Job(program=assemble(SOURCE))
    result = simulate(hardware, job, mode=Mode.TIME)
    figures = summarize(result.trace, hardware, 0, result.cycles, 1)
    load_row, matmul_row = (r for r in result.trace.rows() if r.mnemonic != "end")
    assert figures.cycles == result.cycles
    assert figures.macs == 4 * 4 * 4
    # a core has two units of 4 x 4 cells
    assert figures.mac_utilization == 64 / (result.cycles * 32)
    assert figures.dram_bytes == 64
    assert figures.latency_ms == result.cycles / 1e9 * 1e3 + hardware.machine.launch_ms
    assert [(u.name, u.instructions) for u in figures.units] == [("core0.conv0", 2), ("core0.sdma", 2)]
    (first, second) = figures.layers
    assert (first.name, first.op, first.bound_by) == ("in:3", "load", "dram")
    assert (second.name, second.op, second.bound_by) == ("mm:4", "matmul", "compute")
    assert (second.start, second.end, second.macs) == (matmul_row.start, matmul_row.end, 64)
    assert first.cycles == load_row.end - load_row.start


def test_jobs_are_told_apart():
    hardware = load("small")
    program = assemble(SOURCE)
    result = simulate(hardware, [Job(program=program, cores=[c], name=str(c)) for c in (0, 2)], mode=Mode.TIME)
    for index, core in enumerate((0, 2)):
        figures = summarize(result.trace, hardware, index, result.jobs[index].cycles, 1)
        assert {u.name.split(".")[0] for u in figures.units} == {f"core{core}"}
        assert figures.macs == 64


def test_active_cycles_are_those_in_which_anything_of_the_layer_executes(matmul, chain):
    for profile in (matmul, chain):
        executing: dict = {}
        for row in profile.trace.rows():
            executing.setdefault(row.origin, set()).update(range(row.start, row.end))
        overlap = 0
        for layer in profile.summary.layers:
            assert layer.active_cycles == len(executing[layer.name])
            overlap += layer.busy_cycles - layer.active_cycles
        assert overlap > 0 or profile is matmul
