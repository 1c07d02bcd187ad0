"""Write constraints.txt: the newest versions that all requirements resolve to, on Python 3.11 and newer.

    hatch run constraints

The ranges in the packages say what may work; this file says what the tests ran with.
"""

from __future__ import annotations

import subprocess
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent

HEADER = """\
# What the tests run with, on Python 3.11 and newer. Made by `hatch run constraints`; do not edit.
"""

# tools/test.py and the wheel test install these too. hatchling needs editables for editable installs.
BOOTSTRAP = ["hatch>=1.18", "uv", "editables"]


def requirements(root: Path) -> list[str]:
    """Return every requirement on a foreign project that the packages and hatch.toml declare, sorted."""
    found = set(BOOTSTRAP)
    for path in root.glob("packages/*/pyproject.toml"):
        document = tomllib.loads(path.read_text(encoding="utf-8"))
        project = document["project"]
        found.update(document["build-system"]["requires"], project["dependencies"])
        found.update(*project.get("optional-dependencies", {}).values())
    for environment in tomllib.loads((root / "hatch.toml").read_text(encoding="utf-8"))["envs"].values():
        found.update(environment.get("dependencies", []))
    return sorted(one for one in found if not one.startswith("ctxpack-"))


def main() -> int:
    command = ["uv", "pip", "compile", "--universal", "--python-version", "3.11", "--upgrade"]
    command += ["--no-header", "--no-annotate", "--quiet", "-"]
    wanted = "\n".join(requirements(ROOT))
    done = subprocess.run(command, input=wanted, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode == 0:
        (ROOT / "constraints.txt").write_text(HEADER + done.stdout, encoding="utf-8")
    return done.returncode


if __name__ == "__main__":
    sys.exit(main())
