"""The OCI registry protocol and the OCI image layout, behind one Target.

``Registry`` is not imported here, nor by `parse_location`: HTTP is loaded when a registry is opened.
"""

from __future__ import annotations

from ctxpack_oci.descriptor import MAX_BLOB_BYTES, Descriptor, check_bytes, describe
from ctxpack_oci.layout import Layout
from ctxpack_oci.location import LayoutLocation, Location, RegistryLocation, open_target, parse_location
from ctxpack_oci.manifest import (
    MANIFEST_MEDIA_TYPE,
    MAX_MANIFEST_BYTES,
    Manifest,
    encode_manifest,
    parse_manifest,
)
from ctxpack_oci.target import Target

__all__ = [
    "MANIFEST_MEDIA_TYPE",
    "MAX_BLOB_BYTES",
    "MAX_MANIFEST_BYTES",
    "Descriptor",
    "Layout",
    "LayoutLocation",
    "Location",
    "Manifest",
    "RegistryLocation",
    "Target",
    "check_bytes",
    "describe",
    "encode_manifest",
    "open_target",
    "parse_location",
    "parse_manifest",
]
