"""What any contract says, also one of a schema that is not known here: what is not there is empty."""

from __future__ import annotations

from collections.abc import Mapping

from ctxpack_identity.lighttyping import Any

__all__ = ["input_digests", "input_names", "output_names", "tools", "transforms"]


def input_names(contract: Mapping[str, Any]) -> list[str]:
    """Return the names of the inputs."""
    inputs = contract.get("inputs")
    return list(inputs) if isinstance(inputs, dict) else []


def input_digests(contract: Mapping[str, Any]) -> dict[str, str | None]:
    """Return what the contract says of each input's digest, by name; None where it says no text."""
    inputs = contract.get("inputs")
    found = inputs.items() if isinstance(inputs, dict) else ()
    digests = {name: item.get("digest") if isinstance(item, dict) else None for name, item in found}
    return {name: digest if isinstance(digest, str) else None for name, digest in digests.items()}


def output_names(contract: Mapping[str, Any]) -> list[str]:
    """Return the names that the roots of a pack must have, in order; none where the contract allows any."""
    found = contract.get("outputs")
    names = _texts(found)
    return names if isinstance(found, list | tuple) and len(names) == len(found) else []


def transforms(contract: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the transforms."""
    found = contract.get("transforms")
    return [item for item in found if isinstance(item, dict)] if isinstance(found, list | tuple) else []


def tools(contract: Mapping[str, Any]) -> list[str]:
    """Return the tools of the transforms, in order."""
    return _texts([transform.get("tool") for transform in transforms(contract)])


def _texts(value: Any) -> list[str]:
    return [item for item in value if isinstance(item, str)] if isinstance(value, list | tuple) else []
