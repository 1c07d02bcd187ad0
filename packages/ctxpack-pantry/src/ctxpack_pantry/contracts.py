"""Contract files on disk."""

from __future__ import annotations

import os
from typing import NamedTuple

from ctxpack_identity import ContractFile, InvalidInput, LocalFailure, parse_contract_file
from ctxpack_identity.contract import MAX_CONTRACT_BYTES

__all__ = ["LoadedContract", "load_contract"]


class LoadedContract(NamedTuple):
    """A contract and where it was read. base: the folder its relative paths start from, "" for the current one."""

    path: str
    base: str
    file: ContractFile

    @property
    def outputs(self) -> list[str]:
        """The declared outputs, as paths on disk."""
        return [os.path.join(self.base, output) for output in self.file.outputs]


def load_contract(path: str) -> LoadedContract:
    """Return the contract in the file at path.

    Raises: InvalidInput when there is no such file or it is not a contract; LocalFailure when it cannot be read.
    """
    try:
        with open(path, "rb") as file:
            data = file.read(2 * MAX_CONTRACT_BYTES)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise InvalidInput(
            "no such contract file", where=path, fix="`ctxpack init` writes one to fill in", code="E_NO_CONTRACT"
        ) from error
    except IsADirectoryError as error:
        raise InvalidInput("a folder, not a contract file", where=path, code="E_NO_CONTRACT") from error
    except OSError as error:
        raise LocalFailure(f"cannot be read: {error.strerror}", where=path) from error
    return LoadedContract(path, os.path.dirname(path), parse_contract_file(data, where=path))
