"""Helper of a teaching kit on int8 post-training quantization for Intel GPUs with PyTorch.

Importing the package imports no torch: ``xpuqlib.environment`` and ``xpuq doctor`` must answer
where torch is missing or broken.
"""

__version__ = "0.1.0"
