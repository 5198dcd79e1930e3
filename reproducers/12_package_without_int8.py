"""Row 12. AOTInductor packages a quantized model, without freezing, or with gradients on.

Expected: int8 kernels in the package, or a word.
Seen: floating point, and no word. The first is pytorch/ao#4566.
"""

import sys
import tempfile
import zipfile
from importlib.util import find_spec

import torch
from torch import nn

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
    program = torch.export.export(pt2e.convert_pt2e(prepared), (x,))

only = {"aot_inductor.package_cpp_only": True}  # the C++ tells it; compiling it takes its time
calls, package = [], torch._inductor.aoti_compile_and_package
for gradients in (False, True):
    with tempfile.NamedTemporaryFile(suffix=".pt2") as file, torch.set_grad_enabled(gradients):
        package(program, package_path=file.name, inductor_configs=only | {"freezing": gradients})
        with zipfile.ZipFile(file.name) as archive:
            cpp = [archive.read(name) for name in archive.namelist() if name.endswith(".cpp")]
        calls.append(b"".join(cpp).count(b"qlinear_pointwise"))
print(f"int8 calls: {calls[0]} without freezing, {calls[1]} with it and gradients on")
sys.exit(0 if calls == [0, 0] else 3)
