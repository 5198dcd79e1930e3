"""Row 1. PyTorch's tutorial as printed: an export that is not strict.

Expected: the convolution and the linear layer are quantized, or an error says why not.
Seen on torch 2.8 and 2.11: no quantize node, no word. pytorch/pytorch#160095.
"""

import sys
from importlib.util import find_spec

import torch
from torch import nn

if find_spec("torchao"):
    import torchao.quantization.pt2e.quantize_pt2e as pt2e
    import torchao.quantization.pt2e.quantizer.xpu_inductor_quantizer as xpu
else:  # torch 2.8
    import torch.ao.quantization.quantize_pt2e as pt2e
    import torch.ao.quantization.quantizer.xpu_inductor_quantizer as xpu

torch.manual_seed(0)
model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(288, 10)).eval()
x = torch.randn(2, 3, 8, 8)
quantizer = xpu.XPUInductorQuantizer()
quantizer.set_global(xpu.get_default_xpu_inductor_quantization_config())
with torch.no_grad():
    exported = torch.export.export(model, (x,)).module()  # strict is False by default
    prepared = pt2e.prepare_pt2e(exported, quantizer)
    prepared(x)
    converted = pt2e.convert_pt2e(prepared)
    error = (model(x) - converted(x)).abs().max().item()
found = sum("quantize_per_tensor" in str(node.target) for node in converted.graph.nodes)
print(f"{found} nodes that quantize or dequantize; largest difference to fp32: {error:.1g}")
sys.exit(0 if found == 0 else 3)
