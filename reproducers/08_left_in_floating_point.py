"""Row 8. A network with layers that the quantizer for Intel GPUs does not take.

Expected: a list of the layers that stay in floating point.
Seen: the transposed convolution stays, and nothing says so. pytorch/pytorch#139578.
"""

import sys
import warnings
from importlib.util import find_spec

import torch
from torch import nn

if find_spec("torchao"):
    import torchao.quantization.pt2e.quantize_pt2e as pt2e
    import torchao.quantization.pt2e.quantizer.xpu_inductor_quantizer as xpu
else:  # torch 2.8
    import torch.ao.quantization.quantize_pt2e as pt2e
    import torch.ao.quantization.quantizer.xpu_inductor_quantizer as xpu

model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ConvTranspose2d(8, 8, 3)).eval()
x = torch.randn(2, 3, 8, 8)
quantizer = xpu.XPUInductorQuantizer()
quantizer.set_global(xpu.get_default_xpu_inductor_quantization_config())
with torch.no_grad(), warnings.catch_warnings(record=True) as said:
    prepared = pt2e.prepare_pt2e(torch.export.export(model, (x,), strict=True).module(), quantizer)
    prepared(x)
    converted = pt2e.convert_pt2e(prepared)
convs = [node for node in converted.graph.nodes if ".conv" in str(node.target)]
left = [str(node.target) for node in convs if "dequantize" not in str(node.args[1].target)]
named = any("conv_transpose" in str(warning.message) for warning in said)
print(f"{len(left)} of {len(convs)} left in floating point: {left}; named in a warning: {named}")
sys.exit(0 if len(left) == 1 and not named else 3)
