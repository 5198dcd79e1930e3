"""Fill the caches before a workshop, and prove with checksums that they are whole."""

from __future__ import annotations

import json
from pathlib import Path

from tqdm import tqdm

from xpuqlib.errors import ModelError
from xpuqlib.machine.environment import cache_dir
from xpuqlib.machine.files import write_whole
from xpuqlib.material.models import check_name, load_model, sha256
from xpuqlib.names import MODELS

__all__ = ["missing", "prefetch"]

MANIFEST = "manifest.json"
KEPT = ("digits", "imagenet")  # weights that take time or a network


def prefetch(models: tuple[str, ...] = MODELS, weights: tuple[str, ...] = ("digits",)) -> Path:
    """Train or download weights into xpuqlib's cache folder, and write a manifest beside them.

    The folder then holds all that the lessons need besides the packages: copy it to machines
    without a network, and set ``XPUQLIB_CACHE`` to it there.

    Parameters
    ----------
    models : tuple of str
        Classification models of torchvision.
    weights : tuple of str
        ``digits``, ``imagenet`` or both.

    Returns
    -------
    pathlib.Path
        The manifest: SHA-256 and size of every file, by its path below the folder.

    Raises
    ------
    ModelError
        If a name is unknown, or weights cannot be downloaded or kept.
    """
    for name in models:
        check_name(name)
    if unknown := set(weights) - set(KEPT):
        raise ModelError(f"Unknown: {', '.join(unknown)}.", f"Use {', '.join(KEPT)}.")
    wanted = [(name, source) for source in weights for name in models]
    for name, source in tqdm(wanted, desc="prefetching", unit="model"):
        load_model(name, source)
    files = {
        path.relative_to(cache_dir()).as_posix(): {
            "sha256": sha256(path),
            "bytes": path.stat().st_size,
        }
        for path in sorted(cache_dir().rglob("*.pt*"))
    }
    fix = "Set XPUQLIB_CACHE to a folder that you may write, and run: xpuq doctor"
    text = json.dumps({"files": files}, indent=2) + "\n"
    write_whole(cache_dir() / MANIFEST, text, ModelError, fix)
    return cache_dir() / MANIFEST


def missing() -> list[str]:
    """Files of the manifest that are gone or damaged.

    Raises
    ------
    ModelError
        If there is no readable manifest.
    """
    path = cache_dir() / MANIFEST
    try:
        known = json.loads(path.read_text(encoding="utf-8"))["files"]
    except (OSError, ValueError, KeyError) as error:
        raise ModelError(f"There is no manifest {path}: {error}", "Run: xpuq prefetch") from error
    files = {name: path.parent / name for name in known}
    return [n for n, f in files.items() if not f.exists() or sha256(f) != known[n]["sha256"]]
