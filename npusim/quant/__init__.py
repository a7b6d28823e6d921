"""From a float ONNX model and calibration data to a quantized one (QDQ), and what that costs in accuracy.

``quantize`` is the way in. Everything here is ONNX in and ONNX out: cycles are asked for through a callback. Neither
the compiler nor the machine is known.
"""
