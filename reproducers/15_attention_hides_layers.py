"""Row 15. nn.MultiheadAttention between linear layers.

Expected: its two linear layers are quantized like the others, or something says that they are not.
Seen: the quantizer looks for modules, and the attention calls its layers as functions.
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
    def forward(self, x):
        x = self[0](x)
        return self[2](self[1](x, x, x, need_weights=False)[0])


attention = nn.MultiheadAttention(16, 2, batch_first=True)
model = Model(nn.Linear(16, 16), attention, nn.Linear(16, 16)).eval()
x = torch.randn(2, 5, 16)
quantizer = xpu.XPUInductorQuantizer()
quantizer.set_global(xpu.get_default_xpu_inductor_quantization_config())
with torch.no_grad():
    prepared = pt2e.prepare_pt2e(torch.export.export(model, (x,), strict=True).module(), quantizer)
    prepared(x)
    converted = pt2e.convert_pt2e(prepared)
linear = [node for node in converted.graph.nodes if "aten.linear" in str(node.target)]
taken = sum("dequantize" in str(node.args[1].target) for node in linear)
print(f"{taken} of {len(linear)} linear layers quantized")
sys.exit(0 if taken < len(linear) else 3)
