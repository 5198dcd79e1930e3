"""Row 11. Dequantize, max-pool, quantize, compiled with freezing.

Expected: what the graph gives without torch.compile.
Seen on torch 2.8 to 2.15: where the two scales differ, codes of the wrong scale; with ceil_mode
another shape. Inductor makes one int8 max-pool of the three, and compares no scale.
"""

import sys
from importlib.util import find_spec

import torch
import torch.ao.quantization.fx._decomposed
from torch.nn import functional as F

if find_spec("torchao"):  # Inductor's int8 passes come with it since torch 2.14
    import torchao.quantization.pt2e.quantizer.x86_inductor_quantizer  # noqa: F401

ops = torch.ops.quantized_decomposed


def pool(codes, scale, ceil_mode):
    values = ops.dequantize_per_tensor(codes, 0.1, 0, 0, 255, torch.uint8)
    values = F.max_pool2d(values, 3, 2, ceil_mode=ceil_mode)
    return ops.quantize_per_tensor(values, scale, 0, 0, 255, torch.uint8)


codes = torch.arange(2 * 8 * 8, dtype=torch.uint8).reshape(1, 2, 8, 8)
codes = codes.contiguous(memory_format=torch.channels_last)  # as Inductor wants it
torch._inductor.config.freezing = True
with torch.no_grad():
    other, right = torch.compile(pool)(codes, 0.2, False), pool(codes, 0.2, False)
    ceil, shape = torch.compile(pool)(codes, 0.1, True).shape, pool(codes, 0.1, True).shape
wrong = (other != right).float().mean().item()
print(f"wrong codes: {wrong:.0%}; with ceil_mode {list(ceil)} instead of {list(shape)}")
sys.exit(0 if wrong > 0 or ceil != shape else 3)
