"""cosign and CtxPack take each other's statements, from every kind of registry, and both refuse what was changed."""

from __future__ import annotations

import base64
import json
import subprocess
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, load_pem_private_key
from forks import ForkedMachine, Forks

import goprograms
from ctxpack_identity import CtxUri, IntegrityError, digest_of
from ctxpack_oci import (
    IMAGE_MANIFEST_MEDIA_TYPE,
    ImageManifest,
    describe,
    encode_image_manifest,
    open_target,
    parse_location,
)
from ctxpack_pantry.claims import FoundClaim, ListedClaims, fetch_claims, list_claims, publish_claim
from ctxpack_trust import (
    Claim,
    Dependency,
    OutputRoot,
    PrivateKey,
    PublicKey,
    Tool,
    encode_claim,
    generate_key,
    parse_public_key,
    read_claim,
    sign_claim,
    verified_payload,
)
from registries import KINDS, serving
from registry2 import RegistryServer
from sandbox import private_environment

PASSWORD = "of the tests"
URI = CtxUri("ctx://sha256:" + "ab" * 32)
WRONG = f"ctx://sha256:{'ba' * 32}"
NOW = "2026-01-01T00:00:00Z"
EMPTY = describe(b"{}", "application/vnd.oci.empty.v1+json")
STOPPED = "http://127.0.0.1:1"  # nothing listens there
ALGORITHMS = ("ecdsa-p256", "ed25519")
ATTESTATION = ("verify-attestation", "--type", "slsaprovenance1")

CONTRACT = {
    "command": ["sh", "-c", "mkdir -p out && echo made > out/a.txt"],
    "inputs": [],
    "transforms": [{"tool": "maker", "tool_version": "1", "code_hash": "opaque", "environment_hash": "undeclared"}],
    "outputs": [{"path": "./out"}],
}


class Cosign:
    """cosign, in a home of its own, where it reaches nothing but registries on loopback."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self._program = goprograms.obtain("cosign")
        closed = dict.fromkeys(("HTTPS_PROXY", "HTTP_PROXY", "https_proxy", "http_proxy"), STOPPED)
        self._environment = private_environment(home) | closed | {"COSIGN_PASSWORD": PASSWORD}

    def __call__(self, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
        command = [self._program, *arguments]
        return subprocess.run(
            command, env=self._environment, cwd=self.home, capture_output=True, text=True, timeout=120, check=False
        )

    def accepts(self, image: str, key: PublicKey, *arguments: str, command: Sequence[str] = ("verify",)) -> bool:
        """Whether cosign verifies image with key, without a transparency log."""
        file = self.home / f"{key.key_id}.pub"
        file.write_bytes(key.as_pem())
        options = ["--key", str(file), "--insecure-ignore-tlog=true", "--allow-http-registry=true"]
        done = self(*command, *options, *arguments, image)
        assert done.returncode == 0 or "rror" in done.stderr, done.stderr
        return done.returncode == 0

    def key(self, key: PrivateKey) -> Path:
        """Return the file of key in the format of cosign."""
        prefix = key.public.key_id[:16]
        file = self.home / f"{prefix}.key"
        if file.exists():
            return file
        opened = load_pem_private_key(key.as_pem(b"x"), b"x")
        plain = self.home / "plain.pem"
        plain.write_bytes(opened.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
        done = self("import-key-pair", "--key", plain, "--output-key-prefix", prefix)
        assert done.returncode == 0, done.stderr
        assert parse_public_key((self.home / f"{prefix}.pub").read_bytes(), where="cosign") == key.public
        return file

    def attest(self, image: str, key: Path, predicate: Path) -> None:
        """Let cosign make, sign and attach a statement about image."""
        options = ("--type", "slsaprovenance1", "--allow-http-registry=true")
        self._sign("attest", *options, "--key", key, "--predicate", predicate, image)

    def bundle(self, statement: Path, key: Path) -> bytes:
        """Return the bundle of a statement that cosign signs."""
        self._sign("attest-blob", "--key", key, "--statement", statement, "--bundle", "signed.json")
        return (self.home / "signed.json").read_bytes()

    def consent(self, image: str, key: Path) -> None:
        """Let cosign sign image."""
        self._sign("sign", "--allow-http-registry=true", "--key", key, image)

    def _sign(self, command: str, *arguments: str | Path) -> None:
        done = self(command, "--yes", "--use-signing-config=false", "--tlog-upload=false", *arguments)
        assert done.returncode == 0, done.stderr


class Published(NamedTuple):
    """A signed pack in a repository. key: of its only claim."""

    location: str
    uri: CtxUri
    key: PublicKey

    @property
    def tag(self) -> str:
        return f"ctx-{self.uri[-64:]}"

    @property
    def image(self) -> str:
        return f"{self.location}:{self.tag}"


@pytest.fixture(scope="module")
def cosign(tmp_path_factory: pytest.TempPathFactory) -> Cosign:
    return Cosign(tmp_path_factory.mktemp("cosign"))


@pytest.fixture(scope="module", params=KINDS)
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RegistryServer]:
    """A registry of each kind, in turn."""
    with serving(request.param, tmp_path_factory.mktemp(request.param)) as started:
        yield started


@pytest.fixture(scope="module")
def scratch(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RegistryServer]:
    """A registry in memory, for what does not depend on the kind."""
    with serving("ggcr", tmp_path_factory.mktemp("scratch")) as started:
        yield started


@pytest.fixture(scope="module")
def signed(server: RegistryServer, tmp_path_factory: pytest.TempPathFactory, forks: Forks) -> Published:
    """A pack that was made, pushed and signed with the command line."""
    location = f"{server.address}/team/packs"
    machine = ForkedMachine(
        forks, tmp_path_factory.mktemp("maker") / "it", location, {"CTXPACK_KEY_PASSWORD": PASSWORD}
    )
    (machine.work / "contract.json").write_text(json.dumps(CONTRACT))
    machine.succeed("keygen", "ci")
    machine.succeed("run")
    uri = machine.succeed("id").strip()
    machine.succeed("push", uri, "--sign", "--key", "ci.key")
    return Published(location, CtxUri(uri), parse_public_key((machine.work / "ci.pub").read_bytes(), where="ci.pub"))


@pytest.fixture(scope="module")
def key() -> PrivateKey:
    return generate_key()


@pytest.fixture(scope="module")
def stranger() -> PrivateKey:
    return generate_key()


class Place:
    """A repository with one image manifest, which claims are about."""

    def __init__(self, location: str, number: int = 0) -> None:
        self.location = location
        data = encode_image_manifest(ImageManifest(config=EMPTY, layers=(), annotations={"n": str(number)}))
        self.image = describe(data, IMAGE_MANIFEST_MEDIA_TYPE)
        self.target = open_target(parse_location(location))
        self.target.push(EMPTY, b"{}")
        self.target.push(self.image, data)
        self.target.tag(self.image, f"pack-{number}")

    @property
    def reference(self) -> str:
        return f"{self.location}@{self.image.digest}"

    def claim(self, **changes: Any) -> Claim:
        some = digest_of(b"some")
        claim = Claim(
            kind="run",
            uri=URI,
            image=self.image.digest,
            outputs=some,
            roots=(OutputRoot("out", "folder"),),
            pack=some,
            tools=(Tool("t", "1", '{"a":1}'),),
            dependencies=(Dependency("inputs/src", some),),
            version="0.1.0",
            finished=NOW,
            invocation="1",
        )
        return claim._replace(**changes)

    def publish(self, bundle: bytes, key: PublicKey) -> None:
        publish_claim(self.target, self.image, bundle, key, created=NOW)

    def sign(self, key: PrivateKey) -> None:
        self.publish(sign_claim(self.claim(), key), key.public)

    def signers(self, keys: Sequence[PublicKey]) -> int:
        """How many of keys have a right claim, by the tag of each."""
        return len(
            {
                one.key_id
                for one in keys
                for found in fetch_claims(self.target, self.image.digest, [one])
                if self.reads(found, one)
            }
        )

    def reads(self, found: FoundClaim, key: PublicKey) -> bool:
        try:
            read_claim(found.bundle, key, image=self.image.digest, uri=URI)
        except IntegrityError:
            return False
        return True


@pytest.fixture
def place(scratch: RegistryServer, request: pytest.FixtureRequest) -> Iterator[Place]:
    """A repository of its own for each test."""
    place = Place(f"{scratch.address}/t/{digest_of(request.node.name.encode())[7:30]}")
    with closing(place.target):
        yield place


# -- cosign takes ours ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", [("verify",), ATTESTATION])
def test_cosign_accepts_a_claim_offline(signed: Published, cosign: Cosign, command: Sequence[str]) -> None:
    assert cosign.accepts(signed.image, signed.key, command=command)


def test_cosign_compares_the_contract(signed: Published, cosign: Cosign) -> None:
    assert cosign.accepts(signed.image, signed.key, "-a", f"contract={signed.uri}")
    assert not cosign.accepts(signed.image, signed.key, "-a", f"contract={WRONG}")


def test_cosign_refuses_another_key_and_another_kind_of_statement(
    signed: Published, cosign: Cosign, stranger: PrivateKey
) -> None:
    assert not cosign.accepts(signed.image, stranger.public)
    assert not cosign.accepts(signed.image, stranger.public, command=ATTESTATION)
    other = ("verify-attestation", "--type", "spdx")
    assert not cosign.accepts(signed.image, signed.key, command=other)


@pytest.mark.parametrize("command", [("verify",), ATTESTATION])
def test_cosign_accepts_ed25519(server: RegistryServer, cosign: Cosign, command: Sequence[str]) -> None:
    key = generate_key("ed25519")
    place = Place(f"{server.address}/team/{command[0]}")
    with closing(place.target):
        place.sign(key)
        assert place.signers([key.public]) == 1
        assert cosign.accepts(place.reference, key.public, command=command)


def test_a_pack_without_a_claim_is_refused_by_both(server: RegistryServer, cosign: Cosign, key: PrivateKey) -> None:
    place = Place(f"{server.address}/team/unsigned")
    with closing(place.target):
        assert not cosign.accepts(place.reference, key.public)
        assert list_claims(place.target, place.image.digest) == ListedClaims((), ())
        assert fetch_claims(place.target, place.image.digest, [key.public]) == []


# -- copies by oras ---------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def having(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RegistryServer]:
    """A registry with the referrers API, for copies."""
    with serving("ggcr-referrers", tmp_path_factory.mktemp("having")) as started:
        yield started


@pytest.fixture(scope="module")
def lacking(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RegistryServer]:
    """A registry without the referrers API, for copies."""
    with serving("registry3", tmp_path_factory.mktemp("lacking")) as started:
        yield started


def oras_copy(*arguments: str) -> None:
    done = subprocess.run(
        [goprograms.obtain("oras"), "cp", "--recursive", *arguments], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_copies_by_oras_verify(
    signed: Published, having: RegistryServer, lacking: RegistryServer, cosign: Cosign, tmp_path: Path
) -> None:
    """From a registry of each kind to one with the API, on to a layout, and on to one without the API."""
    name = f"copies/{signed.location.partition(':')[2].replace('/', '-')}"
    first, layout, last = f"{having.address}/{name}", str(tmp_path / "layout"), f"{lacking.address}/{name}"
    oras_copy("--from-plain-http", "--to-plain-http", signed.image, f"{first}:{signed.tag}")
    oras_copy("--from-plain-http", "--to-oci-layout", f"{first}:{signed.tag}", f"{layout}:{signed.tag}")
    oras_copy("--from-oci-layout", "--to-plain-http", f"{layout}:{signed.tag}", f"{last}:{signed.tag}")
    for location in (first, last):
        assert cosign.accepts(f"{location}:{signed.tag}", signed.key, "-a", f"contract={signed.uri}")
        assert cosign.accepts(f"{location}:{signed.tag}", signed.key, command=ATTESTATION)
    for location in (first, f"oci:{layout}", last):
        [claim] = claims_in(location, signed)
        assert (claim.kind, claim.uri) == ("run", signed.uri)


@pytest.mark.parametrize("kind", ["a layout", "a registry"])
def test_a_copy_by_oras_is_admitted_where_its_signer_is_trusted(
    signed: Published, lacking: RegistryServer, tmp_path: Path, kind: str, forks: Forks
) -> None:
    """The copy lacks the tag of the signer, so the claim is found as a referrer."""
    if kind == "a layout":
        copy = f"oci:{tmp_path / 'layout'}"
        oras_copy("--from-plain-http", "--to-oci-layout", signed.image, f"{tmp_path / 'layout'}:{signed.tag}")
    else:
        copy = f"{lacking.address}/strict/{signed.location.partition(':')[2].replace('/', '-')}"
        oras_copy("--from-plain-http", "--to-plain-http", signed.image, f"{copy}:{signed.tag}")
    user = ForkedMachine(forks, tmp_path / "user", copy, {"CTXPACK_TRUST": "signed"})
    assert user.run("pull", signed.uri).status == 7
    (user.work / "ci.pub").write_bytes(signed.key.as_pem())
    user.succeed("trust", "add", "ci.pub", "--owner", "ci")
    user.succeed("pull", signed.uri)


def claims_in(location: str, signed: Published) -> list[Claim]:
    """Return the claims by the key of signed among the referrers at location."""
    with closing(open_target(parse_location(location))) as target:
        tagged = target.fetch_tag(signed.tag)
        assert tagged is not None
        image = tagged.descriptor.digest
        listed = list_claims(target, image)
        assert not listed.skipped
        return [read_claim(found.bundle, signed.key, image=image, uri=signed.uri) for found in listed.found]


# -- we take what cosign made -----------------------------------------------------------------------------------------


def written(path: Path, value: object) -> Path:
    path.write_text(json.dumps(value))
    return path


def bundle_of(place: Place) -> bytes:
    """Return the bundle of the only claim about place."""
    listed = list_claims(place.target, place.image.digest)
    assert not listed.skipped
    [found] = listed.found
    return found.bundle


@pytest.mark.parametrize("whole", [False, True])
def test_a_statement_that_cosign_made_is_read(
    place: Place, cosign: Cosign, key: PrivateKey, stranger: PrivateKey, tmp_path: Path, whole: bool
) -> None:
    """Of our predicate, which cosign attaches itself; or of the whole statement, which it only signs."""
    statement = json.loads(encode_claim(place.claim()))
    if whole:
        place.publish(cosign.bundle(written(tmp_path / "s.json", statement), cosign.key(key)), key.public)
    else:
        cosign.attest(place.reference, cosign.key(key), written(tmp_path / "p.json", statement["predicate"]))
    bundle = bundle_of(place)
    assert read_claim(bundle, key.public, image=place.image.digest, uri=URI) == place.claim()
    assert cosign.accepts(place.reference, key.public, command=ATTESTATION)
    with pytest.raises(IntegrityError, match="signed by another key"):
        read_claim(bundle, stranger.public, image=place.image.digest)
    with pytest.raises(IntegrityError):
        read_claim(bundle, key.public, image=digest_of(b"another image manifest"), uri=URI)
    with pytest.raises(IntegrityError):
        read_claim(bundle, key.public, image=place.image.digest, uri=CtxUri(WRONG))


def test_what_cosign_signs_as_consent_to_an_image_is_no_claim(place: Place, cosign: Cosign, key: PrivateKey) -> None:
    cosign.consent(place.reference, cosign.key(key))
    bundle = bundle_of(place)
    verified_payload(bundle, key.public)
    with pytest.raises(IntegrityError) as caught:
        read_claim(bundle, key.public, image=place.image.digest)
    assert caught.value.code == "E_CLAIM"


def test_ed25519_of_cosign_is_another_signature(place: Place, cosign: Cosign, tmp_path: Path) -> None:
    """cosign verifies Ed25519 and Ed25519ph; it signs with the latter, which claims do not have."""
    key = generate_key("ed25519")
    predicate = json.loads(encode_claim(place.claim()))["predicate"]
    cosign.attest(place.reference, cosign.key(key), written(tmp_path / "p.json", predicate))
    with pytest.raises(IntegrityError) as caught:
        verified_payload(bundle_of(place), key.public)
    assert caught.value.code == "E_SIGNATURE"


# -- both refuse what was changed -------------------------------------------------------------------------------------


class Forger:
    """Changes of a right bundle by somebody without its key."""

    def __init__(self, place: Place, key: PrivateKey, stranger: PrivateKey) -> None:
        self.place, self.key, self.stranger = place, key, stranger
        self.right = sign_claim(place.claim(), key)

    def with_envelope(self, **members: object) -> bytes:
        bundle = json.loads(self.right)
        bundle["dsseEnvelope"].update(members)
        return json.dumps(bundle).encode()

    def with_statement(self, change: Callable[[dict[str, Any]], object]) -> bytes:
        statement = json.loads(encode_claim(self.place.claim()))
        change(statement)
        return self.with_payload(json.dumps(statement, separators=(",", ":"), sort_keys=True).encode())

    def with_payload(self, payload: bytes) -> bytes:
        return self.with_envelope(payload=base64.b64encode(payload).decode())

    def with_signature(self, signature: bytes) -> bytes:
        return self.with_envelope(signatures=[{"sig": base64.b64encode(signature).decode()}])

    def signature_of(self, bundle: bytes) -> bytes:
        return base64.b64decode(json.loads(bundle)["dsseEnvelope"]["signatures"][0]["sig"])


def _flipped(data: bytes, at: int) -> bytes:
    return data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]


FORGERIES: dict[str, Callable[[Forger], bytes]] = {
    "another subject, its signature": lambda it: sign_claim(it.place.claim(image=digest_of(b"another")), it.key),
    "the subject replaced": lambda it: it.with_payload(
        encode_claim(it.place.claim(image=digest_of(b"another"))).replace(
            digest_of(b"another")[7:].encode(), it.place.image.digest[7:].encode()
        )
        + b" "
    ),
    "a second subject": lambda it: it.with_statement(
        lambda statement: statement["subject"].append(statement["subject"][0])
    ),
    "the contract in the subject": lambda it: it.with_statement(
        lambda statement: statement["subject"][0]["annotations"].update(contract=WRONG)
    ),
    "another contract": lambda it: it.with_payload(encode_claim(it.place.claim(uri=CtxUri(WRONG)))),
    "another kind of claim": lambda it: it.with_payload(encode_claim(it.place.claim(kind="rebuild"))),
    "other outputs": lambda it: it.with_payload(encode_claim(it.place.claim(outputs=digest_of(b"other")))),
    "another predicate type": lambda it: it.with_statement(
        lambda statement: statement.update(predicateType="https://slsa.dev/provenance/v0.2")
    ),
    "one member less": lambda it: it.with_statement(lambda statement: statement["predicate"].pop("runDetails")),
    "the signature of a stranger, the hint of the key": lambda it: it.with_signature(
        it.signature_of(sign_claim(it.place.claim(), it.stranger))
    ),
    "the bundle of a stranger": lambda it: sign_claim(it.place.claim(), it.stranger),
    "the signature of another claim": lambda it: it.with_signature(
        it.signature_of(sign_claim(it.place.claim(finished="2026-01-02T00:00:00Z"), it.key))
    ),
    "the last bit of the signature": lambda it: it.with_signature(_flipped(it.signature_of(it.right), -1)[:-1] + b"\0"),
    "no signature": lambda it: it.with_envelope(signatures=[]),
    "an empty signature": lambda it: it.with_signature(b""),
    "the first byte of the payload": lambda it: it.with_payload(_flipped(encode_claim(it.place.claim()), 0)),
    "a byte in the middle of the payload": lambda it: it.with_payload(_flipped(encode_claim(it.place.claim()), 300)),
    "a space after the payload": lambda it: it.with_payload(encode_claim(it.place.claim()) + b" "),
    "an empty payload": lambda it: it.with_payload(b""),
    "another type of payload": lambda it: it.with_envelope(payloadType="application/json"),
    "an unknown member": lambda it: it.right[:-1] + b',"more":1}',
    "half of the bundle": lambda it: it.right[: len(it.right) // 2],
}


@pytest.mark.parametrize("forgery", FORGERIES)
def test_both_refuse_what_was_changed(
    place: Place, cosign: Cosign, key: PrivateKey, stranger: PrivateKey, forgery: str
) -> None:
    bundle = FORGERIES[forgery](Forger(place, key, stranger))
    place.publish(bundle, key.public)
    assert place.signers([key.public]) == 0
    assert not cosign.accepts(place.reference, key.public)
    assert not cosign.accepts(place.reference, key.public, command=ATTESTATION)


def test_both_accept_what_was_not_changed(place: Place, cosign: Cosign, key: PrivateKey, stranger: PrivateKey) -> None:
    place.publish(Forger(place, key, stranger).right, key.public)
    assert place.signers([key.public]) == 1
    assert cosign.accepts(place.reference, key.public, "-a", f"contract={URI}")
    assert cosign.accepts(place.reference, key.public, command=ATTESTATION)


def test_a_right_claim_counts_beside_forged_ones(
    place: Place, cosign: Cosign, key: PrivateKey, stranger: PrivateKey
) -> None:
    forger = Forger(place, key, stranger)
    for name in ("another contract", "half of the bundle", "an unknown member"):
        place.publish(FORGERIES[name](forger), stranger.public)
    place.sign(key)
    assert place.signers([key.public, stranger.public]) == 1
    assert cosign.accepts(place.reference, key.public, command=ATTESTATION)


# -- many signers, and what a garbage collection leaves ---------------------------------------------------------------


def test_eight_signers_at_once_are_all_kept(server: RegistryServer, cosign: Cosign) -> None:
    place = Place(f"{server.address}/team/crowd")
    keys = [generate_key(ALGORITHMS[number % 2]) for number in range(8)]

    def sign(key: PrivateKey) -> None:
        own = Place(place.location)
        with closing(own.target):
            own.sign(key)

    with closing(place.target):
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(sign, keys))
        assert place.signers([key.public for key in keys]) == 8
        listed = list_claims(place.target, place.image.digest)
        assert not listed.skipped
        by_all = [key for key in keys if any(place.reads(found, key.public) for found in listed.found)]
        assert len(by_all) == len(listed.found)
        for key in by_all[:2]:
            assert cosign.accepts(place.reference, key.public)


@pytest.mark.parametrize("kind", ["registry2", "registry3"])
def test_claims_outlive_a_garbage_collection_and_others_join_them(
    kind: str, cosign: Cosign, tmp_path: Path, stranger: PrivateKey
) -> None:
    """registry:2 deletes what no tag names, such as a statement by cosign, and leaves its entry among the referrers."""
    keys = [generate_key() for _ in range(3)]
    with serving(kind, tmp_path / "registry") as server:
        place = Place(f"{server.address}/team/collected")
        with closing(place.target):
            predicate = written(tmp_path / "p.json", {"buildDefinition": {}})
            cosign.attest(place.reference, cosign.key(stranger), predicate)
            for key in keys[:2]:
                place.sign(key)
            assert len(place.target.referrers(place.image.digest) or ()) == 3
            server.collect_garbage()
            kept = [place.target.exists(one) for one in place.target.referrers(place.image.digest) or ()]
            assert kept.count(False) == (1 if kind == "registry2" else 0)
            place.sign(keys[2])
            assert place.signers([key.public for key in keys]) == 3
            listed = list_claims(place.target, place.image.digest)
            assert (len(listed.found), listed.skipped) == (3 if kind == "registry2" else 4, ())
            for key in keys:
                assert cosign.accepts(place.reference, key.public)
