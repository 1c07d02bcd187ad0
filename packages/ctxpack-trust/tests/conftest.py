"""The samples that several test files share."""

from __future__ import annotations

from pathlib import Path

from testmodules import load

load(Path(__file__).parent, "trust_samples")
