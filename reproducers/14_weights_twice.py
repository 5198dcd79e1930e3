"""Row 14. A converted model is exported and saved.

Expected: a file of about the size of the int8 codes.
Seen: four to five times that. The weights in floating point are in it, and the graph reads none.
"""

import io
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
model, x = nn.Sequential(nn.Linear(512, 512)).eval(), torch.randn(2, 512)
quantizer = xpu.XPUInductorQuantizer()
quantizer.set_global(xpu.get_default_xpu_inductor_quantization_config())
with torch.no_grad():
    prepared = pt2e.prepare_pt2e(torch.export.export(model, (x,), strict=True).module(), quantizer)
    prepared(x)
    file = io.BytesIO()
    torch.export.save(torch.export.export(pt2e.convert_pt2e(prepared), (x,)), file)
codes, size = model[0].weight.numel(), len(file.getvalue())
print(f"{size / 1e6:.2f} MB for {codes / 1e6:.2f} MB of codes: {size / codes:.1f} times")
sys.exit(0 if size > 4 * codes else 3)
