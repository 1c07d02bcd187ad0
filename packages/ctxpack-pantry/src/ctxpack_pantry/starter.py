"""Init: a contract file to fill in. A lock file of the project is in it already."""

from __future__ import annotations

import os

from ctxpack_identity.disk import local_failure
from ctxpack_identity.errors import InvalidInput
from ctxpack_pantry.results import Initialised

__all__ = ["contract_template", "init"]

_LOCK_FILES = ("uv.lock", "poetry.lock", "pdm.lock", "requirements.txt")

_TEMPLATE = """\
{{
  "inputs": [
    {{"name": "raw_docs", "path": "./raw_docs"}}
  ],
  "transforms": [
    {{
      "tool": "name-of-the-tool",
      "tool_version": "1.0",
      "code": {{"path": "./ingest.py"}},{environment}
      "params": {{}}
    }}
  ],
  "outputs": [
    {{"path": "./processed_data"}}
  ]
}}
"""


def init(path: str) -> Initialised:
    """Write a contract file to fill in. Raises: InvalidInput when path exists; LocalFailure."""
    template = contract_template(os.path.dirname(path) or ".")
    try:
        with open(path, "x", encoding="utf-8") as file:
            file.write(template)
    except FileExistsError as error:
        raise InvalidInput("exists already", where=path, fix="edit it, or name another file") from error
    except OSError as error:
        raise local_failure(error, "cannot be written", path, elsewhere="name another file") from error
    return Initialised(path)


def contract_template(folder: str) -> str:
    """Return a contract file; a lock file found in folder is its environment, so that upgrades are noticed."""
    found = next((name for name in _LOCK_FILES if os.path.isfile(os.path.join(folder, name))), None)
    environment = f'\n      "environment": {{"path": "./{found}"}},' if found else ""
    return _TEMPLATE.format(environment=environment)
