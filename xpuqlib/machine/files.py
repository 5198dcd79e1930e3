"""Files that appear under their name only when they are complete."""

import os
from pathlib import Path

from xpuqlib.errors import RunError, XpuqError, explained

__all__ = ["write_whole"]


def write_whole(
    path: Path,
    content: str | bytes,
    own: type[XpuqError] = RunError,
    fix: str = "Free space, or choose another --out.",
) -> None:
    """Write a file that appears under its name only when it is complete.

    Parameters
    ----------
    path : pathlib.Path
        In a folder that exists. A file that is there is replaced.
    content : str or bytes
        A text is written as UTF-8.
    own : type
        The error to raise.
    fix : str
        What the person can do where it cannot be written.

    Raises
    ------
    XpuqError
        `own`, if the folder cannot be written, or the disk is full.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.partial")
    with explained(OSError, f"{path} cannot be written", fix, own):
        try:
            temporary.write_bytes(content.encode() if isinstance(content, str) else content)
            os.replace(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)
