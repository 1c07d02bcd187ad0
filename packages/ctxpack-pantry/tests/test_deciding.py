"""What a policy says of one pack: by claims in the registry, by claims in the cache, and by what is remembered."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from pantry_context import context_of

from ctxpack_cache import Cache
from ctxpack_identity import (
    CtxUri,
    IntegrityError,
    InvalidInput,
    LocalFailure,
    PolicyRefused,
    Unavailable,
    digest_of,
    parse_uri,
    uri_digest,
)
from ctxpack_pantry import Pantry
from ctxpack_pantry.claims import claim_tag, publish_claim
from ctxpack_pantry.deciding import Deciding
from ctxpack_pantry.lookup import locate
from ctxpack_pantry.made import Made
from ctxpack_pantry.origins import Origins, pack_digest
from ctxpack_pantry.policyfile import Trust
from ctxpack_pantry.remembered import Remembered, question
from ctxpack_pantry.state import state_folder
from ctxpack_trust import (
    NO_POLICY,
    Claim,
    Denied,
    OutputRoot,
    PrivateKey,
    Rule,
    Signer,
    Source,
    encode_policy,
    generate_key,
    sign_claim,
)

if TYPE_CHECKING:
    from pantry_project import Project
    from pantry_target import FaultyTarget

CREATED = "2026-11-26T12:00:00Z"
SIGNED, NOTHING = Rule("signed"), Denied()


@pytest.fixture(scope="module")
def key() -> PrivateKey:
    return generate_key()


@pytest.fixture(scope="module")
def other() -> PrivateKey:
    return generate_key()


@pytest.fixture
def home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """The home of a reader who made nothing: another than that of the maker of the pack."""
    return tmp_path / "reader"


@pytest.fixture
def uri(open_pantry: Callable[..., Pantry], project: Project) -> CtxUri:
    """The URI of an unsigned pack in the registry."""
    maker = open_pantry("maker")
    uri = maker.seed([], str(project.contract)).uri
    maker.push(uri)
    return uri


class Reader:
    """Somebody else, with a policy. pantry: over the registry, with a cache of its own."""

    def __init__(self, open_pantry: Callable[..., Pantry], registry: FaultyTarget, home: Path) -> None:
        self.home, self.said = home, list[str]()
        self.policy = home / ".config" / "ctxpack" / "policy.json"
        settings = open_pantry("reader").settings
        self.environ = {"HOME": str(home)}
        self.pantry = Pantry(settings, target=registry, environ=self.environ, notice=self.said.append)

    def trust(self, *keys: PrivateKey, rule: Rule = SIGNED, deny: Denied = NOTHING) -> None:
        signers = tuple(Signer(f"s{number}", f"o{number}", key.public) for number, key in enumerate(keys))
        self.policy.parent.mkdir(parents=True, exist_ok=True)
        self.policy.write_bytes(encode_policy(NO_POLICY._replace(default=rule, signers=signers, deny=deny)))
        self.policy.chmod(0o600)

    @property
    def memory(self) -> Remembered:
        return Remembered(state_folder(self.environ))


@pytest.fixture
def reader(open_pantry: Callable[..., Pantry], registry: FaultyTarget, home: Path) -> Reader:
    return Reader(open_pantry, registry, home)


Sign = Callable[..., Claim]


@pytest.fixture
def sign(open_pantry: Callable[..., Pantry], registry: FaultyTarget, uri: CtxUri, key: PrivateKey) -> Sign:
    """Publish a claim about the pack in the registry, with members of the caller's choice."""

    def publish(by: PrivateKey = key, **members: Any) -> Claim:
        located = locate(registry, uri)
        assert located is not None
        folder = open_pantry("maker").cache.find(uri_digest(uri))
        assert folder is not None
        outputs = json.loads(Path(folder, "manifest.json").read_bytes())["outputs"]
        pack = pack_digest(folder)
        assert pack is not None
        roots = tuple(OutputRoot(root["name"], root["type"]) for root in outputs["roots"])
        claim = Claim("run", uri, located.image, outputs["digest"], roots, pack)._replace(**members)
        publish_claim(registry, located.descriptor, sign_claim(claim, by), by.public, created=CREATED)
        return claim

    return publish


def refusal(reader: Reader, uri: CtxUri) -> PolicyRefused:
    with pytest.raises(PolicyRefused) as caught:
        reader.pantry.pull(uri)
    return caught.value


def test_an_unsigned_pack_is_refused_and_no_layer_is_fetched(
    reader: Reader, registry: FaultyTarget, uri: CtxUri, key: PrivateKey
) -> None:
    reader.trust(key)
    before = registry.count("fetch"), registry.count("fetch_range"), registry.count("fetch_into")
    assert refusal(reader, uri).code == "E_NOT_ADMITTED"
    assert before == (registry.count("fetch"), registry.count("fetch_range"), registry.count("fetch_into"))


def test_one_request_for_each_signer_is_enough(
    reader: Reader, registry: FaultyTarget, uri: CtxUri, key: PrivateKey, other: PrivateKey, sign: Sign
) -> None:
    claim = sign()
    reader.trust(key, other)
    before = len(registry.calls)
    assert reader.pantry.pull(uri)
    asked = [call.subject for call in registry.calls[before:] if "claim-" in call.subject]
    assert sorted(asked) == sorted(claim_tag(claim.image, one.public.key_id) for one in (key, other))
    assert not [call for call in registry.calls[before:] if call.method == "referrers"]


def test_a_claim_is_found_among_the_referrers_when_the_tag_is_gone(
    reader: Reader, registry: FaultyTarget, uri: CtxUri, key: PrivateKey, sign: Sign
) -> None:
    """As after a copy by a tool that takes referrers along, and no tags of ours."""
    claim = sign()
    index = json.loads((registry.folder / "index.json").read_bytes())
    for entry in index["manifests"]:
        name = entry.get("annotations", {}).get("org.opencontainers.image.ref.name")
        if name == claim_tag(claim.image, key.public.key_id):
            del entry["annotations"]["org.opencontainers.image.ref.name"]
    (registry.folder / "index.json").write_text(json.dumps(index))
    reader.trust(key)
    assert reader.pantry.pull(uri)


@pytest.fixture
def flood(monkeypatch: pytest.MonkeyPatch) -> None:
    """The registry lists too many referrers of every pack."""
    monkeypatch.setattr("ctxpack_oci.referrers.MAX_REFERRERS", 0)


FLOOD = "more than 64 manifests refer to it, so none of them was looked at"


@pytest.mark.usefixtures("flood")
def test_a_flood_of_referrers_is_no_error_and_admits_nothing(
    reader: Reader, uri: CtxUri, key: PrivateKey, other: PrivateKey, sign: Sign
) -> None:
    sign(by=other)
    reader.trust(key)
    refused = refusal(reader, uri)
    assert refused.code == "E_NOT_ADMITTED"
    assert refused.what.startswith(f"needs a claim by a signer that you trust, has none; {FLOOD}: what signers said ")
    sign()
    assert reader.pantry.pull(uri)  # by the tag of its signer


@pytest.mark.usefixtures("flood")
def test_a_flood_of_referrers_makes_nobody_known_by_first_use(
    reader: Reader, uri: CtxUri, key: PrivateKey, sign: Sign
) -> None:
    sign()
    reader.trust(rule=Rule("tofu"))
    assert FLOOD in refusal(reader, uri).what
    assert reader.memory.pinned("the registry") == ""


@pytest.mark.usefixtures("flood")
def test_a_flood_of_referrers_is_shown(
    reader: Reader, uri: CtxUri, key: PrivateKey, other: PrivateKey, sign: Sign
) -> None:
    sign()
    sign(by=other)
    reader.trust(key, rule=Rule("signed", 2))
    verdict = reader.pantry.inspect(uri).verdict
    assert verdict is not None
    assert [voucher.key_id for voucher in verdict.vouchers] == [key.public.key_id]
    assert not verdict.admitted
    assert verdict.skipped[0].startswith(FLOOD)


@pytest.mark.parametrize("method", ["fetch_tag", "referrers"])
def test_a_registry_that_does_not_answer_is_never_unsigned(
    reader: Reader, registry: FaultyTarget, uri: CtxUri, key: PrivateKey, method: str
) -> None:
    reader.trust(key)

    def fail(call: object) -> None:
        if method == "referrers" or "claim-" in call.subject:  # type: ignore[attr-defined]
            raise Unavailable("answered 503")

    registry.on(method, fail)
    with pytest.raises(Unavailable):
        reader.pantry.pull(uri)


@pytest.mark.parametrize(
    ("members", "says"),
    [
        ({"outputs": digest_of(b"others")}, "outputs"),
        ({"pack": digest_of(b"other")}, "manifest.json"),
        ({"roots": (OutputRoot("others", "folder"),)}, "roots"),
    ],
)
def test_a_claim_that_says_other_outputs_is_an_integrity_error(
    reader: Reader, uri: CtxUri, key: PrivateKey, sign: Sign, members: dict[str, object], says: str
) -> None:
    sign(**members)
    reader.trust(key)
    with pytest.raises(IntegrityError, match=says) as caught:
        reader.pantry.pull(uri)
    assert caught.value.code == "E_CLAIM"
    assert reader.pantry.cache.find(uri_digest(uri)) is None


def test_a_claim_about_another_image_manifest_or_contract_does_not_count(
    reader: Reader, uri: CtxUri, key: PrivateKey, sign: Sign
) -> None:
    sign(uri=CtxUri("ctx://sha256:" + "1" * 64))
    reader.trust(key)
    refusal(reader, uri)
    sign(image=digest_of(b"another image manifest"))
    refusal(reader, uri)
    sign()
    assert reader.pantry.pull(uri)


def test_a_hit_is_admitted_by_the_claims_that_the_cache_keeps_and_then_by_what_is_remembered(
    reader: Reader, registry: FaultyTarget, uri: CtxUri, key: PrivateKey, sign: Sign, monkeypatch: pytest.MonkeyPatch
) -> None:
    sign()
    reader.trust(key)
    reader.pantry.pull(uri)
    calls = len(registry.calls)
    reader.pantry.pull(uri)
    monkeypatch.setattr("ctxpack_pantry.deciding.Deciding", None)  # the decision is remembered now
    reader.pantry.pull(uri)
    assert len(registry.calls) == calls


def test_another_policy_is_another_question(
    reader: Reader, uri: CtxUri, key: PrivateKey, other: PrivateKey, sign: Sign
) -> None:
    sign()
    reader.trust(key)
    reader.pantry.pull(uri)
    reader.pantry.pull(uri)
    reader.trust(other)
    refusal(reader, uri)
    reader.trust(key, deny=Denied(keys=frozenset([key.public.key_id])))
    assert refusal(reader, uri).code == "E_NOT_ADMITTED"
    reader.trust(key)
    assert reader.pantry.pull(uri)


def test_what_is_remembered_of_a_registry_that_a_folder_names_ends_when_the_user_no_longer_names_it() -> None:
    named, foreign = Trust(foreign="/clone/ctxpack.toml", users="r/x"), Trust(foreign="/clone/ctxpack.toml")
    assert question(b"", named, "r/x") != question(b"", foreign, "r/x")
    assert question(b"", Trust(users="r/x"), "r/x") == question(b"", Trust(), "r/x")  # only there it matters


def test_what_somebody_else_could_have_written_is_not_remembered(
    reader: Reader, uri: CtxUri, key: PrivateKey, sign: Sign
) -> None:
    sign()
    reader.trust(key)
    reader.pantry.pull(uri)
    reader.pantry.pull(uri)
    for path in Path(state_folder(reader.environ)).rglob("*"):
        if path.is_file():
            path.chmod(0o666)
    located_image = reader.memory.last_image(uri, "the registry")
    assert located_image == ""


def test_an_own_pack_is_exempt_and_only_as_it_was_made(
    reader: Reader, open_pantry: Callable[..., Pantry], project: Project, registry: FaultyTarget, key: PrivateKey
) -> None:
    reader.trust(key)
    mine = Pantry(open_pantry("mine").settings, target=registry, environ=reader.environ)
    uri = mine.seed([], str(project.contract)).uri
    assert mine.pull(uri)
    folder = mine.cache.find(uri_digest(uri))
    assert folder is not None
    assert Made(state_folder(reader.environ)).kind_of(uri, pack_digest(folder) or digest_of(b"")) == "seed"
    manifest = Path(folder, "manifest.json")
    Path(folder).chmod(0o755)
    manifest.chmod(0o644)
    manifest.write_bytes(manifest.read_bytes().replace(b'"created"', b'"creates"'))
    with pytest.raises(PolicyRefused):
        mine.pull(uri)


def test_an_own_pack_is_exempt_when_it_comes_back_from_the_registry_that_it_was_pushed_to(
    reader: Reader, open_pantry: Callable[..., Pantry], project: Project, registry: FaultyTarget, key: PrivateKey
) -> None:
    reader.trust(key)
    mine = Pantry(open_pantry("mine").settings, target=registry, environ=reader.environ)
    uri = mine.seed([], str(project.contract)).uri
    mine.push(uri)
    mine.remove(uri)
    assert mine.pull(uri).received


def test_denied_items_deny_the_pack_that_was_made_of_them(
    reader: Reader, uri: CtxUri, key: PrivateKey, other: PrivateKey, sign: Sign
) -> None:
    image = digest_of(b"an earlier pack")
    sign(sources=(Source(image, (other.public.key_id,)),))
    reader.trust(key)
    reader.pantry.pull(uri)
    reader.trust(key, deny=Denied(images=frozenset([image])))
    assert refusal(reader, uri).code == "E_DENIED"
    reader.trust(key, deny=Denied(keys=frozenset([other.public.key_id])))
    assert refusal(reader, uri).code == "E_DENIED"


def test_denied_outputs_are_refused_once_they_are_known(reader: Reader, uri: CtxUri, sign: Sign) -> None:
    claim = sign()
    reader.trust(rule=Rule("accept-any"), deny=Denied(outputs=frozenset([claim.outputs])))
    assert refusal(reader, uri).code == "E_DENIED"
    assert reader.pantry.cache.find(uri_digest(uri)) is None


def test_tofu_pins_a_key_for_the_scope(
    reader: Reader, uri: CtxUri, key: PrivateKey, other: PrivateKey, sign: Sign
) -> None:
    reader.trust(rule=Rule("tofu"))
    refusal(reader, uri)
    sign(other)
    reader.pantry.pull(uri)
    reader.pantry.remove(uri)
    sign(key)
    assert reader.pantry.pull(uri)  # still signed by the key that is pinned
    assert bytes.fromhex(reader.memory.pinned("the registry")) == other.public.spki


def test_tofu_admits_nothing_where_nothing_can_be_remembered(
    reader: Reader, uri: CtxUri, sign: Sign, monkeypatch: pytest.MonkeyPatch
) -> None:
    sign()
    reader.trust(rule=Rule("tofu"))
    with monkeypatch.context() as nowhere:
        nowhere.setattr("ctxpack_pantry.pantry.state_folder", lambda environ: "")
        assert "no state folder" in str(refusal(reader, uri))
    assert reader.pantry.pull(uri)


def test_a_pin_that_is_damaged_admits_nobody(reader: Reader, uri: CtxUri, key: PrivateKey, sign: Sign) -> None:
    sign(key)
    reader.trust(rule=Rule("tofu"))
    reader.memory.pin("the registry", "00")
    refused = refusal(reader, uri)
    assert "cannot be read" in str(refused)
    assert reader.memory.pin_path("the registry") in refused.fix
    [pin] = reader.pantry.trust_list().pins
    assert (pin.scope, pin.key) == ("the registry", None)
    reader.pantry.trust_remove(pin="the registry")
    assert reader.pantry.pull(uri)
    path = reader.memory.pin_path("the registry")
    os.remove(path)
    os.makedirs(path)
    with pytest.raises(LocalFailure, match="cannot be removed"):
        reader.pantry.trust_remove(pin="the registry")


@pytest.mark.parametrize("wrong", ["outputs", "denied"])
def test_what_cannot_be_opened_pins_no_key(
    reader: Reader, open_pantry: Callable[..., Pantry], uri: CtxUri, key: PrivateKey, sign: Sign, wrong: str
) -> None:
    if wrong == "outputs":
        sign(outputs=digest_of(b"others"))
        reader.trust(rule=Rule("tofu"))
        with pytest.raises(IntegrityError):
            reader.pantry.pull(uri)
    else:
        sign()
        outputs = open_pantry("maker").inspect(uri).manifest.outputs_digest
        reader.trust(rule=Rule("tofu"), deny=Denied(outputs=frozenset([outputs])))
        refusal(reader, uri)
    assert reader.memory.pins() == []
    assert reader.memory.last_image(uri, "the registry") == ""


def test_a_pin_of_an_earlier_version_holds_and_can_be_forgotten(
    reader: Reader, uri: CtxUri, key: PrivateKey, other: PrivateKey, sign: Sign
) -> None:
    sign(other)
    reader.trust(rule=Rule("tofu"))
    reader.memory.pin("the registry", key.public.spki.hex())
    path = Path(reader.memory.pin_path("the registry"))
    path.write_text(path.read_text().splitlines()[0] + "\n")
    refusal(reader, uri)
    [pin] = reader.pantry.trust_list().pins
    assert (pin.scope, pin.key, pin.file) == ("", key.public, str(path))
    assert reader.pantry.trust_show(key.public.key_id[:8]).pinned == (str(path),)
    reader.pantry.trust_remove(pin="the registry")
    assert reader.pantry.pull(uri)


def test_a_pin_that_somebody_else_could_have_written_admits_nobody(
    reader: Reader, uri: CtxUri, key: PrivateKey, sign: Sign
) -> None:
    sign(key)
    reader.trust(rule=Rule("tofu"))
    reader.pantry.pull(uri)
    reader.pantry.remove(uri)
    [pin] = Path(state_folder(reader.environ), "pins").iterdir()
    pin.chmod(0o666)
    refusal(reader, uri)


def test_tofu_admits_nothing_where_no_pin_can_be_written(
    reader: Reader, uri: CtxUri, sign: Sign, monkeypatch: pytest.MonkeyPatch
) -> None:
    sign()
    reader.trust(rule=Rule("tofu"))
    monkeypatch.setattr(Remembered, "_write", lambda self, path, data: None)
    assert "cannot be pinned" in str(refusal(reader, uri))


def test_of_two_processes_only_one_pins_its_key(reader: Reader) -> None:
    assert reader.memory.pin("a registry", "aa")
    assert not reader.memory.pin("a registry", "bb")
    assert reader.memory.pin("a registry", "aa")


def test_what_a_cache_says_of_an_image_manifest_makes_no_pack_of_a_registry_one_s_own(
    reader: Reader, open_pantry: Callable[..., Pantry], project: Project, registry: FaultyTarget, key: PrivateKey
) -> None:
    """Somebody who can write to a shared cache notes the image manifest of their pack as that of ours."""
    attacker = open_pantry("attacker")
    project.make_outputs("forged")
    uri = attacker.seed([], str(project.contract)).uri
    attacker.push(uri)
    located = locate(registry, uri)
    assert located is not None
    project.make_outputs()
    reader.trust(key)
    mine = Pantry(open_pantry("mine").settings, target=registry, environ=reader.environ)
    assert mine.seed([], str(project.contract)).uri == uri
    folder = mine.cache.find(uri_digest(uri))
    assert folder is not None
    Origins(mine.cache).record(uri, registry.name, pack_digest(folder) or digest_of(b""), located.data)
    assert mine.pull(uri)
    mine.cache.remove(uri_digest(uri))
    with pytest.raises(PolicyRefused):
        mine.pull(uri)


def test_a_hit_counts_the_claim_that_counted_and_not_another_one_by_the_same_key(
    reader: Reader, registry: FaultyTarget, uri: CtxUri, key: PrivateKey, other: PrivateKey, sign: Sign
) -> None:
    sign()
    sign(kind="vouch")  # under the same tag; the first one is a referrer still
    reader.trust(key)
    reader.pantry.pull(uri)
    calls = len(registry.calls)
    reader.trust(key, other)  # another question
    reader.pantry.pull(uri)
    assert len(registry.calls) == calls


@pytest.mark.parametrize("wrong", ["outputs", "pack"])
def test_a_pack_is_judged_as_it_is_pulled_when_a_trusted_claim_says_something_else(
    reader: Reader, uri: CtxUri, key: PrivateKey, other: PrivateKey, sign: Sign, wrong: str
) -> None:
    sign(**{wrong: digest_of(b"something else")})
    sign(by=other)
    for signers, admitted in (([key], False), ([key, other], False), ([other], True)):
        reader.trust(*signers)
        verdicts = [reader.pantry.trust_check(uri), reader.pantry.inspect(uri).verdict]
        assert [one.admitted for one in verdicts] == [admitted, admitted]
        assert f"the claim of {key.public.key_id} is about other outputs" in verdicts[0].skipped
        if not admitted:
            assert "is about other outputs" in verdicts[0].decision.reason
            with pytest.raises(IntegrityError, match="is about other"):
                reader.pantry.pull(uri)
    assert reader.pantry.pull(uri)


def test_a_claim_that_does_not_count_is_skipped_once_though_it_is_found_in_two_ways(
    reader: Reader, uri: CtxUri, key: PrivateKey, sign: Sign
) -> None:
    sign(uri=CtxUri("ctx://sha256:" + "1" * 64))
    reader.trust(key)
    assert len(reader.pantry.trust_check(uri).skipped) == 1


@pytest.mark.parametrize(("repository", "readable"), [("127.0.0.1:1/a", False), ("127.0.0.1:1/ab", True)])
def test_cosign_reads_no_repository_whose_name_has_one_letter(
    reader: Reader, uri: CtxUri, sign: Sign, monkeypatch: pytest.MonkeyPatch, repository: str, readable: bool
) -> None:
    sign()
    monkeypatch.setattr("pantry_target.FaultyTarget.name", repository)
    [voucher] = reader.pantry.trust_check(uri).vouchers
    assert bool(voucher.cosign) == readable


def test_the_key_of_a_claim_that_says_something_else_is_not_taken_from_a_pack(
    reader: Reader, uri: CtxUri, sign: Sign
) -> None:
    sign(outputs=digest_of(b"others"))
    with pytest.raises(InvalidInput, match="is about other outputs"):
        reader.pantry.trust_add("somebody", pack=uri)


def test_a_pack_is_judged_as_it_is_pulled_when_what_is_denied_is_in_it(
    reader: Reader, open_pantry: Callable[..., Pantry], uri: CtxUri
) -> None:
    outputs = open_pantry("maker").inspect(uri).manifest.outputs_digest
    reader.trust(rule=Rule("accept-any"), deny=Denied(outputs=frozenset([outputs])))
    verdict = reader.pantry.trust_check(uri)
    assert (verdict.admitted, verdict.decision.denied) == (False, True)


HTTPS, HTTP = "reg.example.test/team/a", "http://reg.example.test/team/a"
SCOPE = "reg.example.test/team"


@pytest.mark.parametrize(
    ("location", "users", "rule", "used"),
    [
        (HTTPS, "", None, False),
        (HTTPS, "", "accept-any", True),
        (HTTPS, "reg.example.test/team", None, True),
        (HTTPS, "http://reg.example.test/team", None, True),
        (HTTP, "", None, False),
        (HTTP, "", "accept-any", False),
        (HTTP, "reg.example.test/team", None, False),
        (HTTP, "reg.example.test/team", "accept-any", False),
        (HTTP, "http://reg.example.test/team", None, True),
        (HTTP, "http://reg.example.test/other", None, False),
        ("http://127.0.0.1:5000/a", "127.0.0.1:5000/a", None, True),
    ],
)
def test_a_registry_that_a_folder_names_over_plain_http_is_not_what_the_user_named_with_https(
    registry: FaultyTarget, location: str, users: str, rule: str | None, used: bool, tmp_path: Path
) -> None:
    policy = NO_POLICY._replace(scopes={SCOPE: Rule(rule)} if rule else {})
    trust = Trust(str(tmp_path / "policy.json"), foreign="/clone/ctxpack.toml", users=users)
    context = context_of(Cache(tmp_path / "cache"), registry)._replace(registry=location, trust=trust)
    deciding = Deciding(context, encode_policy(policy))
    judged = deciding.in_registry(parse_uri(f"ctx://sha256:{'0' * 64}"), digest_of(b"image"))
    how = " over plain HTTP" if location == HTTP else ""
    assert judged.decision.admitted is used
    assert used or judged.decision.reason == (
        f"only /clone/ctxpack.toml names this registry{how}, so no pack of it is used"
    )
