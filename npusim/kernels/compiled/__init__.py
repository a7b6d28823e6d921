"""The jitted half of the kernels; importing any module in here imports numba and loads or compiles its functions.

Called only by the public kernels, after they have checked shapes. No checks and no public names in here.
"""
