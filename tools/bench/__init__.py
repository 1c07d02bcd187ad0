"""CtxPack compared with its alternatives: ``python3 tools/bench/run.py``. Standard library only."""
