"""Fused operations of the hybrid model: for each a plain PyTorch reference, Triton kernels, and one dispatcher."""
