"""Execute a drafted program, line by line, in a process of its own: for tests.

On cuda its Triton kernels run as they are, on a CPU in Triton's interpreter (TRITON_INTERPRET=1).
oneDNN's int8 calls are computed exactly, as in the simulation.
"""

import re
import sys
import types
from pathlib import Path

import torch
import triton

from xpuqlib.proof.int8_calls import rename_arguments
from xpuqlib.proof.stand_ins import exact_int8

WITHOUT_XPU = [
    (r"from torch\._C import _xpu_\w+ as get_raw_stream", "get_raw_stream = lambda device: 0"),
    (r"empty_strided_xpu = .*", ""),
    (r"async_compile = AsyncCompile\(\)", ""),
    (r"with torch\.xpu\._DeviceGuard\(0\):", "if True:"),
    (r"torch\.xpu\.set_device\(0\)", "pass"),
    (r"torch\.ops\.onednn\.(\w+)\.(\w+)\(", r"int8_call('\1', '\2', "),
    (r"^( *)assert_tensor_metadata\(.*", r"\1pass"),
    (r"^assert_tensor_metadata.*", ""),
]


class NearestInteger:
    """What a GPU's library does and Triton's interpreter does not."""

    @staticmethod
    def nearbyint(x, **settings):
        import numpy
        from triton.runtime.interpreter import TensorHandle

        return type(x)(TensorHandle(numpy.rint(x.handle.data), x.handle.dtype), x.type)


class Kernel:
    """A Triton kernel of the program, with its tuning taken off: blocks of one fixed size."""

    def __init__(self, name: str, source: str, folder: Path, device: str) -> None:
        self.grid_type = re.search(r"'grid_type': '(\w+)'", source)[1]
        path = folder / f"{name}.py"  # Triton reads the source of a kernel from its file
        path.write_text(
            re.sub(r"^@triton_heuristics.*?(?=^@triton\.jit)", "", source, flags=re.M | re.S)
        )
        module = types.ModuleType(name)
        exec(
            compile(
                path.read_text().replace("triton_helpers.set_driver_to_gpu()", ""), path, "exec"
            ),
            vars(module),
        )
        if device == "cpu":
            module.libdevice = NearestInteger
        self.function = vars(module)[name]
        self.blocks = re.findall(
            r"(\w+) ?: tl\.constexpr", re.search(r"def triton_\w+\((.*)\)", source)[1]
        )

    def run(self, *arguments, stream) -> None:
        sizes = [value for value in arguments if isinstance(value, int)]
        if self.grid_type == "Grid2D":
            blocks = {"XBLOCK": 64, "YBLOCK": 16}
            grid = (triton.cdiv(sizes[1], 64), triton.cdiv(sizes[0], 16))
        elif self.grid_type == "Grid1D":
            blocks = dict.fromkeys(self.blocks, 256)
            grid = (triton.cdiv(sizes[0], blocks.get("XBLOCK", 1)),)
        else:
            raise NotImplementedError(self.grid_type)
        self.function[grid](*arguments, **blocks)


def execute(given: dict, folder: Path, device: str) -> tuple[torch.Tensor, int]:
    """Give the output of the program, and how many Triton kernels were launched."""
    program, launched = given["program"], []
    for pattern, replacement in WITHOUT_XPU:
        program = re.sub(pattern, replacement, program, flags=re.M)
    constants = {name: value.to(device) for name, value in given["constants"].items()}
    weights = {id(constants[name]): scales for name, scales in given["inputs_of"].items()}

    def int8_call(operator: str, overload: str, *arguments):
        schema = getattr(getattr(torch.ops.onednn, operator), overload)._schema
        call = rename_arguments([argument.name for argument in schema.arguments], arguments)
        call["x_scale"], call["x_zero_point"] = weights[id(call["qw"])]
        output = exact_int8(**call)
        if output.dim() == 4:
            output = output.contiguous(memory_format=torch.channels_last)
        if "qaccum" in call and call["qaccum"].dtype == output.dtype:
            call["qaccum"].copy_(output)  # sum overwrites what it adds
        return output

    class Kernels:
        def triton(self, name, source, **settings):
            kernel = Kernel(name, source, folder, device)
            return types.SimpleNamespace(
                run=lambda *arguments, stream: (
                    launched.append(name),
                    kernel.run(*arguments, stream=stream),
                )
            )

        def wait(self, names):
            pass

    module = types.ModuleType("program")
    vars(module).update(async_compile=Kernels(), int8_call=int8_call)
    vars(module)["empty_strided_xpu"] = lambda size, stride, dtype: torch.empty_strided(
        size, stride, dtype=dtype, device=device
    )
    exec(compile(program, "program", "exec"), vars(module))
    vars(module).update(constants)  # the program names them None
    [output] = module.call([value.to(device) for value in given["inputs"]])
    return output.cpu(), len(launched)


if __name__ == "__main__":
    path, device = Path(sys.argv[1]), sys.argv[2]
    torch.save(execute(torch.load(path), path.parent, device), path.with_suffix(".out"))
