"""The contract file that `ctxpack init` writes."""

from __future__ import annotations

import os

__all__ = ["contract_template"]

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


def contract_template(folder: str) -> str:
    """Return a contract file to fill in. A lock file in folder is its environment: an upgrade then changes the URI."""
    found = next((name for name in _LOCK_FILES if os.path.isfile(os.path.join(folder, name))), None)
    environment = f'\n      "environment": {{"path": "./{found}"}},' if found else ""
    return _TEMPLATE.format(environment=environment)
