"""Row 5. A forward with the decorator @torch.no_grad(), exported while gradients are on.

Expected: the convolution is quantized, or an error names the decorator.
Seen: nothing is quantized, or an IndexError or a ValueError that does not name it.
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


class Model(nn.Sequential):
    @torch.no_grad()
    def forward(self, x):
        return self[0](x).mean((2, 3))


model, x = Model(nn.Conv2d(3, 8, 3)).eval(), torch.randn(2, 3, 8, 8)
quantizer = xpu.XPUInductorQuantizer()
quantizer.set_global(xpu.get_default_xpu_inductor_quantization_config())
try:
    prepared = pt2e.prepare_pt2e(torch.export.export(model, (x,), strict=True).module(), quantizer)
    prepared(x)
    converted = pt2e.convert_pt2e(prepared)
except (IndexError, ValueError) as error:
    print(f"{type(error).__name__}: {error}".splitlines()[0])
    sys.exit(0)
found = sum("quantize_per_tensor" in str(node.target) for node in converted.graph.nodes)
print(f"{found} nodes that quantize or dequantize")
sys.exit(0 if found == 0 else 3)
