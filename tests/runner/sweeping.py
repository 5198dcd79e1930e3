"""What tests of sweeps share: a notebook that leaves a note, and a sweep in its own process."""

import signal
import subprocess
import sys

PARAMETERS = 'n: int = 1\nlog: str = ""  # file that gets a line for each run'
NOTE = "import os, time; open(log, 'a').write(f'{n} {os.getpid()}\\n') if log else None"


def noted(log):
    """Return the runs that started: value of n, and the kernel's process."""
    if not log.exists():
        return []
    return [tuple(map(int, line.split())) for line in log.read_text().splitlines()]


def start(notebook, log, out, *arguments, values="1,2,3,4"):
    return subprocess.Popen(
        [
            sys.executable,
            "-m",
            "xpuqlib",
            "sweep",
            str(notebook),
            f"-plog={log}",
            f"-pn={values}",
            "--out",
            str(out),
            *arguments,
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )


def whole(out):
    return [path.name for path in out.iterdir() if path.name.endswith("partial")] == []
