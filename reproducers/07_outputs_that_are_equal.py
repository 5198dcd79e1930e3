"""Row 7. A deep network with random weights, and BatchNorm statistics that nobody estimated.

Expected: a number that compares a quantized network with fp32 says something about quantizing.
Seen: each image gets the same answer, so even convolutions that are all zero agree with fp32.
"""

import sys

import torch
import torchvision
from torch import nn

torch.manual_seed(0)
model, x = torchvision.models.shufflenet_v2_x1_0().eval(), torch.randn(8, 3, 32, 32)
with torch.no_grad():
    fp32 = model(x)
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            module.weight.zero_()  # worse than any int8
    broken = model(x)
decibels = 20 * torch.log10(fp32.norm() / (fp32 - broken).norm()).item()
agreement = (fp32.argmax(1) == broken.argmax(1)).float().mean().item()
print(
    f"all convolutions zero: SQNR {decibels:.0f} dB, the class agrees for {agreement:.0%} of images"
)
sys.exit(0 if decibels > 40 and agreement == 1 else 3)
