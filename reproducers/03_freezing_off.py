"""Row 3. The variable TORCHINDUCTOR_FREEZING is set after torch was imported.

Expected: torch.compile makes an int8 kernel, or says that freezing is off.
Seen: no int8 kernel, no word; the output is that of the quantize-dequantize graph.
"""

import os
import sys
from importlib.util import find_spec

import torch
from torch import nn
from torch._inductor.utils import run_and_get_code

if find_spec("torchao"):
    import torchao.quantization.pt2e.quantize_pt2e as pt2e
    import torchao.quantization.pt2e.quantizer.x86_inductor_quantizer as x86
else:  # torch 2.8
    import torch.ao.quantization.quantize_pt2e as pt2e
    import torch.ao.quantization.quantizer.x86_inductor_quantizer as x86

os.environ["TORCHINDUCTOR_FREEZING"] = "1"  # as in a later cell: Inductor has read it already
model, x = nn.Sequential(nn.Linear(16, 16)).eval(), torch.randn(4, 16)
quantizer = x86.X86InductorQuantizer()
quantizer.set_global(x86.get_default_x86_inductor_quantization_config())
with torch.no_grad():
    prepared = pt2e.prepare_pt2e(torch.export.export(model, (x,), strict=True).module(), quantizer)
    prepared(x)
    converted = pt2e.convert_pt2e(prepared)
    _, late = run_and_get_code(torch.compile(converted), x)
    torch._inductor.config.freezing = True
    _, frozen = run_and_get_code(torch.compile(converted), x)
calls = ["".join(codes).count("onednn.qlinear_pointwise") for codes in (late, frozen)]
print(f"int8 calls: {calls[0]} with the variable, {calls[1]} with freezing")
sys.exit(0 if calls[0] == 0 < calls[1] else 3)
