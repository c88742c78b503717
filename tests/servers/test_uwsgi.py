"""uWSGI without lazy-apps: the master loads the project and forks its workers."""

from __future__ import absolute_import

import collections
import signal

import django
import pytest
import support
from processes import DatabaseLog, Samples, environment, program, serving

pytestmark = pytest.mark.skipif(
    not program("uwsgi"), reason="uWSGI is not installed; it needs a C compiler"
)

WORKERS, THREADS, REQUESTS = 2, 3, 80

# uWSGI forks without holding Python's lock. A thread that has the lock at that moment keeps it for
# ever in the child, which does not have that thread. Where a statement opens a transaction, the end
# of work starts such a thread: the watchdog.
AT_IMPORT = "query_at_import" if django.VERSION < (1, 6) else "query_and_end_at_import"
MASTERS = 1 if django.VERSION < (1, 6) else 2

COMMAND = [program("uwsgi"), "--http-socket=127.0.0.1:PORT", "--module=project.wsgi", "--master"]
COMMAND += ["--processes=%d" % WORKERS, "--threads=%d" % THREADS, "--enable-threads"]
COMMAND += ["--die-on-term", "--need-app", "--disable-logging", "--pythonpath=."]


@pytest.fixture
def server(tmpdir):
    env = environment(SERVERS_QUERY_AT_IMPORT=AT_IMPORT)
    with serving(COMMAND, env, str(tmpdir)) as server:
        server.masters = set(support.backends())
        assert len(server.masters) == MASTERS
        yield server


def ask(server):
    """The processes that answered over each session, under load."""
    answers = server.get_many(["/who/?seconds=0.02&tag=%d" % n for n in range(REQUESTS)], 12)
    tags = [isinstance(answer, dict) and answer["tag"] for answer in answers]
    assert tags == [str(number) for number in range(REQUESTS)], server.log()
    processes = collections.defaultdict(set)
    for answer in answers:
        processes[answer["backend"]].add(answer["process"])
    return processes


def test_there_are_never_more_sessions_than_threads(server):
    with Samples() as samples:
        ask(server)
    assert samples.most <= MASTERS + WORKERS * THREADS


def test_no_session_serves_two_processes(server):
    assert [pids for pids in ask(server).values() if len(pids) > 1] == []


def test_the_workers_leave_the_masters_sessions_alone(server):
    assert server.masters.isdisjoint(ask(server))
    assert server.masters <= set(support.backends())


def test_uwsgi_ends_promptly_and_leaves_no_session(server):
    log = DatabaseLog()
    ask(server)
    seconds, code = server.terminate()
    assert code in (0, -signal.SIGTERM), server.log()
    assert seconds < 5
    assert support.wait_until(lambda: support.backends() == [], 1)
    assert "Traceback" not in server.log()
    # The master itself ends without telling Python, so its sessions are not closed in order.
    masters = ["[%d]" % backend for backend in server.masters]
    lines = [line for line in log.bad_leaves() if not any(pid in line for pid in masters)]
    assert lines == []
