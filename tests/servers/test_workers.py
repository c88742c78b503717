"""gunicorn's workers that end under load: at a reload, by max_requests, and by time-outs that kill.

`--stock` shows Django without persistconn.
"""

from __future__ import absolute_import

import collections
import os
import signal
import threading
import time

import pytest
import support
from processes import PATIENCE, environment, program, serving, without_persistconn
from support import wait_until

gunicorn = pytest.importorskip("gunicorn")

WORKERS, THREADS, CLIENTS, MAX_REQUESTS = 2, 4, 6, 15
#: Seconds after which gunicorn aborts a worker that gives it no sign of life.
TIMEOUT = 2

COMMAND = [program("gunicorn"), "project.wsgi", "--bind=127.0.0.1:PORT"]
COMMAND += ["--workers=%d" % WORKERS, "--timeout=%d" % TIMEOUT, "--graceful-timeout=10"]
COMMAND += ["--max-requests=%d" % MAX_REQUESTS, "--max-requests-jitter=%d" % MAX_REQUESTS]
# Threads give a sign of life while a request holds one of them, so gunicorn never aborts them.
KINDS = {"sync": [], "gthread": ["--worker-class=gthread", "--threads=%d" % THREADS]}

Asked = collections.namedtuple("Asked", "began ended answer")
Killed = collections.namedtuple("Killed", "began ended answer has_died")


class Load(object):
    """Clients that ask for pages until the end of the block."""

    def __init__(self, server):
        self._server, self._end = server, threading.Event()
        self.asked = []
        self._threads = [threading.Thread(target=self._run) for _number in range(CLIENTS)]

    def _run(self):
        while not self._end.is_set():
            self.asked.append(ask(self._server, "/who/?seconds=0.01"))

    def processes(self, since):
        """The workers that have answered requests which began since then."""
        answers = [asked.answer for asked in list(self.asked) if asked.began >= since]
        return set(answer["process"] for answer in answers if isinstance(answer, dict))

    def __enter__(self):
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *exception):
        self._end.set()
        for thread in self._threads:
            thread.join()


def ask(server, path):
    began = time.time()
    try:
        answer = server.get(path)
    except Exception as error:
        answer = error
    return Asked(began, time.time(), answer)


class Run(object):
    """A server under load whose workers end in every way, and what was seen of it."""

    def __init__(self, server, worker):
        self._server, self.worker, self.killed = server, worker, {}
        with Load(server) as self.load:
            self.began_well = self._are_all_at_work()
            self.reloaded = self._reload()
            self.recycled = wait_until(lambda: len(self.load.processes(0)) > 2 * WORKERS, PATIENCE)
            self._kill("killed", lambda process: os.kill(process, signal.SIGKILL))
            if worker == "sync":
                self._kill("timed out", lambda process: None)
            self.ended_well = self._are_all_at_work()
        wait_until(lambda: sessions_of_the_dead() == [], 1)
        self.left = sessions_of_the_dead()
        self.log = server.log()

    def _are_all_at_work(self):
        began = time.time()
        return wait_until(lambda: len(self.load.processes(began)) >= WORKERS, PATIENCE)

    def _reload(self):
        before = self.load.processes(0)
        self._server.signal(signal.SIGHUP)
        return wait_until(lambda: not any(is_alive(process) for process in before), PATIENCE)

    def _kill(self, name, kill):
        """Kill a worker in the middle of a request that holds a session."""
        asked, path = [], "/slow/?seconds=60&tag=%s" % name.replace(" ", "+")
        thread = threading.Thread(target=lambda: asked.append(ask(self._server, path)))
        thread.start()
        assert wait_until(lambda: holder(name) is not None, PATIENCE), self._server.log()
        process, began = holder(name), time.time()
        kill(process)
        has_died = wait_until(lambda: not is_alive(process), PATIENCE)
        thread.join()
        self.killed[name] = Killed(began, time.time(), asked[0].answer, has_died)

    def failures(self):
        """The requests that failed, but for those that a killed worker may have had in work."""
        failed = [asked for asked in self.load.asked if not isinstance(asked.answer, dict)]
        if self.worker == "sync":
            return failed  # it had the victim in work
        ends = self.killed.values()
        return [
            asked
            for asked in failed
            if not any(asked.began < end.ended and asked.ended > end.began for end in ends)
        ]


def holder(tag):
    """The worker in whose session this tag was asked last, or None."""
    sql = "SELECT max(application_name) FROM pg_stat_activity WHERE state != 'active' AND query LIKE %s"
    name = support.ask(sql, None, "SELECT CAST('" + tag + "'%")
    return name and int(name.split()[1])


def sessions_of_the_dead():
    sql = (
        "SELECT application_name, state, query FROM pg_stat_activity"
        " WHERE application_name LIKE 'worker %'"
    )
    return [row for row in support.query(sql) if not is_alive(int(row[0].split()[1]))]


def is_alive(process):
    try:
        os.kill(process, 0)
    except OSError:
        return False
    return True


@pytest.fixture(scope="module", params=sorted(KINDS))
def run(request, tmpdir_factory):
    if request.param == "gthread":
        pytest.importorskip("concurrent.futures")
    env = environment(SERVERS_NAMED="yes")
    if request.config.getoption("--stock"):
        env = without_persistconn(env)
    folder = str(tmpdir_factory.mktemp("workers"))
    with serving(COMMAND + KINDS[request.param], env, folder) as server:
        run = Run(server, request.param)
        print(
            "%s: %d requests by %d workers, %d failed, killed %s, left %s"
            % (
                request.param,
                len(run.load.asked),
                len(run.load.processes(0)),
                len([asked for asked in run.load.asked if not isinstance(asked.answer, dict)]),
                run.killed,
                run.left,
            )
        )
        yield run


def test_a_reload_replaces_all_workers_under_load(run):
    assert run.began_well and run.reloaded, run.log


def test_workers_end_after_max_requests(run):
    assert run.recycled, run.log


def test_a_killed_worker_ends_in_the_middle_of_its_request(run):
    assert [killed for killed in run.killed.values() if not killed.has_died] == []
    assert [killed for killed in run.killed.values() if isinstance(killed.answer, dict)] == []


def test_the_workers_after_a_killed_one_answer_requests(run):
    assert run.ended_well, run.log


def test_no_request_fails_but_those_of_a_killed_worker(run):
    if run.worker == "gthread" and gunicorn.version_info[0] == 23:
        pytest.skip("it resets connections that it has accepted, with stock Django too")
    assert run.failures() == [], run.log


def test_no_session_of_a_dead_worker_is_left_on_the_server(run):
    assert run.left == []
