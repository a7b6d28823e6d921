"""What pytest must not import here: kernels for CPU features that this machine, or numba's settings, lack."""

from __future__ import annotations

from npusim.kernels.tier import Tier, available

collect_ignore_glob = [] if Tier.VNNI in available() else ["npusim/kernels/compiled/*_vnni.py"]
