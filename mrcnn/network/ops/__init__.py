"""Tensor operations: RoIAlign and its variants, NMS, backend-specific code."""
