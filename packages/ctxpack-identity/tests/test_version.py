"""The version of an object, in the spelling of each library."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from ctxpack_identity.hashing.urls.version import is_certain, is_same, shown_version, version_of

NOON = datetime(2026, 11, 22, 12, 0, 0, 250000, tzinfo=UTC)


@pytest.mark.parametrize(
    ("info", "version", "certain"),
    [
        ({"ETag": '"9f"', "VersionId": None, "size": 1}, (("etag", '"9f"'),), True),  # S3
        ({"ETag": '"9f"', "VersionId": "null"}, (("etag", '"9f"'),), True),  # S3, a bucket without versions
        ({"etag": "CJ", "generation": "17"}, (("etag", "CJ"), ("generation", "17")), True),  # Google
        ({"blob_id": "e69d", "lfs": None}, (("blobid", "e69d"),), True),  # Hugging Face
        ({"version_id": "2026"}, (("versionid", "2026"),), True),  # Azure
        ({"ETag": 'W/"9f"'}, (("weaketag", 'W/"9f"'),), False),
        ({"LastModified": NOON}, (("lastmodified", "1795348800"),), False),
        ({"mtime": NOON.timestamp()}, (("mtime", "1795348800"),), False),
        ({"Last-Modified": "Sun, 22 Nov"}, (("lastmodified", "Sun, 22 Nov"),), False),
        ({"ETag": "", "mimetype": "text/html", "url": "http://host/sha"}, (), False),
    ],
)
def test_only_values_that_always_change_with_the_content_are_certain(
    info: dict[str, Any], version: tuple[tuple[str, str], ...], certain: bool
) -> None:
    assert (version_of(info), is_certain(version_of(info))) == (version, certain)


@pytest.mark.parametrize(
    ("before", "after", "same"),
    [
        ({"ETag": "1"}, {"ETag": "1"}, True),
        ({"ETag": "1"}, {"ETag": "2"}, False),
        ({"ETag": "1", "LastModified": 5}, {"ETag": "1", "LastModified": 6}, True),
        ({"ETag": "1"}, {"ETag": "1", "VersionId": "x"}, True),
        ({"ETag": "1", "LastModified": 5}, {"LastModified": 6}, False),
        ({"created": NOON}, {"created": NOON.timestamp()}, True),
        ({"ETag": 'W/"1"'}, {"ETag": 'W/"2"'}, False),
        ({"mtime": 1}, {}, True),
        ({}, {}, True),
    ],
)
def test_values_that_are_in_both_versions_are_compared(
    before: dict[str, Any], after: dict[str, Any], same: bool
) -> None:
    assert is_same(version_of(before), version_of(after)) is same


def test_a_version_is_shown_in_words() -> None:
    assert shown_version((("etag", '"9f"'), ("generation", "1"))) == 'etag "9f", generation 1'
    assert shown_version(()) == "no version"
