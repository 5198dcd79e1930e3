"""Row 7. A deep network with random weights, and BatchNorm statistics that nobody estimated.

Expected: a number that compares a quantized network with fp32 says something about quantizing.
Seen: each image gets the same answer, so even convolutions that are all zero agree with fp32.
"""

import sys

import torch
from torch import nn

torch.manual_seed(0)
layers = []
for _ in range(20):
    conv = nn.Conv2d(8 if layers else 3, 8, 3, padding=1, bias=False)
    layers += [conv, nn.BatchNorm2d(8), nn.ReLU()]
model = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 10)).eval()
x = torch.randn(8, 3, 32, 32)
with torch.no_grad():
    fp32 = model(x)
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            module.weight.zero_()  # worse than any int8
    broken = model(x)
decibels = 20 * torch.log10(fp32.norm() / (fp32 - broken).norm()).item()
agreement = (fp32.argmax(1) == broken.argmax(1)).float().mean().item()
print(f"all convolutions zero: {decibels:.0f} dB, the class agrees for {agreement:.0%} of images")
sys.exit(0 if decibels > 40 and agreement == 1 else 3)
