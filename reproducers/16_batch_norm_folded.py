"""Row 16. A convolution's output is read by its BatchNorm, and by somebody else.

Expected: what prepare_pt2e gives, which only observes, answers as the model does.
Seen on torch 2.8 to 2.15: BatchNorm is folded into the convolution, and everybody else gets the
normalized values. The first shortcut of torchvision's MaxViT does.
"""

import sys
from importlib.util import find_spec

import torch
from torch import nn

if find_spec("torchao"):
    from torchao.quantization.pt2e.quantize_pt2e import prepare_pt2e
    from torchao.quantization.pt2e.quantizer.x86_inductor_quantizer import X86InductorQuantizer
else:  # torch 2.8
    from torch.ao.quantization.quantize_pt2e import prepare_pt2e
    from torch.ao.quantization.quantizer.x86_inductor_quantizer import X86InductorQuantizer


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3)
        self.norm.running_mean.fill_(1)

    def forward(self, x):
        y = self.conv(x)
        return y + self.norm(y)


model, x = Model().eval(), torch.randn(1, 3, 4, 4)
with torch.no_grad():
    captured = torch.export.export(model, (x,), strict=True).module()
    error = (prepare_pt2e(captured, X86InductorQuantizer())(x) - model(x)).abs().max().item()
print(f"nothing is quantized yet, and the output is wrong by {error:.2f}")
sys.exit(0 if error > 1e-3 else 3)
