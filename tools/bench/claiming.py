"""Claims: what a pack costs more that is signed when it is pushed, and whose signers are checked when it is pulled."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path

from bench.claimgoals import PROCESS, PULL, REQUESTS, pull_of
from bench.compare import compare, expect, expect_copy, prints, tidy_few
from bench.measure import Command, Contender, Run, Sample, execute
from bench.repository import claims, expect_pushed, image
from bench.results import CallsRow, Table, TripsRow
from bench.signers import SignedPack, small_workload
from bench.stage import Stage, remove_tree
from bench.trips import Listener, trips
from bench.verdict import OURS
from bench.wire import Meter
from bench.workloads import Workload, make_files
from registry2 import RegistryServer

__all__ = ["CALLS", "PARTS", "PUSH", "SIGN", "claiming", "write_claim"]

# Titles of tables, and the names of contenders and steps in them.
PARTS, CALLS = "claims parts", "claims calls"
PUSH, SIGN = "push", "push, signed"

SIGNERS = (1, 2, 4)  # that a pull trusts, and wants
LARGE = (100, 1 << 20)  # files, and the bytes of each at scale 1
CALLED = 2000  # times, at scale 1
DELAY = 0.05  # seconds; more than threads need to send all that they send at once


def claiming(stage: Stage) -> Iterator[Table]:
    small = small_workload(stage)
    place = stage.folder("claims small")
    pack = SignedPack(stage, place, small, SIGNERS[-1])
    often = max(1, 20 * stage.plan.runs)  # single milliseconds count
    yield from _both_ways(stage, pack, 4 * stage.plan.runs)  # short runs vary more, and cost little
    yield _parts(stage, pack, 4 * stage.plan.runs)
    yield _process(stage, pack, often)
    yield _calls(stage, pack)
    yield _requests(stage, pack)
    size = max(1, round(LARGE[1] * stage.plan.scale))
    large = make_files(stage.kept / "workloads" / "signed" / f"{size}" / "large", LARGE[0], size)
    pack = SignedPack(stage, stage.folder("claims large"), large, SIGNERS[-1])
    yield from _both_ways(stage, pack, 2 * stage.plan.runs)


def write_claim(registry: RegistryServer, repository: str, folder: Path) -> None:
    """Write the image manifest of a pack, and its only claim, into a folder. Raises: NotDone unless there is one."""
    found = claims(registry, repository)
    expect(len(found) == 1, "one claim", len(found))
    (folder / "bundle.json").write_bytes(found[0])
    (folder / "image.json").write_bytes(image(registry, repository))


def _both_ways(stage: Stage, pack: SignedPack, runs: int) -> Iterator[Table]:
    workload = pack.workload
    with stage.registry(f"claims {workload.name}") as registry:
        pushers = [_pusher(registry, pack, PUSH, None), _pusher(registry, pack, SIGN, pack.keys[0])]
        yield compare(stage, "signed-push", workload, pushers, runs)
        where = f"http://{registry.address}/pulled"
        _push_signed(pack, where, stage.folder(f"claims pushed {workload.name}"))
        pullers = [_puller(pack, where, PULL, None)]
        pullers += [_puller(pack, where, pull_of(count), pack.policy(count)) for count in SIGNERS]
        yield compare(stage, "checked-pull", workload, pullers, runs)
    remove_tree(registry.storage)


def _push_signed(pack: SignedPack, where: str, run: Path) -> None:
    """Push a pack, signed by all keys."""
    execute(pack.push(where, run, pack.keys[0]), run)
    for key in pack.keys[1:]:
        pack.sign(where, key)


def _pusher(registry: RegistryServer, pack: SignedPack, name: str, key: Path | None) -> Contender:
    def repository(run: Run) -> str:
        return f"{'signed' if key else 'plain'}-{run.number}"  # new in every run, so that it has no blob yet

    def check(run: Run) -> None:
        expect_pushed(registry, repository(run), pack.workload, closely=run.first)
        found = len(claims(registry, repository(run)))
        expect(found == bool(key), int(bool(key)), found)

    return Contender(
        f"{OURS} {name}",
        lambda run: pack.push(f"http://{registry.address}/{repository(run)}", run.folder, key),
        check=check,
    )


def _puller(pack: SignedPack, where: str, name: str, policy: Path | None) -> Contender:
    return Contender(
        f"{OURS} {name}",
        lambda run: pack.pull(where, run.folder, run.folder, policy),  # a new machine each time
        check=lambda run: expect_copy(pack.workload, run.folder / run.stdout.strip(), closely=run.first),
        tidy=tidy_few(pack.workload),
    )


def _parts(stage: Stage, pack: SignedPack, runs: int) -> Table:
    """Return the table of what signing cannot do without, each in a process that has also all that is above it."""

    def part(name: str, word: str) -> Contender:
        script = stage.script("load_signing.py")
        command = pack.own(stage.scratch, stage.python, script, word, f"{pack.keys[0]}.key")
        return Contender(name, lambda run: command, check=prints(word))

    parts = [
        part("what a push loads", "nothing"),
        part("and cryptography", "cryptography"),
        part("and the key, opened", "key"),
    ]
    section, name = PARTS.split()
    return compare(stage, section, pack.workload._replace(name=name), parts, runs)


def _process(stage: Stage, pack: SignedPack, runs: int) -> Table:
    """Return the table of pushes and pulls in one process that has loaded all, and has opened the key."""
    place = stage.folder("claims process")
    with stage.registry("claims process") as registry:
        signed = f"http://{registry.address}/signed"
        _push_signed(pack, signed, place)
        order = {
            "uri": pack.uri,
            "key": f"{pack.keys[0]}.key",
            "registry": f"http://{registry.address}",
            "signed": signed,
            "machines": str(place / "machines"),
            "policies": {PULL: ""} | {pull_of(count): str(pack.policy(count)) for count in SIGNERS},
            "times": runs,
        }
        command = pack.own(place, stage.python, stage.script("claim_packs.py"), json.dumps(order))
        _, printed = execute(command, place)
    table = _table(PROCESS, pack.workload)
    for name, rounds in json.loads(printed).items():
        table.samples[name] = [Sample(seconds, cpu, 0) for seconds, cpu in rounds]
    return table


def _calls(stage: Stage, pack: SignedPack) -> Table:
    """Return the table of calls inside a process."""
    place = stage.folder("claims calls")
    times = max(10, round(CALLED * stage.plan.scale))
    with stage.registry("claims calls") as registry:
        execute(pack.push(f"http://{registry.address}/signed", place, pack.keys[0]), place)
        write_claim(registry, "signed", place)
    script = stage.script("claim_calls.py")
    _, printed = execute(pack.own(place, stage.python, script, place, pack.keys[0], pack.uri, str(times)), place)
    table = _table(CALLS, pack.workload)
    table.calls.extend(
        CallsRow(what=what, calls=times, seconds=seconds) for what, seconds in json.loads(printed).items()
    )
    return table


def _requests(stage: Stage, pack: SignedPack) -> Table:
    """Return the table of requests. Each step is done once, because the requests do not vary."""
    place = stage.folder("claims requests")
    table = _table(REQUESTS, pack.workload)
    listener = Listener(DELAY)
    with stage.registry("claims requests") as registry, Meter(registry.address, listener.observe) as meter:
        where = f"http://{meter.address}"

        def measured(step: str, command: Command, run: Path) -> None:
            stage.note(f"{table.title}: {step}")
            run.mkdir(exist_ok=True)
            listener.take()
            sample, _ = execute(command, run)
            row = TripsRow(contender=OURS, step=step, trips=trips(listener.take()), seconds=sample.seconds)
            table.trips.append(row)

        def new(step: str) -> Path:
            run = place / step.replace(" ", "-")
            run.mkdir()
            return run

        run = new(PUSH)
        measured(PUSH, pack.push(f"{where}/plain", run), run)
        run = new(SIGN)
        measured(SIGN, pack.push(f"{where}/signed", run, pack.keys[0]), run)
        for key in pack.keys[1:]:
            pack.sign(f"{where}/signed", key)
        policies: Sequence[tuple[str, Path | None]] = [
            (PULL, None),
            *((pull_of(count), pack.policy(count)) for count in SIGNERS),
        ]
        for step, policy in policies:
            run = new(step)
            measured(step, pack.pull(f"{where}/signed", run, run, policy), run)
    return table


def _table(title: str, workload: Workload) -> Table:
    section, name = title.split()
    return Table(section=section, workload=name, files=workload.files, size=workload.size)
