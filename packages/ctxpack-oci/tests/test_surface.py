"""The public names, the README, and that HTTP is loaded only for a registry."""

from __future__ import annotations

import doctest
import subprocess
import sys
from pathlib import Path

import ctxpack_oci

README = Path(__file__).parents[1] / "README.md"


def test_the_public_names_are_these() -> None:
    assert ctxpack_oci.__all__ == [
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
    assert all(hasattr(ctxpack_oci, name) for name in ctxpack_oci.__all__)


def test_the_readme_runs() -> None:
    failed, attempted = doctest.testfile(str(README), module_relative=False)
    assert attempted > 8
    assert failed == 0


def test_a_layout_is_used_without_loading_http(tmp_path: Path) -> None:
    script = (
        "import sys; from ctxpack_oci import open_target, parse_location; parse_location('ghcr.io/a/b');"
        f"open_target(parse_location('oci:{tmp_path}')).fetch_tag('x');"
        "print([name for name in ('requests', 'urllib3', 'ssl', 'http.client') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
