"""Row 4. A process loads a quantized program and compiles it; it imports no quantizer.

Expected: an int8 kernel, as in the process that saved the program.
Seen since torch 2.14: none, and no word. Inductor's int8 passes come with torchao's quantizer.
"""

import io
import subprocess
import sys
from importlib.util import find_spec

import torch
from torch import nn

if find_spec("torchao"):
    import torchao.quantization.pt2e.quantize_pt2e as pt2e
    import torchao.quantization.pt2e.quantizer.x86_inductor_quantizer as x86
else:  # torch 2.8
    import torch.ao.quantization.quantize_pt2e as pt2e
    import torch.ao.quantization.quantizer.x86_inductor_quantizer as x86

LOAD = """
import io, sys, torch, torch._inductor.config, torch.ao.quantization.fx._decomposed
from torch._inductor.utils import run_and_get_code
torch._inductor.config.freezing = True
model = torch.compile(torch.export.load(io.BytesIO(sys.stdin.buffer.read())).module())
with torch.no_grad():
    print("".join(run_and_get_code(model, torch.ones(4, 16))[1]).count("onednn.qlinear_pointwise"))
"""
model, x = nn.Sequential(nn.Linear(16, 16)).eval(), torch.randn(4, 16)
quantizer = x86.X86InductorQuantizer()
quantizer.set_global(x86.get_default_x86_inductor_quantization_config())
with torch.no_grad():
    prepared = pt2e.prepare_pt2e(torch.export.export(model, (x,), strict=True).module(), quantizer)
    prepared(x)
    torch.export.save(torch.export.export(pt2e.convert_pt2e(prepared), (x,)), file := io.BytesIO())
said = subprocess.check_output([sys.executable, "-Wignore", "-c", LOAD], input=file.getvalue())
print(f"int8 calls in a process without the quantizer: {int(said)}")
sys.exit(0 if int(said) == 0 else 3)
