"""Reading a trace: totals, layers, units. Nothing here runs anything."""
