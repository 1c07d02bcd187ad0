"""Inspection: what made a pack and what it holds, without its artifacts."""

from __future__ import annotations

from typing import Any, NamedTuple

from ctxpack_bundle import PackManifest
from ctxpack_identity.contract import OPAQUE, UNDECLARED
from ctxpack_pantry.artifact import Artifact

__all__ = ["Inspection"]


class Inspection(NamedTuple):
    """found_in: the cache's folder of the pack, or the registry. artifact: what the registry has, if asked."""

    manifest: PackManifest
    found_in: str
    artifact: Artifact | None

    @property
    def weaknesses(self) -> tuple[str, ...]:
        """What the contract leaves open, so that the URI names less than one might think."""
        found = []
        for index, transform in enumerate(self.manifest.contract["transforms"]):
            tool = f"transform {index} ({transform['tool']})"
            if transform["code_hash"] == OPAQUE:
                found.append(f"{tool}: code is opaque, so a change of it goes unnoticed")
            if transform["environment_hash"] == UNDECLARED:
                found.append(f"{tool}: no environment declared, so a library upgrade goes unnoticed")
        return tuple(found)

    def as_json(self) -> dict[str, Any]:
        """Return the inspection as one JSON object, schema ctxpack/inspection/v1."""
        manifest, outputs = self.manifest, self.manifest.outputs
        found: dict[str, Any] = {
            "schema": "ctxpack/inspection/v1",
            "uri": manifest.uri,
            "found_in": self.found_in,
            "contract": manifest.contract,
            "outputs": {
                "digest": outputs.digest,
                "files": outputs.files,
                "empty_folders": outputs.empty_folders,
                "size": outputs.size,
                "roots": [{"name": root.name, "type": root.type} for root in outputs.roots],
            },
            "provenance": manifest.provenance,
            "weaknesses": list(self.weaknesses),
        }
        if self.artifact is not None:
            found["artifact"] = {
                "digest": self.artifact.descriptor.digest,
                "chunks": len(self.artifact.chunks),
                "size": self.artifact.transfer_size,
            }
        return found
