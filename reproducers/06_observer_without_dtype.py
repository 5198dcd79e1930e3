"""Row 6. The observer of IPEX's documentation, which asks for symmetric int8.

Expected: qint8 with zero point 0.
Seen: quint8 with zero point 128. The observer has a dtype of its own unless it is given one.
"""

import sys

import torch
from torch.ao.quantization import MinMaxObserver

x = torch.linspace(-1, 1, 100)
observer = MinMaxObserver.with_args(qscheme=torch.per_tensor_symmetric)()
observer(x)
_, zero_point = observer.calculate_qparams()
print(f"{observer.dtype}, zero point {zero_point.item()}")
sys.exit(0 if (observer.dtype, zero_point.item()) == (torch.quint8, 128) else 3)
