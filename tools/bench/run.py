"""Benchmarks: CtxPack compared with its alternatives.

    python3 tools/bench/run.py                  # everything at full scale: an hour, and 60 GB of disk
    python3 tools/bench/run.py --quick          # a look
    python3 tools/bench/run.py hash push        # some sections; --help lists them

Needs Python 3.11 or newer, Linux, a registry:2 (tools/registry2.py finds one) and a package index. CtxPack is installed
from this clone, not editable. The peers are fetched; those that cannot be had are listed with the reason. Everything
stays in ``.work/bench``, the results in ``.work/bench/results``.
"""

from __future__ import annotations

import sys
from pathlib import Path

# Instead of the folder of this file, so that its modules are the package `bench`, as in the tests.
sys.path[0] = str(Path(__file__).resolve().parents[1])

from bench.command import main  # noqa: E402  (found by the line above)

if __name__ == "__main__":
    sys.exit(main())
