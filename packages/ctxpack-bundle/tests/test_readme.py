"""The example in README.md runs."""

from __future__ import annotations

import doctest
from pathlib import Path


def test_the_example_runs() -> None:
    readme = Path(__file__).parent.with_name("README.md")
    result = doctest.testfile(str(readme), module_relative=False)
    assert result.attempted > 5
    assert result.failed == 0
