"""CtxPack beside what its users would pick instead: ``python3 tools/bench/run.py``. Standard library only."""
