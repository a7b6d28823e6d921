"""The arithmetic of every instruction as fast kernels: arrays in, arrays out, bits equal to ``isa.law`` on every tier.

Called by the executor and by users. Kernels know no instructions; importing this package imports no compiler.
"""
