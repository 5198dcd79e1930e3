"""``python -m xpuqlib`` is ``xpuq``, also where scripts are not on the PATH."""

from xpuqlib.cli import main

main()
