"""Secrets: a signer's key and passwords stay in this process. What they are is said once, in ctxpack_identity."""

from __future__ import annotations

from ctxpack_identity.secrets import child_environment, keep_from_children, without_secrets

__all__ = ["child_environment", "keep_from_children", "without_secrets"]
