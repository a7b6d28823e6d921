"""From an integer graph to a program: lowering, partition over cores, OCM and DRAM places, waits.

``build.compile_graph`` reads as the table of contents. The compiler plans one sequential order of steps, which is
correct by construction, and derives from the bytes they touch what has to wait for what.
"""
