"""Run the int8 model in this folder, with torch alone: it compiles nothing.

python run.py              check the folder and this machine, and run the example
python run.py images.pt    print a class for each row of a tensor, or of a tuple of tensors

Loading model.pt2 executes the machine code in it. SHA256SUMS shows damage; who wants to know
that nobody changed the folder compares SHA256SUMS itself with the one of its maker.
"""

import ctypes
import hashlib
import json
import os
import pickle
import re
import sys
import zipfile
from pathlib import Path

os.environ["AOTI_RUNTIME_CHECK_INPUTS"] = "1"  # without it another shape is computed in silence

import torch
from torch.utils._pytree import tree_leaves

HERE = Path(__file__).parent
ABOUT = json.loads((HERE / "package.json").read_text())
CAPABILITIES = ["DEFAULT", "AVX2", "AVX512"]
M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4  # names and numbers of glibc's malloc.h


def check_files():
    """End if a file is not the one that was shipped."""
    for line in (HERE / "SHA256SUMS").read_text().splitlines():
        expected, name = line.split("  ", 1)
        if not (HERE / name).exists():
            raise SystemExit(f"{name} is missing.\n  Fix: copy the folder again, whole.")
        if hashlib.sha256((HERE / name).read_bytes()).hexdigest() != expected:
            raise SystemExit(f"{name} is damaged or was changed.\n  Fix: copy the folder again.")


def check_machine():
    """End if the package was made for another torch, device or kind of CPU."""
    found = torch.__version__.split("+")[0]
    if found != ABOUT["torch"]:
        cause = f"The package was made by torch {ABOUT['torch']}, this is torch {found}."
        raise SystemExit(f"{cause}\n  Fix: pip install torch=={ABOUT['torch']}, or ship it again.")
    if ABOUT["device"] == "xpu" and not torch.xpu.is_available():
        fix = "Run it where an Intel GPU is, or ship it again for the CPU."
        raise SystemExit(f"The package was made for an Intel GPU; there is none.\n  Fix: {fix}")
    here = torch.backends.cpu.get_cpu_capability()
    if CAPABILITIES.index(here) < CAPABILITIES.index(ABOUT["cpu_capability"]):
        cause = f"The package was made for a CPU with {ABOUT['cpu_capability']}; here is {here}."
        raise SystemExit(f"{cause}\n  Fix: ship the model again on this kind of machine.")


def check_int8():
    """End if the code of the package lacks int8 calls; give their number."""
    with zipfile.ZipFile(HERE / "model.pt2") as package:
        names = [name for name in package.namelist() if name.endswith(".wrapper.cpp")]
        code = "".join(package.read(name).decode() for name in names)
    calls = len(re.findall(r"\baoti_torch_\w+?__?q(?:conv|linear)\w*\(", code))
    if calls < ABOUT["int8_layers"] or not calls:
        cause = f"The package has {calls} int8 calls, not {ABOUT['int8_layers']}."
        raise SystemExit(f"{cause}\n  Fix: ship the model again.")
    return calls


def keep_memory():
    """Have glibc keep what operators give back, in the main thread, before the model is loaded.

    It would return large tensors to the system, and mapping them again takes time.
    """
    if sys.platform == "linux":
        c_library = ctypes.CDLL(None)
        c_library.mallopt(M_MMAP_MAX, 0)
        c_library.mallopt(M_TRIM_THRESHOLD, -1)  # never


def read_rows(path):
    """Read a tensor, or a tuple of tensors, that torch.save wrote."""
    try:
        given = torch.load(path, weights_only=True)
    except (OSError, RuntimeError, pickle.UnpicklingError) as error:
        cause = f"{path} cannot be read as tensors: {str(error).splitlines()[0]}"
        raise SystemExit(f"{cause}\n  Fix: torch.save(images, {path!r})") from error
    return given if isinstance(given, tuple) else (given,)


def laid_out(x, wanted):
    """Give a batch the rows, dtype, strides and device that the package wants."""
    if list(x.shape[1:]) != wanted["shape"][1:]:
        raise SystemExit(f"A row is {list(x.shape[1:])}, not {wanted['shape'][1:]}.")
    dtype = getattr(torch, wanted["dtype"])
    batch = torch.empty_strided(wanted["shape"], wanted["stride"], dtype=dtype).zero_()
    batch[: len(x)] = x
    return batch.to(ABOUT["device"])


def answers(model, inputs):
    """Run all rows, batch by batch. The last batch is padded with zeros, and cut."""
    rows, batch = len(inputs[0]), ABOUT["inputs"][0]["shape"][0]
    outputs = []
    for start in range(0, rows, batch):
        pairs = zip(inputs, ABOUT["inputs"], strict=True)
        output = model(*(laid_out(x[start : start + batch], wanted) for x, wanted in pairs))
        outputs.append(first_scores(output)[: rows - start])
    return torch.cat(outputs)


def first_scores(output):
    """First floating tensor [rows, classes] of what the model gives, on the CPU."""
    found = (x for x in tree_leaves(output) if x.dim() == 2 and x.is_floating_point())
    return next(found).float().cpu()


def run_example(model):
    """End unless the example's answer is the one that was shipped, but for rounding."""
    example = torch.load(HERE / "example.pt", weights_only=True)
    scores = answers(model, example["inputs"])
    if torch.equal(scores, example["scores"]):
        return "bit for bit"
    error = ((scores - example["scores"]).norm() / example["scores"].norm()).item()
    if not error < 0.03:  # 30 dB: less is more than rounding
        fix = "Run it on the kind of machine that it was made on, or ship it again here."
        raise SystemExit(f"The example's answer differs by {error:.1%}.\n  Fix: {fix}")
    return f"but for rounding: {error:.1e} of its values"


if __name__ == "__main__":
    check_files()
    check_machine()
    calls = check_int8()
    keep_memory()
    with torch.no_grad():
        model = torch._inductor.aoti_load_package(str(HERE / "model.pt2"))
        if len(sys.argv) > 1:
            print(*answers(model, read_rows(sys.argv[1])).argmax(1).tolist(), sep="\n")
        else:
            print(f"{calls} int8 calls; the example's answer is as shipped, {run_example(model)}")
