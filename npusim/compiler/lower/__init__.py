"""One lowering function per operation of the graph; importing this fills the registry."""

from . import matrix, movement, pool, rows, vector

assert all((matrix, movement, pool, rows, vector)), "imported for their entries in the registry"
