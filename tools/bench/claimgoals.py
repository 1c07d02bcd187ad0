"""The goals of signed claims, and whether the results meet them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from bench.figures import cpu_beyond, figures, ratio
from bench.results import Table
from bench.verdict import OURS, Verdict

__all__ = [
    "FLIPS",
    "PROCESS",
    "PULL",
    "REQUESTS",
    "SIGNED_HIT",
    "STARTUP",
    "judge_claims",
    "pull_of",
]

# Titles of tables, and the names of contenders and steps in them.
PROCESS, REQUESTS = "claims process", "claims requests"
FLIPS, STARTUP = "flips small", "startup tiny"
PULL = "pull"
SIGNED_HIT = f"{OURS} run, cached, mode signed"

CPU = 0.010  # seconds of a claim, beyond a push or pull without it in the same process
STARTS = 1.1  # times the seconds of an earlier version


def pull_of(signers: int) -> str:
    """Return the name of a pull that trusts so many signers, and wants all their claims."""
    return f"{PULL}, {signers} signer{'s' * (signers != 1)}"


def judge_claims(tables: Mapping[str, Table]) -> Iterator[Verdict]:
    """Yield a verdict for each goal whose tables were measured. tables: by title."""
    for title, table in tables.items():
        judge = _TABLES.get(title)
        if judge is not None:
            yield from judge(table)


def _judge_process(table: Table) -> Iterator[Verdict]:
    for name, samples in table.samples.items():
        plain = name.partition(",")[0]
        if name != plain and plain in table.samples:
            more = cpu_beyond(samples, table.samples[plain])
            wanted, got = f"<= {CPU * 1000:g} ms", f"{more * 1000:.1f} ms"
            yield Verdict(table.title, f"{name}: CPU beyond {plain}", wanted, got, more <= CPU)


def _judge_requests(table: Table) -> Iterator[Verdict]:
    rows = {row.step: (sum(map(len, row.trips)), len(row.trips)) for row in table.trips}
    for step in (step for step in rows if step.startswith(PULL) and step != PULL and PULL in rows):
        signers = int(step.removeprefix(f"{PULL}, ").split()[0])
        requests, trips = (mine - plain for mine, plain in zip(rows[step], rows[PULL], strict=True))
        wanted = f"<= {signers} requests, <= 1 round trip"
        got = f"{requests} requests, {trips} round trip{'s' * (trips != 1)}"
        yield Verdict(table.title, f"{step}: more than {PULL}", wanted, got, requests <= signers and trips <= 1)


def _judge_starts(table: Table) -> Iterator[Verdict]:
    for name, samples in table.samples.items():
        if name.startswith(f"{OURS} "):
            before = f"before {'run, cached' if name == SIGNED_HIT else name.removeprefix(f'{OURS} ')}"
            if before in table.samples:
                others = table.samples[before]
                times, cpu = ratio(samples, others), figures(samples).cpu / figures(others).cpu
                got = f"{times:.2f} x, CPU {cpu:.2f} x"
                yield Verdict(table.title, f"{name} against {before}", f"<= {STARTS:g} x", got, times <= STARTS)


def _judge_flips(table: Table) -> Iterator[Verdict]:
    for row in table.calls:
        got = f"{row.refused:,} of {row.calls:,}, in {row.seconds:.1f} s"
        yield Verdict(table.title, f"{row.what}, each flipped", "all refused", got, row.refused == row.calls > 0)


_TABLES: dict[str, Callable[[Table], Iterator[Verdict]]] = {
    PROCESS: _judge_process,
    REQUESTS: _judge_requests,
    STARTUP: _judge_starts,
    FLIPS: _judge_flips,
}
