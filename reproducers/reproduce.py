"""Run the reproducers, each in a process of its own, and print which failures still happen.

python reproducers/reproduce.py            all of them, on the torch that is installed
python reproducers/reproduce.py 09 11      some, by the start of their names
python reproducers/reproduce.py --record   and keep what they said in recorded.yml
"""

from __future__ import annotations

import argparse
import contextlib
import io
import multiprocessing
import runpy
import sys
import warnings
from pathlib import Path

import yaml

FOLDER = Path(__file__).parent
VERDICTS = {0: "happens", 3: "does not happen", 77: "does not apply"}
PATIENCE = 300  # seconds for one of them
# Imported once, by the process that the others are forked from; what is not there is passed over.
PRELOAD = ["torch._inductor.compile_fx", "torch.ao.quantization.quantize_pt2e", "torchvision"]
PRELOAD += [
    f"{home}.quantizer.{kind}_inductor_quantizer"
    for home in ("torchao.quantization.pt2e", "torch.ao.quantization")
    for kind in ("x86", "xpu")
]


def run_one(path: Path) -> dict[str, str]:
    """Run one reproducer in this process: its verdict, and what it said."""
    warnings.simplefilter("ignore")
    text, code = io.StringIO(), None
    try:
        with contextlib.redirect_stdout(text):
            runpy.run_path(str(path), run_name="__main__")
    except SystemExit as end:
        code = end.code
    except Exception as error:  # whatever it raises; it is named, and the others still run
        return {"verdict": "broken", "said": f"{type(error).__name__}: {error}"}
    return {"verdict": VERDICTS.get(code, "broken"), "said": text.getvalue().strip()}


def run_all(paths: list[Path]) -> dict[str, dict[str, str]]:
    """Run reproducers one after the other, and print each as it ends; results by name."""
    methods = multiprocessing.get_all_start_methods()
    context = multiprocessing.get_context("forkserver" if "forkserver" in methods else "spawn")
    context.set_forkserver_preload(PRELOAD)
    results = {}
    with context.Pool(1, maxtasksperchild=1) as pool:
        running = {path.stem: pool.apply_async(run_one, (path,)) for path in paths}
        for name, run in running.items():
            results[name] = run.get(PATIENCE)
            print(f"{name}: {results[name]['verdict']}: {results[name]['said']}", flush=True)
    return results


def record(results: dict[str, dict[str, str]], path: Path) -> None:
    """Keep results beside those of other versions of torch; the file is replaced as a whole."""
    from xpuqlib.machine import versions

    kept = yaml.safe_load(path.read_text(encoding="utf-8")) if path.exists() else {}
    here = {name: version for name, version in versions().items() if version}
    release = ".".join(here["torch"].split(".")[:2])
    runs = kept.get(release, {}).get("runs", {})
    kept[release] = {"versions": here, "runs": runs | results}
    temporary = path.with_suffix(".tmp")
    temporary.write_text(yaml.safe_dump(kept, sort_keys=True, width=100), encoding="utf-8")
    temporary.replace(path)


def main() -> None:
    """Run what is asked for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", help="starts of names, such as 09; all without any")
    parser.add_argument("--record", action="store_true", help="keep verdicts and outputs")
    said = "where --record keeps them; recorded.yml beside this file"
    parser.add_argument("--to", type=Path, default=FOLDER / "recorded.yml", help=said)
    arguments = parser.parse_args()
    paths = [
        x
        for x in sorted(FOLDER.glob("[0-9]*.py"))
        if x.name.startswith(tuple(arguments.names or [""]))
    ]
    if not paths:
        parser.error(f"No reproducer begins with {' or '.join(arguments.names)}. Fix: see {FOLDER}")
    results = run_all(paths)
    if arguments.record:
        record(results, arguments.to)
    sys.exit(any(run["verdict"] == "broken" for run in results.values()))


if __name__ == "__main__":
    main()
