"""gunicorn's workers of all kinds, with the project loaded before and after the fork."""

from __future__ import absolute_import

import collections
import json
import os

import pytest
import support
from processes import DatabaseLog, Samples, environment, program, serving

pytestmark = pytest.mark.skipif(not program("gunicorn"), reason="gunicorn is not installed")

WORKERS, THREADS, GREENLETS, CLIENTS, REQUESTS, MAX_CONNS = 2, 4, 6, 12, 120, 2
MASTERS = 2  # sessions that the master has under --preload: one in use, one idle

Kind = collections.namedtuple("Kind", "worker preload max_conns")
KINDS = [
    Kind(worker, preload, max_conns)
    for worker, max_conns in [
        ("sync", None),
        ("gthread", None),
        ("gthread", MAX_CONNS),
        ("gevent", None),
        ("gevent", MAX_CONNS),
    ]
    for preload in (False, True)
]


class Run(object):
    """One gunicorn from its start to its end, under load, and all that was seen of it."""

    def __init__(self, kind, folder):
        self.kind, self.log_of_database = kind, DatabaseLog()
        report = os.path.join(folder, "report.json")
        with serving(self._command(), self._environment(report), folder) as server:
            paths = ["/who/?seconds=0.02&tag=%d" % number for number in range(REQUESTS)]
            with Samples() as self.samples:
                self.answers = server.get_many(paths, CLIENTS)
            self.seconds_to_end, self.exit_code = server.terminate()
            self.log = server.log()
        self.left = support.backends()
        self.bad_leaves = self.log_of_database.bad_leaves()
        self.report = None
        if os.path.exists(report):
            with open(report) as file:
                self.report = json.load(file)

    def _command(self):
        command = [program("gunicorn"), "project.wsgi", "--bind=127.0.0.1:PORT"]
        command += ["--config=project/gunicorn_settings.py", "--worker-class", self.kind.worker]
        command += ["--workers=%d" % WORKERS, "--graceful-timeout=10"]
        if self.kind.worker == "gthread":
            command.append("--threads=%d" % THREADS)
        elif self.kind.worker == "gevent":
            command.append("--worker-connections=%d" % GREENLETS)
        return command + ["--preload"] * self.kind.preload

    def _environment(self, report):
        more = {"SERVERS_REPORT": report}
        if self.kind.preload:
            more["SERVERS_QUERY_AT_IMPORT"] = "query_and_end_at_import"
        if self.kind.worker == "gevent":
            more["SERVERS_GEVENT"] = "yes"
        bound = {"MAX_CONNS": self.kind.max_conns, "TIMEOUT": 20}
        return environment(settings=bound if self.kind.max_conns else {}, **more)

    def processes_by_backend(self):
        processes = collections.defaultdict(set)
        for answer in self.answers:
            processes[answer["backend"]].add(answer["process"])
        return processes

    def bound(self):
        at_once = {"sync": 1, "gthread": THREADS, "gevent": GREENLETS}[self.kind.worker]
        bound = WORKERS * min(at_once, self.kind.max_conns or at_once)
        return bound + MASTERS * self.kind.preload


def title(kind):
    words = [kind.worker, "preload" * kind.preload, "bounded" * bool(kind.max_conns)]
    return "-".join(word for word in words if word)


@pytest.fixture(scope="module", params=KINDS, ids=title)
def run(request, tmpdir_factory):
    if request.param.worker == "gevent":
        pytest.importorskip("gevent")
    if request.param.worker == "gthread":
        pytest.importorskip("concurrent.futures")
    return Run(request.param, str(tmpdir_factory.mktemp("gunicorn")))


def test_every_request_is_answered_with_its_own_tag(run):
    tags = [isinstance(answer, dict) and answer["tag"] for answer in run.answers]
    assert tags == [str(number) for number in range(REQUESTS)], run.answers


def test_there_are_never_more_sessions_than_units_of_work(run):
    assert run.samples.taken > 5
    assert run.samples.most <= run.bound()


def test_sessions_are_used_again(run):
    assert len(run.processes_by_backend()) <= run.bound()


def test_no_session_serves_two_processes(run):
    shared = [pids for pids in run.processes_by_backend().values() if len(pids) > 1]
    assert shared == []


def test_the_children_leave_the_masters_sessions_alone(run):
    if not run.kind.preload:
        pytest.skip("the master has no session")
    before, after = run.report["before"], run.report["after"]
    assert set(run.processes_by_backend()).isdisjoint([before["in_use"], before["idle"]])
    assert after == before


def test_gunicorn_ends_promptly(run):
    assert run.exit_code == 0, run.log
    assert run.seconds_to_end < 5


def test_gunicorn_leaves_no_session_and_no_unexpected_eof(run):
    assert run.left == []
    assert run.bad_leaves == []


def test_the_log_of_gunicorn_has_no_errors(run):
    lines = [line for line in run.log.splitlines() if "ResourceWarning" not in line]
    # gunicorn leaves sockets of its own open.
    lines += [line for line in warnings(run.log) if "unclosed <socket" not in line]
    for word in ("Traceback", "ResourceWarning", "Error", "[ERROR]", "[CRITICAL]"):
        assert [line for line in lines if word in line] == [], run.log


def warnings(log):
    return [line for line in log.splitlines() if ": ResourceWarning: " in line]
