"""One lowering function per operation of the graph; importing this fills the registry."""

from . import channels, gather, matrix, movement, pool, rearrange, reduce, resize, rows, transposed, vector

MODULES = (channels, gather, matrix, movement, pool, rearrange, reduce, resize, rows, transposed, vector)
"""Imported for their entries in the registry."""
