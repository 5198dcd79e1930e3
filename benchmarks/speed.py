"""Print the speed of int8 against compiled fp32: lesson 03 on ResNet-18, batch 32, 224×224."""

import sys
import time
from pathlib import Path

from xpuqlib.proof.record import read_record
from xpuqlib.runner.execution import execute, find_notebooks, plan

PARAMETERS = {"model": "resnet18", "weights": "random", "batch_size": 32, "image_size": 224}

out = Path("runs") / time.strftime("benchmark-%Y%m%d-%H%M%S")
[job] = plan(find_notebooks(["03"]), PARAMETERS)
result = execute(job, out)
if result.result != "passed":
    sys.exit(f"{result.notebook} {result.result}: {result.error}")
record = read_record(result.executed)
print(f"{record.mode} on {record.device} ({record.device_name}), {PARAMETERS}")
for name, value in record.metrics.items():
    if value is not None:
        print(f"  {name}: {value:.4g}")
ratio = record.metrics["speed_against_fp32_compiled"]
print(f"quantized against compiled fp32: {ratio:.2f} times as fast")
