"""Count what Inductor gives to the C++ compiler; what it finds in its cache never comes here."""

import shlex

from torch._inductor import cpp_builder

__all__ = ["commands"]

commands: list[str] = []
_run_compile_cmd = cpp_builder.run_compile_cmd


def _noted(command: str, cwd: str) -> None:
    if "-E" not in shlex.split(command):  # preprocessing only: a header is looked at for changes
        commands.append(command)
    _run_compile_cmd(command, cwd)


# Dynamo's own list of compile times is emptied by every strict export.
cpp_builder.run_compile_cmd = _noted
