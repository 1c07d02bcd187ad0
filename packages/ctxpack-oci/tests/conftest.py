"""Fixtures: the registry double, a clock that does not wait, and a Registry that uses both."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from ctxpack_oci.credentials import Credentials
from ctxpack_oci.location import RegistryLocation, parse_location
from ctxpack_oci.patience import Patience
from ctxpack_oci.registry import Registry
from testmodules import load

if TYPE_CHECKING:
    from registry_double import Clock, RegistryDouble

TESTS = Path(__file__).parent

_double = load(TESTS, "registry_double")


@pytest.fixture
def clock() -> Clock:
    return _double.Clock()  # type: ignore[no-any-return]


@pytest.fixture
def start_double() -> Iterator[Callable[..., RegistryDouble]]:
    """Starts doubles. At the end of a test no double may have a complaint about the client."""
    started: list[RegistryDouble] = []

    def start(*, tls: Path | None = None) -> RegistryDouble:
        started.append(_double.RegistryDouble(tls=tls))
        return started[-1]

    yield start
    for each in started:
        each.close()
    assert [complaint for each in started for complaint in each.complaints] == []


@pytest.fixture
def double(start_double: Callable[..., RegistryDouble]) -> RegistryDouble:
    return start_double()


@pytest.fixture
def other(start_double: Callable[..., RegistryDouble]) -> RegistryDouble:
    """A second server, with another origin."""
    return start_double()


@pytest.fixture
def patience(clock: Clock) -> Patience:
    return Patience(clock=clock, wall_clock=lambda: 1_800_000_000.0, sleep=clock.sleep, jitter=lambda: 1.0, read=5.0)


@pytest.fixture
def open_registry(patience: Patience) -> Iterator[Callable[..., Registry]]:
    opened: list[Registry] = []

    def opener(
        double: RegistryDouble, *, credentials: Credentials | None = None, patience: Patience = patience
    ) -> Registry:
        location = parse_location(f"{double.host}/team/packs")
        assert isinstance(location, RegistryLocation)
        opened.append(Registry(location, credentials=credentials, patience=patience))
        return opened[-1]

    yield opener
    for each in opened:
        each.close()


@pytest.fixture
def registry(double: RegistryDouble, open_registry: Callable[..., Registry]) -> Registry:
    return open_registry(double)


@pytest.fixture
def tls_file() -> Path:
    """Key and self-signed certificate for 127.0.0.1, for these tests only."""
    return TESTS / "tls" / "loopback.pem"
