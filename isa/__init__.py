"""The instruction set of the NPU: instructions, encoding, arithmetic law, programs, assembler, verifier."""
