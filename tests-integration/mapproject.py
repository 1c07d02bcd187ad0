"""A project whose contract goes over the files of a folder, on a machine of its own; it counts what is really made."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from machine import Finished, Machine
from project import Project

__all__ = ["COMMAND", "ITEM", "MapProject", "counts"]

EACH: dict[str, Any] = {"input": "docs", "output": "{dir}{stem}.out"}
ITEM = 'printf "%s\\n" "$1" >> ran\ntr a-z A-Z < "$1" > "$2"\n'
COMMAND = ["sh", "src/item.sh", "{item}", "{out}"]


class MapProject(Project):
    """in/ (files), src/item.sh (makes an item, and notes it in the file `ran`, which nothing hashes), contract.json.

    files: content of each file in in/, by path; item: of src/item.sh; members: of the contract, besides the usual ones.
    """

    def __init__(
        self,
        machine: Machine,
        files: Mapping[str, str | bytes] = {},
        *,
        item: str = ITEM,
        folder: Path | None = None,
        **members: Any,
    ) -> None:
        super().__init__(machine, folder)
        self.remove("in")
        (self.folder / "in").mkdir()
        self.remove("src/make.sh")
        self.write({f"in/{name}": content for name, content in files.items()} | {"src/item.sh": item})
        self.go_over(**members)

    def go_over(self, each: Mapping[str, Any] = {}, **members: Any) -> None:
        """Write the contract file. each: members of `each` besides the usual ones."""
        self.declare(**({"command": COMMAND} | members | {"each": EACH | dict(each)}))

    def map(self, *arguments: str | Path) -> dict[str, Any]:
        """Run ``ctxpack map``, which must succeed; return its document."""
        done = self.call("map", "--json", *arguments)
        assert done.status == 0, done.stderr
        document: dict[str, Any] = json.loads(done.stdout)
        return document

    def fail(self, *arguments: str | Path, status: int = 1) -> tuple[dict[str, Any], Finished]:
        """Run ``ctxpack map``, in which items must fail; return its document, and how it ended."""
        done = self.call("map", "--json", *arguments)
        assert done.status == status, done.stderr
        return json.loads(done.stdout), done

    def made(self) -> list[str]:
        """Return what was made since the last call: {item} of each command that ran, sorted."""
        ran = self.folder / "ran"
        found = ran.read_text().splitlines() if ran.exists() else []
        ran.unlink(missing_ok=True)
        return sorted(found)

    def made_names(self) -> list[str]:
        """Return what was made since the last call, by paths in the input."""
        return [path.removeprefix("in/") for path in self.made()]

    def made_twice(self) -> list[str]:
        """Return the items in `ran`, which stays, that occur more than once."""
        return sorted(
            name for name, times in Counter((self.folder / "ran").read_text().splitlines()).items() if times > 1
        )

    def outputs(self, folder: str = "out") -> dict[str, bytes | None]:
        """Return the content of each file of the output; None for an empty folder, whose path ends in "/"."""
        root = self.folder / folder
        found: dict[str, bytes | None] = {}
        for path in sorted(root.rglob("*")):
            name = path.relative_to(root).as_posix()
            if path.is_file():
                found[name] = path.read_bytes()
            elif not any(path.iterdir()):
                found[f"{name}/"] = None
        return found

    def digest(self, uri: str) -> str:
        """Return the digest of the outputs of a pack."""
        digest: str = json.loads(self.succeed("inspect", uri, "--json"))["outputs"]["digest"]
        return digest


def counts(document: Mapping[str, Any]) -> dict[str, int]:
    """Return how many items came from where; what is 0 is left out."""
    names = ("finished", "cached", "fetched", "made", "missing")
    return {name: document[name] for name in names if document[name]}
