"""The OCI registry protocol and the OCI image layout, as one Target.

Neither this front nor `parse_location` loads HTTP: `open_target` does, for a registry.
"""

from __future__ import annotations

from ctxpack_identity.lazy import lazy_front
from ctxpack_identity.lighttyping import TYPE_CHECKING

if TYPE_CHECKING:
    from ctxpack_oci.descriptor import MAX_BLOB_BYTES, Descriptor, check_bytes, describe, embedded
    from ctxpack_oci.imagemanifest import (
        IMAGE_MANIFEST_MEDIA_TYPE,
        MAX_IMAGE_MANIFEST_BYTES,
        ImageManifest,
        encode_image_manifest,
        parse_image_manifest,
    )
    from ctxpack_oci.layout import Layout
    from ctxpack_oci.location import LayoutLocation, Location, RegistryLocation, parse_location
    from ctxpack_oci.opening import open_target
    from ctxpack_oci.target import TaggedManifest, Target
else:
    __getattr__, __dir__ = lazy_front(
        __name__,
        {
            "descriptor": "Descriptor MAX_BLOB_BYTES check_bytes describe embedded",
            "imagemanifest": (
                "IMAGE_MANIFEST_MEDIA_TYPE ImageManifest MAX_IMAGE_MANIFEST_BYTES encode_image_manifest "
                "parse_image_manifest"
            ),
            "layout": "Layout",
            "location": "LayoutLocation Location RegistryLocation parse_location",
            "opening": "open_target",
            "target": "TaggedManifest Target",
        },
    )

__all__ = [
    "IMAGE_MANIFEST_MEDIA_TYPE",
    "MAX_BLOB_BYTES",
    "MAX_IMAGE_MANIFEST_BYTES",
    "Descriptor",
    "ImageManifest",
    "Layout",
    "LayoutLocation",
    "Location",
    "RegistryLocation",
    "TaggedManifest",
    "Target",
    "check_bytes",
    "describe",
    "embedded",
    "encode_image_manifest",
    "open_target",
    "parse_image_manifest",
    "parse_location",
]
