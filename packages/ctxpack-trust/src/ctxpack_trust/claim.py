"""A claim: a signed statement that a contract gave these outputs, in one image manifest. CLAIM.md is normative.

It is an in-toto Statement with SLSA provenance v1, so that others' tools read it. Who reads a claim hands over which
image manifest and URI it must be about; a claim about anything else is none.
"""

from __future__ import annotations

import re

from ctxpack_identity.canonical import canonical_json, parse_json, pointer
from ctxpack_identity.digest import Digest, digest_from_hex, hex_of, parse_digest
from ctxpack_identity.errors import IntegrityError, InvalidInput
from ctxpack_identity.lighttyping import TYPE_CHECKING, Any, NamedTuple
from ctxpack_identity.uri import CtxUri, parse_uri
from ctxpack_trust.bundle import MAX_CLAIM_BYTES, sign_payload, verified_payload

if TYPE_CHECKING:
    from ctxpack_trust.keys import PrivateKey, PublicKey

__all__ = [
    "COUNTING",
    "KINDS",
    "MAX_PARAMS_BYTES",
    "MAX_SOURCES",
    "OWN",
    "PREDICATE_TYPE",
    "Claim",
    "Dependency",
    "OutputRoot",
    "Source",
    "Tool",
    "encode_claim",
    "is_key_id",
    "parse_claim",
    "read_claim",
    "sign_claim",
]

PREDICATE_TYPE = "https://slsa.dev/provenance/v1"
KINDS = ("run", "rebuild", "seed", "vouch")
COUNTING = ("run", "rebuild")  # of these, the signer knows; the others only say so
OWN = "own"  # in place of key ids: the signer's own run, map or seed made it
MAX_SOURCES = 1000
MAX_PARAMS_BYTES = 64 << 10  # larger params of a tool are left out: they are in the contract

_STATEMENT = "https://in-toto.io/Statement/v1"
_OLD_STATEMENT = (
    "https://in-toto.io/Statement/v0.1"  # what `cosign attest` 3.1 writes; its subjects have no annotations
)
_BUILD_TYPE = "https://ctxpack.dev/claim/v1/"
_BUILDER = _BUILD_TYPE + "ctxpack"
_SOURCE = "items"  # the name of each source among the dependencies
_WHERE = "claim"

_is_time = re.compile(r"\A\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ\Z", re.ASCII).match
_is_sha256 = re.compile(r"\A[0-9a-f]{64}\Z").match


class OutputRoot(NamedTuple):
    """One output. type: file or folder."""

    name: str
    type: str


class Dependency(NamedTuple):
    """What went in. name: ``inputs/<name>``, ``code/<i>/<path>`` or ``environment/<i>/<path>``. For display."""

    name: str
    digest: Digest


class Source(NamedTuple):
    """A pack that items were taken from. admitted_by: ids of the keys whose claims admitted it there, or (OWN,)."""

    image: Digest
    admitted_by: tuple[str, ...]


class Tool(NamedTuple):
    """A tool of the contract. params: canonical JSON as text; empty when they are left out. For display."""

    name: str
    version: str
    params: str


class Claim(NamedTuple):
    """What a signer says. kind: how the signer knows, one of KINDS. image: the image manifest it is about.

    outputs: tree digest of the outputs, which roots lists; pack: SHA-256 of ``manifest.json``. version: of ctxpack.
    finished: RFC 3339, UTC, whole seconds. invocation: what names the run, such as a CI job's URL.
    tools, dependencies, version, finished and invocation are for display.
    """

    kind: str
    uri: CtxUri
    image: Digest
    outputs: Digest
    roots: tuple[OutputRoot, ...]
    pack: Digest
    tools: tuple[Tool, ...] = ()
    dependencies: tuple[Dependency, ...] = ()
    sources: tuple[Source, ...] = ()
    version: str = ""
    finished: str = ""
    invocation: str = ""


def encode_claim(claim: Claim) -> bytes:
    """Return the payload of claim: canonical JSON. Params above MAX_PARAMS_BYTES are left out.

    Raises: InvalidInput (E_CLAIM) above MAX_CLAIM_BYTES or MAX_SOURCES, and for what parse_claim would refuse.
    """
    if len(claim.sources) > MAX_SOURCES:
        raise _unwritable("too many sources", f"at most {MAX_SOURCES}", str(len(claim.sources)), _FEWER)
    if claim.finished and not _is_time(claim.finished):
        raise _unwritable("not a time", "YYYY-MM-DDThh:mm:ssZ", repr(claim.finished)[:80])
    if any(dependency.name == _SOURCE for dependency in claim.dependencies):
        raise _unwritable("dependency has the name of sources", "another name", repr(_SOURCE))
    payload = canonical_json(_statement(claim), where=_WHERE)
    if len(payload) > MAX_CLAIM_BYTES:
        raise _unwritable("claim is too large", f"at most {MAX_CLAIM_BYTES} bytes", str(len(payload)), _FEWER)
    try:
        parse_claim(payload, image=claim.image, uri=claim.uri)  # what is written can be read
    except IntegrityError as error:
        raise InvalidInput(
            error.what, where=error.where, expected=error.expected, got=error.got, code="E_CLAIM"
        ) from error
    return payload


def sign_claim(claim: Claim, key: PrivateKey) -> bytes:
    """Return the Sigstore bundle of claim, signed by key. Raises: InvalidInput as encode_claim."""
    return sign_payload(encode_claim(claim), key)


def read_claim(bundle: bytes, key: PublicKey, *, image: Digest, uri: CtxUri | None = None) -> Claim:
    """Return the claim in bundle, which key signed, about image, and about uri if it is given.

    Raises: IntegrityError as verified_payload and parse_claim.
    """
    return parse_claim(verified_payload(bundle, key), image=image, uri=uri)


def parse_claim(payload: bytes, *, image: Digest, uri: CtxUri | None = None) -> Claim:
    """Return the claim that payload is, about image, and about uri if it is given.

    payload: verified before; its JSON need not be canonical. Members of the predicate that are not known are skipped.
    Raises: IntegrityError (E_CLAIM) for anything else, also for a claim about another image manifest or URI.
    """
    if len(payload) > MAX_CLAIM_BYTES:
        raise _fault("", f"at most {MAX_CLAIM_BYTES} bytes", str(len(payload)))
    try:
        return _claim(_Place(parse_json(payload, where=_WHERE), ""), image, uri)
    except InvalidInput as error:  # of the JSON, or of a digest or URI in it
        raise IntegrityError(
            error.what, where=error.where, expected=error.expected, got=error.got, fix=_FIX, code="E_CLAIM"
        ) from error


def is_key_id(text: object) -> bool:
    """Whether text has the form of a key id: 64 lower-case hexadecimal digits."""
    return isinstance(text, str) and _is_sha256(text) is not None


def _statement(claim: Claim) -> dict[str, Any]:
    parameters = {"contract": claim.uri, "tools": [_tool(tool) for tool in claim.tools]}
    outputs = {"digest": claim.outputs, "roots": [{"name": root.name, "type": root.type} for root in claim.roots]}
    metadata = {"finishedOn": claim.finished, "invocationId": claim.invocation}
    builder: dict[str, Any] = {"id": _BUILDER}
    if claim.version:
        builder["version"] = {"ctxpack": claim.version}
    details: dict[str, Any] = {"builder": builder}
    if any(metadata.values()):
        details["metadata"] = {name: value for name, value in metadata.items() if value}
    return {
        "_type": _STATEMENT,
        "predicate": {
            "buildDefinition": {
                "buildType": _BUILD_TYPE + claim.kind,
                "externalParameters": parameters,
                "internalParameters": {"outputs": outputs, "pack": claim.pack},
                "resolvedDependencies": [
                    *({"digest": {"sha256": hex_of(one.digest)}, "name": one.name} for one in claim.dependencies),
                    *(
                        {
                            "annotations": {"admittedBy": list(source.admitted_by)},
                            "digest": {"sha256": hex_of(source.image)},
                            "name": _SOURCE,
                        }
                        for source in claim.sources
                    ),
                ],
            },
            "runDetails": details,
        },
        "predicateType": PREDICATE_TYPE,
        "subject": [
            {"annotations": {"contract": claim.uri}, "digest": {"sha256": hex_of(claim.image)}, "name": "_"},
        ],
    }


def _tool(tool: Tool) -> dict[str, str]:
    members = {"name": tool.name, "version": tool.version}
    if tool.params and len(tool.params.encode(errors="surrogatepass")) <= MAX_PARAMS_BYTES:
        members["params"] = tool.params
    return members


class _Place:
    """A value of the document, and the JSON pointer to it."""

    __slots__ = ("at", "value")

    def __init__(self, value: Any, at: str) -> None:
        self.value, self.at = value, at

    def member(self, name: str) -> _Place:
        """Return a member that must be there."""
        found = self.optional(name)
        if found is None:
            raise _fault(self.at, f"a member {name}", "none")
        return found

    def optional(self, name: str) -> _Place | None:
        if not isinstance(self.value, dict):
            raise _fault(self.at, "an object", self.value)
        return _Place(self.value[name], pointer(self.at, name)) if name in self.value else None

    def only(self, *names: str) -> None:
        """Refuse members that are not named."""
        unknown = sorted(set(self.value) - set(names)) if isinstance(self.value, dict) else []
        if unknown:
            raise _fault(pointer(self.at, unknown[0]), f"only {', '.join(names)}", unknown[0])

    def elements(self) -> list[_Place]:
        if not isinstance(self.value, list):
            raise _fault(self.at, "an array", self.value)
        return [_Place(value, f"{self.at}/{index}") for index, value in enumerate(self.value)]

    def text(self, *allowed: str) -> str:
        if not isinstance(self.value, str) or (allowed and self.value not in allowed):
            raise _fault(self.at, " or ".join(allowed) or "a text", self.value)
        return self.value

    def sha256(self) -> Digest:
        """Return the digest in a digest set of in-toto."""
        digest = self.member("sha256")
        if not is_key_id(digest.value):
            raise _fault(digest.at, "64 lower-case hexadecimal digits", digest.value)
        return digest_from_hex(digest.value)

    def digest(self) -> Digest:
        return parse_digest(self.value, where=f"{_WHERE}, {self.at}")

    def uri(self) -> CtxUri:
        return parse_uri(self.value, where=f"{_WHERE}, {self.at}")


def _claim(statement: _Place, image: Digest, uri: CtxUri | None) -> Claim:
    predicate = statement.member("predicate")
    statement.only("_type", "predicate", "predicateType", "subject")
    version = statement.member("_type").text(_STATEMENT, _OLD_STATEMENT)
    statement.member("predicateType").text(PREDICATE_TYPE)
    definition = predicate.member("buildDefinition")
    build_type = definition.member("buildType")
    kind = build_type.text(*(_BUILD_TYPE + kind for kind in KINDS)).removeprefix(_BUILD_TYPE)
    parameters = definition.member("externalParameters")
    contract = parameters.member("contract")
    named = contract.uri()
    if uri is not None and named != uri:
        raise _fault(contract.at, uri, named, "claim is about another contract")
    _check_subject(statement.member("subject"), image, named, annotated=version == _STATEMENT)
    internal = definition.member("internalParameters")
    outputs = internal.member("outputs")
    tools = parameters.optional("tools")
    entries = definition.optional("resolvedDependencies")
    dependencies, sources = _dependencies(entries.elements() if entries else [])
    return Claim(
        kind=kind,
        uri=named,
        image=image,
        outputs=outputs.member("digest").digest(),
        roots=tuple(map(_root, outputs.member("roots").elements())),
        pack=internal.member("pack").digest(),
        tools=tuple(map(_read_tool, tools.elements() if tools else [])),
        dependencies=dependencies,
        sources=sources,
        **_details(predicate.optional("runDetails")),
    )


def _check_subject(subjects: _Place, image: Digest, uri: CtxUri, *, annotated: bool) -> None:
    """Refuse all but one subject: image, with the contract among its annotations where its format has them."""
    elements = subjects.elements()
    if len(elements) != 1:
        raise _fault(subjects.at, "exactly one subject", f"{len(elements)}")
    [subject] = elements
    digest = subject.member("digest")
    subject.only("annotations", "digest", "name")
    digest.only("sha256")
    found = digest.sha256()
    if found != image:
        raise _fault(digest.at, image, found, "claim is about another image manifest")
    if name := subject.optional("name"):
        name.text()
    annotations = subject.member("annotations") if annotated else subject.optional("annotations")
    contract = annotations.member("contract") if annotations else None
    if contract and contract.uri() != uri:
        raise _fault(contract.at, uri, contract.value, "claim names two contracts")


def _root(root: _Place) -> OutputRoot:
    return OutputRoot(root.member("name").text(), root.member("type").text("file", "folder"))


def _read_tool(tool: _Place) -> Tool:
    return Tool(tool.member("name").text(), _text(tool.optional("version")), _text(tool.optional("params")))


def _dependencies(entries: list[_Place]) -> tuple[tuple[Dependency, ...], tuple[Source, ...]]:
    dependencies: list[Dependency] = []
    sources: list[Source] = []
    for entry in entries:
        name = _text(entry.optional("name"))
        digest = entry.optional("digest")
        if name == _SOURCE:
            admitted = entry.member("annotations").member("admittedBy")
            sources.append(Source(entry.member("digest").sha256(), _admitted_by(admitted)))
            if len(sources) > MAX_SOURCES:
                raise _fault(entry.at, f"at most {MAX_SOURCES} sources", "more")
        elif digest and digest.optional("sha256"):  # a dependency without one is of a kind that is not known here
            dependencies.append(Dependency(name, digest.sha256()))
    return tuple(dependencies), tuple(sources)


def _admitted_by(admitted: _Place) -> tuple[str, ...]:
    names = tuple(element.text() for element in admitted.elements())
    if names != (OWN,) and not all(map(is_key_id, names)):
        raise _fault(admitted.at, f"key ids, or {OWN!r} alone", admitted.value)
    return names


def _details(details: _Place | None) -> dict[str, str]:
    builder = details and details.optional("builder")
    version = builder and builder.optional("version")
    metadata = details and details.optional("metadata")
    return {
        "version": _text(version and version.optional("ctxpack")),
        "finished": _text(metadata and metadata.optional("finishedOn")),
        "invocation": _text(metadata and metadata.optional("invocationId")),
    }


def _text(place: _Place | None) -> str:
    return place.text() if place else ""


_FIX = "skip it: it is no claim about this pack, or needs a newer ctxpack"
_FEWER = "name fewer of them"


def _fault(at: str, expected: str, got: Any, what: str = "not a claim that this version reads") -> IntegrityError:
    text = got if isinstance(got, str) else repr(got)
    where = f"{_WHERE}, {at}" if at else _WHERE
    return IntegrityError(what, where=where, expected=expected, got=text[:120], fix=_FIX, code="E_CLAIM")


def _unwritable(what: str, expected: str, got: str, fix: str = "") -> InvalidInput:
    return InvalidInput(what, where=_WHERE, expected=expected, got=got, fix=fix, code="E_CLAIM")
