"""Makers: what makes the outputs of a contract on a miss, a command or a function of this process.

This module imports little, because hits load it.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence

from ctxpack_identity.errors import InvalidInput
from ctxpack_identity.lighttyping import TYPE_CHECKING, NamedTuple, Protocol

if TYPE_CHECKING:
    from pathlib import Path

    from ctxpack_pantry.context import Context
    from ctxpack_pantry.contractfile import LoadedContractFile
    from ctxpack_pantry.execution import Ended
    from ctxpack_pantry.identified import Identified

__all__ = ["CommandMaker", "FunctionMaker", "Maker", "Order"]


class Order(NamedTuple):
    """What is to be made. places: of the outputs, by name; nothing is there, and the folders above them are.

    keep_open: descriptors of the locks of the places, for a process that may outlive this one.
    """

    context: Context
    contract_file: LoadedContractFile
    identified: Identified
    places: Mapping[str, str]
    keep_open: Sequence[int]


class Maker(Protocol):
    """Makes the outputs of a contract."""

    @property
    def what(self) -> str:
        """What it is, for messages: one word."""

    def make(self, order: Order) -> Ended:
        """Make the outputs in their places; return how it ended: the pack is made only if the status is 0."""


class CommandMaker(NamedTuple):
    """A command, in a process of its own. shown: whether the pack shows its arguments.

    variables: of its environment, besides those of the contract, which come first.
    """

    command: Sequence[str]
    shown: bool = True
    variables: Mapping[str, str] = {}

    @property
    def what(self) -> str:
        return "command"

    def make(self, order: Order) -> Ended:
        """Run the command, which finds the contract in a file. Raises: as execution.execute does."""
        from ctxpack_pantry.execution import execute, offered_contract

        context, identified, folder = order.context, order.identified, order.contract_file.base
        with offered_contract(context.cache, identified.uri, identified.canonical) as offered:
            variables = {**self.variables, **identified.contract["variables"], **offered}
            ended = execute(self.command, folder, variables, keep_open=order.keep_open, notice=context.notice)
        return ended if self.shown else ended._replace(execution=ended.execution.without_arguments())


class FunctionMaker(NamedTuple):
    """A function, called in this process and thread. call: gets the absolute paths of the outputs, by name.

    name: in provenance, as a command.
    """

    call: Callable[[dict[str, Path]], object]
    name: Sequence[str]

    @property
    def what(self) -> str:
        return "function"

    def make(self, order: Order) -> Ended:
        """Call the function. Raises: as the function does; InvalidInput when a variable has another value here."""
        import time
        from pathlib import Path

        from ctxpack_pantry.execution import Ended
        from ctxpack_pantry.provenance import Execution

        _require_variables(order.identified.contract["variables"], order.contract_file.path)
        began = time.monotonic()
        self.call({name: Path(os.path.abspath(place)) for name, place in order.places.items()})
        ended = time.time_ns()
        return Ended(0, Execution(tuple(self.name), time.monotonic() - began), (), ended)


def _require_variables(variables: Mapping[str, str], where: str) -> None:
    """Raise InvalidInput unless this process has the variables of a contract, with their values."""
    for name, value in variables.items():
        if os.environ.get(name) != value:
            raise InvalidInput(
                f"the function runs in this process, where the environment variable {name} has another value",
                where=f"{where}, /variables",
                expected=repr(value),
                got=repr(os.environ[name]) if name in os.environ else "no value",
                fix=f'start Python with this value, or name the variable without one: "variables": ["{name}"]',
                code="E_VARIABLE",
            )
