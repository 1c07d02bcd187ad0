"""The trust policy of a user: whose claims count where, what is asked for, and what is denied. POLICY.md is normative.

A file that holds anything unknown is refused as a whole: a rule that is not understood is never left out.
"""

from __future__ import annotations

import json
import re

from ctxpack_identity.canonical import parse_json, pointer
from ctxpack_identity.digest import parse_digest
from ctxpack_identity.errors import InvalidInput
from ctxpack_identity.lighttyping import TYPE_CHECKING, Any, NamedTuple
from ctxpack_identity.uri import parse_uri
from ctxpack_trust.base64text import decode_base64, encode_base64
from ctxpack_trust.claim import is_key_id
from ctxpack_trust.keys import PublicKey, public_key_of
from ctxpack_trust.scope import canonical_repository, is_within

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = [
    "MAX_POLICY_BYTES",
    "MODES",
    "NO_POLICY",
    "Denied",
    "Rule",
    "Signer",
    "TrustPolicy",
    "encode_policy",
    "parse_policy",
    "stricter",
]

ACCEPT_ANY, TOFU, SIGNED, REJECT = MODES = ("accept-any", "tofu", "signed", "reject")  # least strict first
MAX_POLICY_BYTES = 1 << 20
MAX_THRESHOLD = 1000

_SCHEMA = "ctxpack/policy/v1"
_DENIED = ("images", "keys", "outputs", "uris")
_FIX = "correct it; `ctxpack trust` writes it"

_is_name = re.compile(r"\A[A-Za-z0-9][A-Za-z0-9._@+-]{0,127}\Z").match


class Rule(NamedTuple):
    """What is asked for. threshold: of mode signed, how many owners must have signed."""

    mode: str
    threshold: int = 1


class Signer(NamedTuple):
    """Whose claims count. owner: who holds the key; its claims count once. scopes: where; none is everywhere."""

    name: str
    owner: str
    key: PublicKey
    scopes: tuple[str, ...] = ()


class Denied(NamedTuple):
    """What is never admitted. images, outputs: digests. keys: key ids, whose claims no longer count. uris: in full."""

    images: frozenset[str] = frozenset()
    keys: frozenset[str] = frozenset()
    outputs: frozenset[str] = frozenset()
    uris: frozenset[str] = frozenset()


class TrustPolicy(NamedTuple):
    """A policy. default: the rule outside the scopes. scopes: by canonical repository. signers: sorted by name."""

    default: Rule
    scopes: dict[str, Rule]
    signers: tuple[Signer, ...]
    deny: Denied

    def scope_of(self, repository: str) -> tuple[str, Rule]:
        """Return the longest scope that repository lies in, and its rule: ("", default) if there is none."""
        scope = max((scope for scope in self.scopes if is_within(scope, repository)), key=len, default="")
        return scope, self.scopes[scope] if scope else self.default

    def signers_of(self, repository: str) -> tuple[Signer, ...]:
        """Return the signers whose claims count in repository."""
        return tuple(
            signer
            for signer in self.signers
            if not signer.scopes or any(is_within(scope, repository) for scope in signer.scopes)
        )

    def with_signer(self, signer: Signer) -> TrustPolicy:
        """Return this policy with one signer more. Raises: InvalidInput (E_POLICY_FILE) for a name that is taken."""
        if any(known.name == signer.name for known in self.signers):
            fix = f"remove it first (`ctxpack trust remove {signer.name}`), or give this one another --name"
            raise InvalidInput("name is taken", where=f"signer {signer.name}", fix=fix, code="E_POLICY_FILE")
        return self._checked(signers=tuple(sorted((*self.signers, signer), key=_name_of)))

    def without_signer(self, name: str) -> TrustPolicy:
        """Return this policy without the signer of that name. Raises: InvalidInput (E_POLICY_FILE) if there is none."""
        left = tuple(signer for signer in self.signers if signer.name != name)
        if len(left) == len(self.signers):
            raise InvalidInput(
                "no such signer",
                where="policy",
                expected=", ".join(signer.name for signer in self.signers) or "none is there",
                got=repr(name)[:80],
                fix="`ctxpack trust list` shows them",
                code="E_POLICY_FILE",
            )
        return self._checked(signers=left)

    def with_rule(self, scope: str, rule: Rule) -> TrustPolicy:
        """Return this policy with another rule for scope; the empty scope is the default.

        Raises: InvalidInput, E_SCOPE or E_POLICY_FILE, for a scope or rule that no policy may have.
        """
        if not scope:
            return self._checked(default=rule)
        return self._checked(scopes=self.scopes | {canonical_repository(scope): rule})

    def with_denied(self, kind: str, value: str) -> TrustPolicy:
        """Return this policy with value denied. kind: images, keys, outputs or uris; denied twice is denied.

        Raises: InvalidInput (E_POLICY_FILE) for another kind, and for a value that is none of its kind.
        """
        if kind not in _DENIED:
            raise _fault("policy", "/deny", f"one of {', '.join(_DENIED)}", kind)
        return self._checked(deny=self.deny._replace(**{kind: getattr(self.deny, kind) | {value}}))

    def _checked(self, **changes: Any) -> TrustPolicy:
        changed: TrustPolicy = self._replace(**changes)
        encode_policy(changed)
        return changed


NO_POLICY = TrustPolicy(Rule(ACCEPT_ANY), {}, (), Denied())


def parse_policy(data: bytes, *, where: str) -> TrustPolicy:
    """Return the policy in data. where: its file, for errors.

    Raises: InvalidInput (E_POLICY_FILE) for anything that POLICY.md does not name: the whole file is refused.
    """
    if len(data) > MAX_POLICY_BYTES:
        raise _fault(where, "", f"at most {MAX_POLICY_BYTES} bytes", str(len(data)))
    try:
        value = parse_json(data, where=where)
    except InvalidInput as error:
        raise InvalidInput(
            f"no policy: {error.what}",
            where=error.where,
            expected=error.expected,
            got=error.got,
            fix=_FIX,
            code="E_POLICY_FILE",
        ) from error
    reader = _Reader(where)
    reader.members(value, "", ("default", "schema"), ("deny", "scopes", "signers"))
    if value["schema"] != _SCHEMA:
        raise _fault(where, "/schema", _SCHEMA, value["schema"])
    return TrustPolicy(
        default=reader.rule(value["default"], "/default"),
        scopes={reader.scope(scope, at): reader.rule(rule, at) for scope, rule, at in reader.object(value, "scopes")},
        signers=tuple(
            sorted(
                (reader.signer(name, signer, at) for name, signer, at in reader.object(value, "signers")), key=_name_of
            )
        ),
        deny=reader.denied(value.get("deny", {}), "/deny"),
    )


def encode_policy(policy: TrustPolicy) -> bytes:
    """Return the file of policy: JSON, indented, sorted, with a final line feed. One policy has one text.

    Raises: InvalidInput (E_POLICY_FILE) for what parse_policy would refuse.
    """
    document = {
        "default": policy.default._asdict(),
        "deny": {kind: sorted(values) for kind, values in policy.deny._asdict().items()},
        "schema": _SCHEMA,
        "scopes": {scope: rule._asdict() for scope, rule in policy.scopes.items()},
        "signers": {signer.name: _signer(signer) for signer in policy.signers},
    }
    text = json.dumps(document, indent=2, sort_keys=True, ensure_ascii=False)
    try:
        data = f"{text}\n".encode()
    except UnicodeEncodeError as error:
        raise _fault("policy", "", "Unicode text", "a name that is not UTF-8") from error
    parse_policy(data, where="policy")
    return data


def stricter(rule: Rule, mode: str) -> Rule:
    """Return rule with the stricter one of its mode and mode. A mode that is not known counts as reject.

    >>> stricter(Rule("tofu"), "signed").mode, stricter(Rule("reject"), "signed").mode
    ('signed', 'reject')
    """
    return rule._replace(mode=max(rule.mode, mode, key=_strictness) if mode in MODES else REJECT)


def _strictness(mode: str) -> int:
    return MODES.index(mode) if mode in MODES else len(MODES)


def _name_of(signer: Signer) -> str:
    return signer.name


def _signer(signer: Signer) -> dict[str, Any]:
    members: dict[str, Any] = {"owner": signer.owner, "spki": encode_base64(signer.key.spki), "type": "key"}
    return members | ({"scopes": list(signer.scopes)} if signer.scopes else {})


class _Reader:
    """Reads the parts of one file. where: the file. Each method raises InvalidInput for what it does not know."""

    __slots__ = ("where",)

    def __init__(self, where: str) -> None:
        self.where = where

    def members(self, value: Any, at: str, needed: tuple[str, ...], allowed: tuple[str, ...] = ()) -> None:
        if not isinstance(value, dict):
            raise _fault(self.where, at, "an object", value)
        unknown = sorted(set(value) - set(needed) - set(allowed))
        missing = sorted(set(needed) - set(value))
        if unknown:
            raise _fault(self.where, pointer(at, unknown[0]), f"only {', '.join(needed + allowed)}", unknown[0])
        if missing:
            raise _fault(self.where, at, f"a member {missing[0]}", "none")

    def object(self, document: Any, name: str) -> list[tuple[str, Any, str]]:
        """Return name, value and place of each member of an object that may be left out."""
        value = document.get(name, {})
        if not isinstance(value, dict):
            raise _fault(self.where, f"/{name}", "an object", value)
        return [(member, value[member], pointer(f"/{name}", member)) for member in value]

    def rule(self, value: Any, at: str) -> Rule:
        self.members(value, at, ("mode",), ("threshold",))
        mode, threshold = value["mode"], value.get("threshold", 1)
        if not isinstance(mode, str) or mode not in MODES:
            raise _fault(self.where, f"{at}/mode", " or ".join(MODES), mode)
        if type(threshold) is not int or not 1 <= threshold <= MAX_THRESHOLD:  # True is an int, too
            raise _fault(self.where, f"{at}/threshold", f"a whole number, 1 to {MAX_THRESHOLD}", threshold)
        return Rule(mode, threshold)

    def signer(self, name: str, value: Any, at: str) -> Signer:
        self.name(name, at)
        kind = value.get("type") if isinstance(value, dict) else None
        if kind == "identity":
            raise _fault(self.where, f"{at}/type", "key: signers without a key need a newer ctxpack", kind)
        self.members(value, at, ("owner", "spki", "type"), ("scopes",))
        if kind != "key":
            raise _fault(self.where, f"{at}/type", "key", kind)
        scopes = self.array(value["scopes"], f"{at}/scopes", self.scope) if "scopes" in value else ()
        if "scopes" in value and not scopes:
            raise _fault(self.where, f"{at}/scopes", "at least one; without the member, it counts everywhere", "none")
        return Signer(
            name=name,
            owner=self.name(value["owner"], f"{at}/owner"),
            key=self.key(value["spki"], f"{at}/spki"),
            scopes=scopes,
        )

    def name(self, value: Any, at: str) -> str:
        if not isinstance(value, str) or not _is_name(value):
            raise _fault(self.where, at, "1 to 128 of A-Z, a-z, 0-9, '.', '_', '@', '+' and '-'", value)
        return value

    def key(self, value: Any, at: str) -> PublicKey:
        try:
            spki = decode_base64(value, where=at)
            key = public_key_of(spki, where=at)
        except InvalidInput as error:
            raise _fault(self.where, at, error.expected, value) from error
        if key.spki != spki:
            raise _fault(self.where, at, f"its normal form, {encode_base64(key.spki)}", value)
        return key

    def scope(self, value: Any, at: str) -> str:
        try:
            canonical = canonical_repository(value) if isinstance(value, str) else ""
        except InvalidInput as error:
            raise _fault(self.where, at, error.expected, value) from error
        if not canonical or canonical != value:
            raise _fault(self.where, at, canonical or "a text", value)
        return canonical

    def denied(self, value: Any, at: str) -> Denied:
        self.members(value, at, (), _DENIED)
        return Denied(
            **{kind: frozenset(self.array(value[kind], f"{at}/{kind}", self.digest_of_kind(kind))) for kind in value}
        )

    def digest_of_kind(self, kind: str) -> Callable[[Any, str], str]:
        def read(value: Any, at: str) -> str:
            if kind == "keys":
                if not is_key_id(value):
                    raise _fault(self.where, at, "a key id: 64 lower-case hexadecimal digits", value)
                return str(value)
            try:
                return parse_uri(value) if kind == "uris" else parse_digest(value)
            except InvalidInput as error:
                raise _fault(self.where, at, error.expected, value) from error

        return read

    def array(self, value: Any, at: str, element: Callable[[Any, str], str]) -> tuple[str, ...]:
        if not isinstance(value, list):
            raise _fault(self.where, at, "an array", value)
        return tuple(element(each, f"{at}/{index}") for index, each in enumerate(value))


def _fault(where: str, at: str, expected: str, got: Any) -> InvalidInput:
    text = got if isinstance(got, str) else repr(got)
    return InvalidInput(
        "no policy that this version reads",
        where=f"{where}, {at}" if at else where,
        expected=expected,
        got=text[:120],
        fix=_FIX,
        code="E_POLICY_FILE",
    )
