"""Helper of a teaching kit on int8 post-training quantization for Intel GPUs with PyTorch.

Importing the package imports no torch: ``xpuqlib.machine.environment`` and ``xpuq doctor``
must answer where torch is missing or broken.
"""

from xpuqlib.machine.noise import filter_known_noise

__version__ = "0.1.0"

filter_known_noise()  # before anything imports torch, which is the first to be noisy
