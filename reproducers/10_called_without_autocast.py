"""Row 10. A model is compiled under autocast to bfloat16, and called outside of it later.

Expected: an error, a warning, or the compiled model as it is.
Seen: it is compiled once more, without bfloat16, and nothing says so.
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
    torch._inductor.config.freezing = True
    with torch.autocast("cpu", torch.bfloat16):
        first = compiled(x).dtype
    before = counters["stats"]["unique_graphs"]
    second = compiled(x).dtype
again = counters["stats"]["unique_graphs"] - before
print(f"{first} under autocast, {second} outside; graphs compiled by the second call: {again}")
sys.exit(0 if again == 1 and first != second else 3)
