"""The benchmarks of tools/bench run, check the work of each contender, and count correctly. Speed is not tested."""

from __future__ import annotations

import dataclasses
import hashlib
import http.client
import itertools
import json
import os
import shutil
import subprocess
import sys
import sysconfig
import threading
import time
import urllib.request
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from xml.etree import ElementTree

import pytest

from bench.axis import LogAxis
from bench.bytegoals import judge_bytes
from bench.compare import expect, flat_digest
from bench.cutting import cutting
from bench.documents import SHAPES
from bench.figures import figures, pairwise, ratio
from bench.goals import judge
from bench.items import Items
from bench.measure import Command, Contender, NotDone, Run, Sample, alternate
from bench.plot import growth_plot, ratio_plot
from bench.programs import Programs
from bench.repushing import repushing
from bench.results import Results, Table, TripsRow, WireRow, load, save
from bench.squeezing import squeezing
from bench.stage import Plan, Stage, remove_tree
from bench.table import markdown, render, text
from bench.trips import Listener, Request, kind_of, trips
from bench.versioning import versioning
from bench.wire import Meter, blobs_in, requests_in
from bench.workloads import NAMES, make
from loopback import open_url
from registry2 import RegistryServer

ROOT = Path(__file__).resolve().parents[1]
CTXPACK = Path(sysconfig.get_path("scripts")) / "ctxpack"

SHELL = {"one pass: tar, igzip -1", "one pass: tar, pigz -1", "one pass: tar, uncompressed"}
CLIENTS = SHELL | {"ctxpack", "skopeo, tar | igzip -1", "skopeo, tar | pigz -1", "oras-py", "oras"}
CONTENDERS = {
    "hash": {
        *("ctxpack", "sha256, 1 thread", "sha256, 2 threads", "naive rglob + sha256"),
        *("nix-hash", "model-signing", "xargs -P2 openssl", "git hash-object", "b3sum", "dvc add --no-commit"),
    },
    "push": CLIENTS | {"limit: curl PATCH"},
    "pull": CLIENTS | {"limit: curl GET"},
    "requests": set(),  # its rows are steps of CtxPack alone
    "settle": {"ctxpack, CTXPACK_SETTLE=0", "ctxpack, default settle time"},
    "documents": {f"ctxpack, {shape}" for shape in SHAPES},
    "startup": {
        *("python -c pass", "ctxpack --help", "ctxpack id, tiny", "ctxpack pull, cached", "ctxpack run, cached"),
        "ctxpack run, cached, mode signed",
        *("git --version", "skopeo --version", "oras version", "dvc --version"),
        *("python -c 'import oras.client'", "python -c 'import model_signing'"),
    },
}
# Every machine that runs these tests has the programs for these.
ALWAYS = {"ctxpack", "sha256, 1 thread", "naive rglob + sha256", "one pass: tar, uncompressed", "limit: curl PATCH"}
ALWAYS |= CONTENDERS["settle"]
ALWAYS |= {"limit: curl GET", "xargs -P2 openssl", "git hash-object", "python -c pass", "ctxpack --help"}
ALWAYS |= {"ctxpack run, cached, mode signed"}


def test_a_tiny_run_has_every_contender_in_its_tables(tmp_path: Path) -> None:
    tiny: list[str | Path] = [
        "--scale",
        "0.001",
        "--runs",
        "0",
        "--only",
        "W2",
        "--no-fetch",
        "--work",
        tmp_path,
        "--ctxpack",
        CTXPACK,
    ]
    done = subprocess.run(
        [sys.executable, ROOT / "tools" / "bench" / "run.py", *tiny, *CONTENDERS],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    [path] = (tmp_path / "results").glob("*.json")
    results = load(path)
    assert [table.title for table in results.tables] == [
        *("hash W2", "push W2", "pull W2", "requests small", "settle small", "startup tiny"),
        *("documents contracts", "documents manifests"),
    ]
    for table in results.tables:
        assert table.samples.keys() | table.absent.keys() == CONTENDERS[table.section], table.title
        assert not table.samples.keys() & table.absent.keys()
        assert not {name: why for name, why in table.absent.items() if name in ALWAYS or "failed" in why}, table.title
        for name in CONTENDERS[table.section]:
            assert f"\n  {name}  " in done.stdout
    assert path.with_suffix(".txt").read_text("utf-8").strip() == done.stdout.strip()
    [asked] = [table.trips for table in results.tables if table.section == "requests"]
    assert [row.step for row in asked] == ["push", "push again", "pull", "inspect"]
    kinds = {row.step: sorted(itertools.chain.from_iterable(row.trips)) for row in asked}
    assert {"POST upload", "PUT blob", "PUT manifest", "PUT tag"} <= set(kinds["push"])
    for step in ("push again", "pull", "inspect"):
        assert {kind.partition(" ")[0] for kind in kinds[step]} == {"GET"}, step
    ElementTree.parse(path.with_suffix(".ratios.svg"))
    assert list((tmp_path / "scratch").iterdir()) == []


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    """The least that can be measured, with the programs that are on PATH."""
    for name in ("scratch", "kept"):
        (tmp_path / name).mkdir()
    programs = Programs(tmp_path / "peers", fetch=False)
    plan = Plan(0.001, 0, 60, only=("D", "D-1", "W1"))
    yield Stage(plan, tmp_path / "scratch", tmp_path / "kept", CTXPACK, programs)
    remove_tree(tmp_path / "scratch")


def test_every_goal_for_bytes_is_measured(stage: Stage) -> None:
    tables = [*repushing(stage), *versioning(stage, versions=2), *cutting(stage), *squeezing(stage)]
    assert [table.title for table in tables] == ["repush D-1", "versions D", "cut W1", "squeeze D"]
    verdicts = judge(results(*tables))
    assert [verdict for verdict in verdicts if verdict.met is None] == []
    assert [(verdict.table, verdict.goal) for verdict in verdicts if not verdict.goal.startswith("peak")] == [
        ("versions D", "ctxpack, last version against ctxpack, fresh pack"),
        ("repush D-1", "bytes of a push after 1 % changed"),
        ("repush D-1", "bytes of a pull after 1 % changed"),
        ("repush D-1", "push, unchanged"),
        ("repush D-1", "push, unchanged, from another cache"),
        ("versions D", "bytes of a pull against a fresh pack"),
        ("versions D", "growth of the registry against the changes"),
        ("versions D", "bytes of the largest push after the first"),
        ("cut W1", "bytes of a push after one cut at half"),
        ("squeeze D", next(verdict.goal for verdict in verdicts if verdict.table == "squeeze D")),
    ]
    [repushed, aged, cut, _] = tables
    first, second = (row for row in aged.wire if row.step in ("push, first version", "push, version 1"))
    assert second.up < first.up / 5, "the second version borrows from the first"
    assert [row.step for row in repushed.wire if row.contender == "ctxpack" and not row.blobs] == [
        *("pull, first version", "pull, 1 % changed", "push, unchanged", "push, unchanged, from another cache")
    ]
    whole, killed, _ = cut.wire
    assert whole.up / 2 <= killed.up < whole.up


def test_a_section_that_is_not_done_is_in_the_results_with_the_reason() -> None:
    table = Table(section="versions", workload="not done", files=0, size=0, absent={"ctxpack": "it ended with 1"})
    found = results(table)
    [verdict] = judge(found)
    assert verdict[3:] == ("not measured", None)
    assert "  ctxpack    absent: it ended with 1\n" in render(found, [verdict], text)


def test_an_unknown_section_is_refused_with_a_list_of_the_sections() -> None:
    run: list[str | Path] = [sys.executable, ROOT / "tools" / "bench" / "run.py", "pusch"]
    done = subprocess.run(run, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "no such section: pusch; there are: hash, rehash, seed, push" in done.stderr


def samples(*seconds: float, peak: int = 0, together: int = 0) -> list[Sample]:
    return [Sample(each, each / 2, peak, together) for each in seconds]


def test_figures_are_medians_and_extremes() -> None:
    each = figures([Sample(3, 1, 30), Sample(1, 5, 10, 70), Sample(2, 3, 20)])
    assert each == (3, 2, 1, 3, 3, 30, 70)
    assert figures(samples(1, 2, 4, 8)).seconds == 3


def test_a_drift_changes_the_ratio_of_medians_but_not_the_pairwise_ratio() -> None:
    ours, theirs = samples(1, 2, 30, 40, 50), samples(2, 4, 60, 80)
    assert pairwise(ours, theirs) == 0.5
    assert ratio(ours, theirs) == 30 / 32


def contender(name: str, script: str, order: list[str], stdout: str = "") -> Contender:
    def command(run: Run) -> Command:
        order.append(f"{name}{run.number}")
        return Command(["sh", "-c", script], run.folder, {"PATH": "/usr/bin:/bin"})

    return Contender(name, command, check=lambda run: expect(run.stdout == stdout, repr(stdout), repr(run.stdout)))


def test_contenders_alternate_and_the_warm_up_does_not_count(tmp_path: Path) -> None:
    order: list[str] = []
    both = [contender("a", "echo x", order, "x\n"), contender("b", "sleep 0.05", order)]
    taken = alternate(both, tmp_path, runs=2, patience=60, failed=lambda name, reason: pytest.fail(str(reason)))
    assert order == ["a0", "b0", "a1", "b1", "a2", "b2"]
    assert [len(taken[name]) for name in "ab"] == [2, 2]
    assert all(0.05 <= sample.seconds < 5 for sample in taken["b"])


def test_a_contender_that_fails_or_does_not_do_the_work_is_dropped_with_the_reason(tmp_path: Path) -> None:
    reasons: dict[str, str] = {}

    def failed(name: str, reason: NotDone) -> None:
        reasons[name] = str(reason)

    three = [
        contender("idle", "true", [], "work\n"),
        contender("broken", "echo no disk >&2; exit 3", []),
        contender("fine", "true", []),
    ]
    taken = alternate(three, tmp_path, runs=1, patience=60, failed=failed)
    assert list(taken) == ["fine"]
    assert reasons == {"idle": "expected 'work\\n', got ''", "broken": "sh ended with 3: no disk"}


def test_a_slow_contender_runs_no_more_and_keeps_its_only_sample(tmp_path: Path) -> None:
    order: list[str] = []
    taken = alternate(
        [contender("slow", "sleep 2", order), contender("quick", "true", order)],
        tmp_path,
        runs=3,
        patience=1.5,
        failed=lambda name, reason: pytest.fail(str(reason)),
    )
    assert order.count("slow0") == 1
    assert [len(taken["slow"]), len(taken["quick"])] == [1, 3]


def test_memory_is_that_of_the_process_tree_and_not_of_the_process_that_measures(tmp_path: Path) -> None:
    ballast = bytearray(200 << 20)  # of this process: must not count
    hog = f"{sys.executable} -c 'import time; x = b\"x\" * (60 << 20); time.sleep(1)'"
    two = [contender("small", "true", []), contender("pair", f"{hog} & {hog}; wait", [])]
    taken = alternate(two, tmp_path, runs=1, patience=60, failed=lambda name, reason: pytest.fail(str(reason)))
    assert figures(taken["small"]).peak < 40 << 20 < len(ballast)
    assert 60 << 20 < figures(taken["pair"]).peak < 100 << 20
    assert 120 << 20 < figures(taken["pair"]).together < 200 << 20


def test_workloads_are_the_same_every_time_and_differ_in_one_percent(tmp_path: Path) -> None:
    once = {name: make(name, tmp_path / "once", 0.01) for name in NAMES}
    again = {name: make(name, tmp_path / "again", 0.01) for name in NAMES}
    for name in NAMES:
        assert once[name][2:] == again[name][2:]
        assert flat_digest(once[name].folder) == flat_digest(again[name].folder)
    assert [once[name].files for name in NAMES] == [1, 200, 10, 2, 2, 2, 200, 200]
    rows = {name: rows_of(once[name].folder / "embeddings.f32") for name in ("W3out", "W4c", "W4s")}
    for name in ("W4c", "W4s"):
        changed = [number for number, row in enumerate(rows[name]) if row != rows["W3out"][number]]
        assert 0.005 < len(changed) / len(rows[name]) < 0.02
        gaps = sum(after - before > 1 for before, after in itertools.pairwise(changed))
        assert gaps == 2 if name == "W4c" else gaps > 2


def test_each_version_of_the_items_changes_others_and_leaves_a_linked_copy_alone(tmp_path: Path) -> None:
    items = Items(0.001)
    (tmp_path / "first").mkdir()
    items.write(tmp_path / "first")
    first = contents(tmp_path / "first")
    shutil.copytree(tmp_path / "first", tmp_path / "later", copy_function=os.link)
    changed: list[str] = []
    before = first
    for version in (1, 2, 3):
        size = items.change(tmp_path / "later", version)
        after = contents(tmp_path / "later")
        now = [name for name in after if after[name] != before[name]]
        assert len(now) == 2
        assert size == sum(len(after[name]) for name in now)
        assert all(len(after[name]) != len(before[name]) for name in now)
        changed, before = changed + now, after
    assert len(set(changed)) == 6
    assert contents(tmp_path / "first") == first
    assert all(5_000 <= len(text) <= 60_000 for text in before.values())
    together = b"".join(first.values())
    assert 0.45 < len(zlib.compress(together, 1)) / len(together) < 0.5


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def rows_of(path: Path) -> list[str]:
    data, width = path.read_bytes(), 768 * 4
    return [hashlib.sha256(data[start : start + width]).hexdigest() for start in range(0, len(data), width)]


def test_the_meter_counts_bytes_in_both_directions_and_the_log_counts_requests(registry: RegistryServer) -> None:
    log = registry.folder / "registry.log"
    before = requests_in(log)
    with Meter(registry.address) as meter:
        request = urllib.request.Request(f"http://{meter.address}/v2/", headers={"X-Ballast": "b" * 5000})
        with open_url(request, timeout=20) as answer:
            body = answer.read()
        traffic = meter.take()
        assert meter.take() == (0, 0)
    assert 5000 < traffic.up < 6000
    assert len(body) < traffic.down < 2000
    wait_until_logged(log, before + 1)


def test_a_blob_counts_once_although_it_takes_several_requests(registry: RegistryServer) -> None:
    log = registry.folder / "registry.log"
    before, blobs = requests_in(log), blobs_in(log)
    connection = http.client.HTTPConnection(registry.address, timeout=20)
    put_blob(connection, registry.address, b"one")
    wait_until_logged(log, before + 2)
    assert blobs_in(log) == blobs + 1


def put_blob(connection: http.client.HTTPConnection, address: str, body: bytes) -> None:
    connection.request("POST", "/v2/trips/blobs/uploads/")
    started = connection.getresponse()
    started.read()
    location = started.headers["Location"].partition(address)[2]
    connection.request("PUT", f"{location}&digest=sha256:{hashlib.sha256(body).hexdigest()}", body=body)
    assert connection.getresponse().status == 201
    connection.close()


def get(address: str, path: str) -> None:
    with open_url(f"http://{address}{path}", timeout=20) as answer:
        answer.read()


def wait_until_logged(log: Path, requests: int) -> None:
    """Wait until the log has so many requests: the registry may write the line a moment after it has answered."""
    deadline = time.monotonic() + 10
    while requests_in(log) < requests and time.monotonic() < deadline:
        time.sleep(0.02)
    assert requests_in(log) == requests


def test_requests_on_one_connection_are_separate_and_requests_at_once_are_one_trip(registry: RegistryServer) -> None:
    log = registry.folder / "registry.log"
    before = requests_in(log)
    listener = Listener(delay=0.5)
    with Meter(registry.address, listener.observe) as meter:
        body = b"GET /v2/ HTTP/1.1\r\n" * 10_000  # several blocks; none of them is a request
        put_blob(http.client.HTTPConnection(meter.address, timeout=20), meter.address, body)
        both = [threading.Thread(target=get, args=(meter.address, "/v2/")) for _ in range(2)]
        for thread in both:
            thread.start()
        for thread in both:
            thread.join()
        get(meter.address, f"/v2/trips/blobs/sha256:{hashlib.sha256(body).hexdigest()}")
        taken = listener.take()
        assert listener.take() == []
    assert trips(taken) == [["POST upload"], ["PUT blob"], ["GET root", "GET root"], ["GET blob"]]
    wait_until_logged(log, before + 5)


def test_round_trips_are_the_longest_chain_of_requests_that_waited() -> None:
    long, short = Request("long", 0, 9), Request("short", 1, 2)
    after, last = Request("after", 3, 4), Request("last", 9, 10)
    assert trips([]) == []
    assert trips([last, after, short, long]) == [["long", "short"], ["after"], ["last"]]
    assert trips([Request("never answered", 0), Request("later", 5, 6)]) == [["never answered", "later"]]


@pytest.mark.parametrize(
    ("method", "path", "kind"),
    [
        ("HEAD", "/v2/team/packs/manifests/ctx-ab", "HEAD tag"),
        ("GET", "/v2/team/packs/manifests/sha256:ab", "GET manifest"),
        ("POST", "/v2/packs/blobs/uploads/?mount=sha256:ab", "POST upload"),
        ("PUT", "/v2/packs/blobs/uploads/f3-a?_state=x&digest=sha256%3Aab", "PUT blob"),
        ("GET", "/v2/packs/blobs/sha256:ab", "GET blob"),
        ("GET", "/v2/packs/tags/list?n=5", "GET tags"),
        ("GET", "/v2/packs/referrers/sha256:ab", "GET referrers"),
        ("GET", "/v2/", "GET root"),
        ("GET", "/token?service=x", "GET /token"),
    ],
)
def test_a_request_is_named_after_its_method_and_kind_of_path(method: str, path: str, kind: str) -> None:
    assert kind_of(method, path) == kind


def test_requests_are_shown_by_trip_and_older_results_have_no_trips(tmp_path: Path) -> None:
    row = TripsRow(
        contender="ctxpack", step="push", trips=[["HEAD tag"], ["PUT blob", "HEAD blob", "PUT blob"]], seconds=1
    )
    found = results(Table(section="requests", workload="small", files=5, size=9, trips=[row]))
    save(found, tmp_path / "r.json")
    assert load(tmp_path / "r.json") == found
    expected = "| ctxpack | push | 4 | 2 | 1.000 | HEAD tag; 2 x PUT blob, HEAD blob |"
    assert expected in render(found, judge(found), markdown)
    older = json.loads((tmp_path / "r.json").read_text())
    del older["tables"][0]["trips"]
    (tmp_path / "r.json").write_text(json.dumps(older))
    assert load(tmp_path / "r.json").tables[0].trips == []


def results(*tables: Table) -> Results:
    return Results(scale=1, runs=2, machine={"memory": "1 GiB"}, programs={"oras": "absent: no go"}, tables=[*tables])


HASH = Table(
    section="hash",
    workload="W2",
    files=20,
    size=8_000_000,
    samples={"ctxpack": samples(2, 4, peak=30 << 20), "nix-hash": samples(3, 3), "naive rglob + sha256": samples(30)},
    absent={"model-signing": "no index | no wheel"},
)


def test_goals_are_judged_by_the_ratio_of_medians_unless_a_contender_is_absent() -> None:
    verdicts = {verdict.goal: verdict for verdict in judge(results(HASH))}
    assert verdicts["time against nix-hash"][2:] == ("<= 1.00 x", "1.00 x", True)
    assert verdicts["time against naive rglob + sha256"][2:] == (">= 5 x faster", "10.0 x faster", True)
    assert verdicts["time against model-signing"][2:] == (">= 5 x faster", "not measured", None)
    assert verdicts["peak memory"][2:] == ("<= 100 MiB", "30 MiB", True)


def test_the_memory_of_all_processes_counts_if_it_is_more_than_that_of_the_largest() -> None:
    workers = Table(
        section="push",
        workload="W1",
        files=1,
        size=1,
        samples={"ctxpack": samples(1, peak=60 << 20, together=110 << 20)},
    )
    [verdict] = [verdict for verdict in judge(results(workers)) if verdict.goal == "peak memory"]
    assert verdict[2:] == ("<= 100 MiB", "110 MiB", False)


def row(step: str, up: int, down: int = 0, *, requests: int = 4, blobs: int = 0) -> WireRow:
    return WireRow(contender="ctxpack", step=step, up=up, down=down, requests=requests, blobs=blobs, seconds=1)


def judged(workload: str, wire: Sequence[WireRow], section: str, amounts: dict[str, int]) -> list[tuple[str, object]]:
    """Return what the verdicts on the bytes of a table say; its outputs have 1,000,000 bytes."""
    table = Table(section=section, workload=workload, files=2, size=1_000_000, wire=[*wire], amounts=amounts)
    return [(verdict.got, verdict.met) for verdict in judge_bytes(table)]


def test_a_changed_pack_may_send_some_bytes_and_an_unchanged_one_no_blob() -> None:
    steps = [
        row("push, first version", 1_000_000, blobs=81),
        row("pull, first version", 0, 1_000_000),
        row("push, 1 % changed", 10_000, 6_000),
        row("pull, 1 % changed", 1_000, 16_000),
        row("push, unchanged", 900, 100, blobs=1),
        row("push, unchanged, from another cache", 900, 100, requests=5),
    ]
    assert judged("W4c", steps, "repush", {}) == [
        ("1.6 %", True),
        ("1.7 %", False),
        ("81", False),
        ("1 blobs, 4 requests", False),
        ("0 blobs, 5 requests", False),
    ]
    assert [met for _, met in judged("D-1", steps, "repush", {})] == [True, True, False, False]


def test_the_last_of_many_versions_is_judged_by_what_has_changed() -> None:
    steps = [
        row("push, first version", 500_000),
        row("push, version 1", 10_000),
        row("push, version 2", 60_001),
        row("pull, fresh pack", 0, 500_000),
        row("pull, last version", 0, 650_000),
    ]
    amounts = {"registry, first version": 400_000, "registry, last version": 448_000}
    assert judged("D", steps, "versions", amounts) == [("1.30 x", True), ("2.40 x", True), ("12.0 %", False)]
    amounts["registry, last version"] += 1
    assert judged("D", steps, "versions", amounts)[1] == ("2.40 x", False)


def test_a_push_after_a_cut_may_send_little_more_than_half() -> None:
    for up, met in ((550_000, True), (551_000, False)):
        steps = [row("push, whole", 1_000_000), row("push, killed at half", 500_000), row("push, again", up)]
        assert judged("W1", steps, "cut", {}) == [(f"{up / 10_000:.1f} %", met)]


def test_the_bytes_of_a_pack_are_judged_beside_one_stream() -> None:
    for workload, met in (("W3out", False), ("D", True)):
        amounts = {"ctxpack, all layers": 103, "tar | igzip -1": 100}
        assert judged(workload, [], "squeeze", amounts) == [("1.03 x", met)]


def test_the_memory_of_every_step_counts() -> None:
    wire = [dataclasses.replace(row("push, whole", 1), peak=peak << 20) for peak in (30, 101, 0)]
    found = judge(results(Table(section="other", workload="W1", files=1, size=1, wire=wire)))
    assert [(verdict.goal, verdict.got, verdict.met) for verdict in found] == [
        ("peak memory of any step", "101 MiB", False)
    ]


@pytest.mark.parametrize(
    ("values", "ticks"),
    [
        ([0.6, 12], [0.5, 1, 2, 5, 10, 20]),
        ([1], [1, 2]),
        ([0.1, 10], [0.1, 0.2, 0.5, 1, 2, 5, 10]),
        ([1_000, 1_000_000], [1_000, 10_000, 100_000, 1_000_000]),
    ],
)
def test_a_logarithmic_axis_has_round_values_at_its_ends_and_between(values: list[float], ticks: list[float]) -> None:
    axis = LogAxis.around(values, 100, 300)
    assert axis.ticks(7) == ticks
    assert (axis.at(ticks[0]), axis.at(ticks[-1])) == (100, 300)
    assert axis.at((ticks[0] * ticks[-1]) ** 0.5) == pytest.approx(200)
    assert axis.at(ticks[-1] * 5) == 300


def test_growth_is_judged_by_the_cost_of_a_byte() -> None:
    def grown(size: int, seconds: float, peak: int) -> Table:
        taken = {"id": samples(seconds, peak=peak)}
        return Table(section="growth", workload=f"{size}", files=1, size=size, samples=taken)

    verdicts = judge(results(grown(100, 1, 10 << 20), grown(1000, 14, 11 << 20)))
    assert [(verdict.goal, verdict.got, verdict.met) for verdict in verdicts[2:]] == [
        ("id: cost of a byte", "1.40 x", False),
        ("id: peak memory", "1.10 x", True),
    ]


def test_results_are_the_same_after_save_and_load_and_are_shown_as_text_markdown_and_pictures(tmp_path: Path) -> None:
    growth = [
        Table(section="growth", workload=f"{n}", files=n, size=n, samples={"id": samples(n, peak=n << 20)})
        for n in (10, 100)
    ]
    found = results(HASH, *growth)
    save(found, tmp_path / "r.json")
    assert load(tmp_path / "r.json") == found
    assert json.loads((tmp_path / "r.json").read_text())["tables"][0]["samples"]["ctxpack"][0][0] == 2
    plain = render(found, judge(found), text)
    assert "hash W2: 20 files, 8.0 MB\n" in plain
    assert "model-signing         absent: no index | no wheel" in plain
    page = render(found, judge(found), markdown)
    assert "| nix-hash | 3.000 | 3.000 – 3.000 | 1.00 |" in page
    assert "absent: no index \\| no wheel" in page
    for picture in (ratio_plot(found), growth_plot(found)):
        assert len(ElementTree.fromstring(picture)) > 4
