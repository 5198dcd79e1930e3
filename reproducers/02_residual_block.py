"""Row 2. An export that is not strict, of a ResNet's block: it calls one nn.ReLU twice.

Expected: the two convolutions are quantized.
Seen since torch 2.14: ValueError, "Input partition has more than one output node".
"""

import sys
from importlib.util import find_spec

import torch
from torchvision.models.resnet import BasicBlock

if find_spec("torchao"):
    import torchao.quantization.pt2e.quantize_pt2e as pt2e
    import torchao.quantization.pt2e.quantizer.xpu_inductor_quantizer as xpu
else:  # torch 2.8
    import torch.ao.quantization.quantize_pt2e as pt2e
    import torch.ao.quantization.quantizer.xpu_inductor_quantizer as xpu

torch.manual_seed(0)
model, x = BasicBlock(8, 8).eval(), torch.randn(2, 8, 8, 8)
quantizer = xpu.XPUInductorQuantizer()
quantizer.set_global(xpu.get_default_xpu_inductor_quantization_config())
with torch.no_grad():
    exported = torch.export.export(model, (x,), strict=False).module()
    try:
        pt2e.prepare_pt2e(exported, quantizer)
    except ValueError as error:
        print(f"ValueError: {error}".splitlines()[0])
        sys.exit(0)
print("no error")
sys.exit(3)
