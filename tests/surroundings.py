"""What every process of the tests inherits: the suite's own, kernels, and children of lessons."""

import importlib.metadata
import os
import tempfile
from pathlib import Path


def set_surroundings():
    """Set what is read when torch is imported; what is set already stays."""
    version = importlib.metadata.version("torch")
    for name, value in {
        # Several kernels share few cores: threads must not spin while they wait.
        "OMP_WAIT_POLICY": "PASSIVE",
        "KMP_BLOCKTIME": "0",
        # One cache of compiled code for all tests, never shared between versions of torch.
        "TORCHINDUCTOR_CACHE_DIR": str(
            Path(tempfile.gettempdir(), f"xpuqlib-tests-torch-{version}")
        ),
        # As many tests run at once as there are cores. With more than one thread Inductor starts
        # a pool, which imports torch once more for each process, and serves only Triton.
        "TORCHINDUCTOR_COMPILE_THREADS": "1",
    }.items():
        os.environ.setdefault(name, value)


def ask_the_compiler():
    """Ask once whether it knows all that this CPU can do: torch 2.8 asks anew in each process."""
    from torch._inductor import cpu_vec_isa

    able = {*cpu_vec_isa.x86_isa_checker()}
    sets = [isa for isa in cpu_vec_isa.supported_vec_isa_list if {*str(isa).split()} <= able]
    if sets and all(sets):
        os.environ.setdefault("TORCHINDUCTOR_VEC_ISA_OK", "1")
