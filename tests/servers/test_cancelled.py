"""Requests under ASGI whose clients go away at random moments, in every kind of view.

`--cancelled=1000` is the full form, `--stock` shows Django without persistconn.
"""

from __future__ import absolute_import

import json
import time

import django
import pytest
import support
from clients import NUMBERS, Storm
from processes import PATIENCE, environment, program, serving, without_persistconn
from support import wait_until

pytestmark = pytest.mark.skipif(django.VERSION < (3, 1), reason="Django has async views since 3.1")

since_4_0 = pytest.mark.skipif(django.VERSION < (4, 0), reason="all requests share a transaction")
since_4_1 = pytest.mark.skipif(django.VERSION < (4, 1), reason="querysets have no async iterator")
VIEW_GOES_ON = (5, 0) <= django.VERSION < (6, 1)
from_5_0_to_6_0 = pytest.mark.skipif(not VIEW_GOES_ON, reason="the view ends with its request")
not_from_5_0_to_6_0 = pytest.mark.skipif(
    VIEW_GOES_ON, reason="the view goes on without its request"
)

SLOTS = 4
SETTINGS = {"MAX_CONNS": SLOTS, "TIMEOUT": 2}

# Until 4.2, Django's mail to nobody repeats the queries of an error's frames, one error at a time.
# While all slots are taken, each of these queries waits for TIMEOUT.
LOGGING = {"version": 1, "disable_existing_loggers": False, "loggers": {"django": {"handlers": []}}}

APPLICATION = "project.storm_asgi:application"
UVICORN = ["uvicorn", APPLICATION, "--port=PORT", "--no-access-log"]
# Once a second it cancels the requests whose clients are gone; without the option, after 10.
DAPHNE = ["daphne", APPLICATION, "-p", "PORT", "--application-close-timeout=0", "-v0"]

#: The server, and whether project.storm_asgi cancels the request of a client that hangs up, as a
#: time-out does.
KINDS = {
    "uvicorn": (UVICORN, False),
    "uvicorn, cancelled": (UVICORN, True),
    "daphne": (DAPHNE, False),
}


def serving_with(command, folder, is_stock=False):
    if not program(command[0]):
        pytest.skip("%s is not installed" % command[0])
    env = environment(settings=SETTINGS, PYTHONWARNINGS="ignore")
    env["SERVERS_SETTINGS"] = json.dumps(dict(json.loads(env["SERVERS_SETTINGS"]), LOGGING=LOGGING))
    if is_stock:
        env = without_persistconn(env)
    return serving([program(command[0])] + command[1:], env, folder)


def told(server, name):
    """What the server tells without Django, which would end the work of a thread."""
    return server.get("/told/")[name]


def in_use(server):
    stats = told(server, "stats")
    # Stock Django has no idle sessions.
    return len(support.sessions()) if stats is None else stats.get("in_use", 0)


class Run(object):
    """A storm that is over, and what was seen a second after the end of its last view."""

    def __init__(self, server, storm):
        self.storm, self._server = storm, server
        began = time.time()
        storm.run()
        self.seconds = time.time() - began
        if storm.end is None:
            self.has_ended = wait_until(lambda: told(server, "running") == 0, PATIENCE)
            wait_until(lambda: in_use(server) == 0, 1)
            self.in_use, self.sessions = in_use(server), support.sessions()
            self.stats, self.ends = told(server, "stats"), told(server, "ends")
            self.answers = self._ask_at_once()
        self.log = server.log()

    def _ask_at_once(self):
        # Before 4.0 all requests share a thread, and one request asks in four threads.
        requests = SLOTS if django.VERSION >= (4, 0) else 1
        answers = self._server.get_many(["/at/once/"] * requests, SLOTS)
        errors = [answer for answer in answers if not isinstance(answer, list)]
        return errors or sum(answers, [])

    def __str__(self):
        if self.storm.end is not None:
            return "%s: %s" % (self.storm, self.storm.end)
        seen = "%.1f s, views ended %s, requests %s, in use %d, sessions %s, at once %s, %s"
        states = sorted(session[1] for session in self.sessions)
        ends = (self.has_ended, self.ends, self.in_use, states, self.answers, self.stats)
        return "%s: " % self.storm + seen % ((self.seconds,) + ends)


@pytest.fixture(scope="module", autouse=True)
def tables():
    database = support.DATABASE
    support.ask("CREATE TABLE storm_row (number integer PRIMARY KEY)", database)
    support.ask("INSERT INTO storm_row SELECT generate_series(0, %d)" % NUMBERS[-1], database)
    support.ask("CREATE TABLE storm_note (tag text PRIMARY KEY)", database)
    yield
    support.ask("DROP TABLE storm_row, storm_note", database)


@pytest.fixture(scope="module", params=sorted(KINDS))
def run(request, tables, tmpdir_factory):
    option, (command, cancels) = request.config.getoption, KINDS[request.param]
    folder = str(tmpdir_factory.mktemp("cancelled"))
    with serving_with(command, folder, option("--stock")) as server:
        more = {"root": "/cancelled/", "within": 0.1, "bodies": 0.05}
        run = Run(server, Storm(server, option("--cancelled"), 1, cancels, **more))
    print("%s: %s" % (request.param, run))
    return run


@pytest.fixture
def afterwards(run):
    """The run, unless its server hangs or has died."""
    if run.storm.end is not None:
        pytest.skip(run.storm.end)
    return run


def test_the_server_outlives_all_clients(run):
    assert run.storm.end is None, run.log[-20000:]
    assert dict(run.storm.failures) == {}, run.log[-20000:]


def test_all_views_of_cancelled_requests_end(afterwards):
    assert afterwards.has_ended


def test_no_connection_is_in_use_a_second_after_the_last_view(afterwards):
    assert afterwards.in_use == 0


def test_no_session_is_left_in_a_transaction_of_a_cancelled_request(afterwards):
    assert [session for session in afterwards.sessions if session[1] != "idle"] == []


def test_no_slot_is_lost_to_a_cancelled_request(afterwards):
    assert len(set(afterwards.answers)) == SLOTS, afterwards.answers


def test_no_write_of_a_cancelled_request_is_committed_by_another(afterwards):
    assert support.ask("SELECT count(*) FROM storm_note", support.DATABASE) == 0


def test_no_end_of_a_cancelled_request_fails(afterwards):
    """asyncio logs an error that nobody has asked for."""
    assert "Future exception was never retrieved" not in afterwards.log


@pytest.fixture(scope="module")
def server(tables, tmpdir_factory):
    with serving_with(UVICORN, str(tmpdir_factory.mktemp("uvicorn"))) as server:
        yield server


def checkouts(server):
    stats = told(server, "stats")
    return stats["opened"] + stats["reused"] if stats else 0


def gives_all_back(server):
    return wait_until(lambda: in_use(server) == 0, 1)


def hang_up(server, path, query):
    """Have a request cancelled once its session has had this query, and is idle since."""
    began = support.ask("SELECT clock_timestamp()")
    asked = (
        "SELECT count(*) FROM pg_stat_activity"
        " WHERE state LIKE 'idle%%' AND query LIKE %s AND query_start > %s"
    )
    url = path + "?cancel&tag=x&seconds=60"
    server.hang_up(url, lambda line: support.ask(asked, None, query, began))


WAITING = [
    ("/async/slow/", "SELECT CAST%"),
    pytest.param("/async/holds_a_transaction/", "INSERT%", marks=since_4_0),
    pytest.param("/async/holds_a_cursor/", "FETCH%", marks=[since_4_1, not_from_5_0_to_6_0]),
]


@pytest.mark.parametrize("path, query", WAITING)
def test_a_request_that_is_cancelled_while_it_waits_gives_its_session_back(server, path, query):
    hang_up(server, path, query)
    assert gives_all_back(server)


@from_5_0_to_6_0
def test_a_view_that_goes_on_after_its_request_was_cancelled_reads_on_and_then_ends(server):
    hang_up(server, "/async/reads_on/", "FETCH%")
    assert wait_until(lambda: told(server, "totals") == [sum(NUMBERS)])
    assert gives_all_back(server)


@pytest.mark.parametrize("path", ["/async/missing/", "/async/refused/"])
def test_an_error_page_or_a_log_that_uses_the_database_gives_its_session_back(server, path):
    before = checkouts(server)
    answers = server.get_many([path + "?asks"] * 20, SLOTS)
    assert [answer for answer in answers if answer.args[0][1] not in (404, 409)] == []
    assert checkouts(server) >= before + 20
    assert gives_all_back(server)
