"""Row 13. A package gets inputs of another shape and dtype than it was compiled for.

Expected: an error.
Seen: answers, too few or wrong. AOTI_RUNTIME_CHECK_INPUTS=1 makes the package check its inputs.
"""

import os
import sys
import tempfile

import torch
from torch import nn

os.environ.pop("AOTI_RUNTIME_CHECK_INPUTS", None)
torch.manual_seed(0)
model, x = nn.Softmax(1), torch.randn(4, 16)
with tempfile.TemporaryDirectory() as folder, torch.no_grad():
    path = torch._inductor.aoti_compile_and_package(
        torch.export.export(model, (x,)), package_path=f"{folder}/m.pt2"
    )
    package = torch._inductor.aoti_load_package(path)
    try:
        rows, double = len(package(torch.cat([x, x]))), package(x.double()).float()
    except RuntimeError as error:
        print(f"RuntimeError: {error}".splitlines()[0])
        sys.exit(3)
    wrong = ((double - model(x)).norm() / model(x).norm()).item()
print(f"{rows} answers for 8 rows; float64 gives an answer that is {wrong:.0%} wrong")
sys.exit(0 if rows == 4 and wrong > 0.01 else 3)
