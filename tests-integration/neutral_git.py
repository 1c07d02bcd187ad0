"""Git without any configuration of this user and machine."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

__all__ = ["git"]


def git(root: Path, *arguments: str, question: str = "") -> str:
    """Run git in root, with question as its standard input, and return what it prints."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("GIT_", "XDG_"))}
    environment |= {"GIT_CONFIG_NOSYSTEM": "1", "GIT_CONFIG_GLOBAL": os.devnull, "HOME": str(root)}
    done = subprocess.run(
        ["git", "-C", root, *arguments], input=question.encode(), capture_output=True, env=environment
    )
    assert done.returncode in (0, 1), done.stderr  # 1: check-ignore ignores nothing
    return done.stdout.decode()
