"""The commands. Each is a row of COMMANDS and the module of this package that has its name."""

from __future__ import annotations

TYPE_CHECKING = False  # typing itself takes 4 ms to load
if TYPE_CHECKING:
    import argparse
    from typing import Any, Protocol

    from ctxpack_cli.terminal import Terminal

    class Command(Protocol):
        """What the module of a command defines."""

        def add_arguments(self, parser: argparse.ArgumentParser) -> None:
            """Add the command's arguments to parser, which has the options of all commands already."""

        def act(self, arguments: argparse.Namespace, terminal: Terminal) -> int:
            """Do what arguments ask for, print the result, and return the exit status. Raises: CtxPackError."""


__all__ = ["COMMANDS", "load_command"]

# The help is here, not in the modules: `ctxpack --help` shows all of it and must not load the pantry.
COMMANDS = {
    "init": "write a contract file to fill in",
    "id": "print the URI of a contract; no side effects",
    "seed": "make a pack of outputs, in the cache",
    "push": "copy a pack from the cache to the registry",
    "sign": "sign a pack in the registry: say that its contract gave these outputs",
    "tag": "give a pack in the registry a name, which can be moved",
    "pull": "fetch a pack and print the folder that holds its outputs",
    "export": "write a pack to a file, as an ordinary .tar.gz",
    "inspect": "show what made a pack and what it holds, without fetching it",
    "explain": "show why two contracts or packs differ, or why one is a miss",
    "run": "place the outputs; run COMMAND only if no pack has them yet",
    "lineage": "show what a pack was made from, and what was made from it",
    "map": "make one result of each item; run COMMAND only for items that no pack has yet",
    "ls": "list the packs in the cache, the last used first",
    "verify": "read packs whole, and say who vouches for them; with --rebuild, run the recipe again",
    "trust": "say whose claims count, and what packs need to be used",
    "rm": "remove packs from the cache, and with --registry from the registry",
    "keygen": "make a key to sign claims about packs with: NAME.key and NAME.pub",
    "schema": "print the JSON Schema of contracts and of what --json prints",
}


def load_command(name: str) -> Command:
    """Return the module of the command called name, one of COMMANDS."""
    module: Any = __import__(f"{__name__}.{name}", fromlist=[name])
    return module  # type: ignore[no-any-return]
