"""Row 9. A strict export, of whatever model, between two calls of a compiled model.

Expected: the compiled model is called again as it is.
Seen on 2.11 and 2.15, not 2.8: it is compiled again, in floating point if freezing is off by then.
"""

import sys
from importlib.util import find_spec

import torch
from torch import nn
from torch._dynamo.utils import counters

if find_spec("torchao"):
    import torchao.quantization.pt2e.quantize_pt2e as pt2e
    import torchao.quantization.pt2e.quantizer.x86_inductor_quantizer as x86
else:  # torch 2.8
    import torch.ao.quantization.quantize_pt2e as pt2e
    import torch.ao.quantization.quantizer.x86_inductor_quantizer as x86

model, x = nn.Sequential(nn.Linear(16, 16)).eval(), torch.randn(4, 16)
quantizer = x86.X86InductorQuantizer()
quantizer.set_global(x86.get_default_x86_inductor_quantization_config())
with torch.no_grad():
    prepared = pt2e.prepare_pt2e(torch.export.export(model, (x,), strict=True).module(), quantizer)
    prepared(x)
    converted = pt2e.convert_pt2e(prepared)
    compiled = torch.compile(converted)
    with torch._inductor.config.patch(freezing=True):
        compiled(x)
    first = counters["inductor"]["qlinear_weight_prepack_matcher_count"]
    torch.export.export(nn.ReLU(), (x,), strict=True)
    counters.clear()
    compiled(x)
again = counters["stats"]["unique_graphs"]
second = counters["inductor"]["qlinear_weight_prepack_matcher_count"]
print(f"int8 layers: {first}; compilations after an export: {again}, int8 layers in them: {second}")
sys.exit(0 if first == 1 and again and second == 0 else 3)
