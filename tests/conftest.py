"""A private PostgreSQL and Django settings for the run, and a check that tests leave nothing."""

from __future__ import absolute_import

import os
import sys
import threading

import pytest

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [HERE, os.path.dirname(HERE)]

import support  # noqa: E402

server = support.chosen.Server()


def pytest_configure(config):
    try:
        server.start()
    except support.chosen.NoServer as error:
        pytest.exit("These tests need a server: %s" % error)
    support.set_up_django(server)


def pytest_unconfigure(config):
    server.stop()


def pytest_report_header(config):
    import django
    import wrapt

    words = (django.get_version(), support.driver.__name__, support.chosen.DRIVER_VERSION)
    version = support.ask(support.chosen.VERSION)
    return "Django %s, %s %s, wrapt %s, %s %s" % (
        words + (wrapt.__version__, support.databases.NAME, version)
    )


@pytest.fixture(autouse=True)
def nothing_is_left_behind():
    """Fail a test that leaves a patch, a connection, a thread or a setting behind."""
    import persistconn

    persistconn.drain()
    before = (support.settings_now(), threads())
    yield
    left = []
    if not persistconn.is_enabled():
        left.append("persistconn switched off")
        persistconn.install()
        persistconn.enable()
    if support.patches_in_force() != support.all_patches:
        left.append("patches missing or added")
    if support.settings_now() != before[0]:
        left.append("settings")
    if support.is_in_a_request():
        left.append("a request that has not ended")
        support.end_request()
    for wrapper in support.open_wrappers():
        left.append("an open connection of %r" % str(wrapper.alias))
        wrapper.close()
    persistconn.drain()
    if not support.wait_until(lambda: support.backends() == []):
        left.append("backends %r" % support.backends())
        support.kill_backends()
    if not support.wait_until(lambda: threads() <= before[1]):
        left.append("threads %r" % (threads() - before[1]))
    if left:
        pytest.fail("left behind: " + ", ".join(left))


def threads():
    # asgiref keeps its executor's threads for ever. persistconn's housekeeper ends a second after
    # the last idle connection has gone.
    kept = ("ThreadPoolExecutor", "persistconn housekeeper")
    return set(t for t in threading.enumerate() if not t.name.startswith(kept))


@pytest.fixture
def clock(monkeypatch):
    """persistconn's clock, which tests can put forward: waiting for MAX_AGE would take minutes."""
    from persistconn import compat, databases

    class Clock(object):
        ahead = 0

        def forward(self, seconds):
            self.ahead += seconds

    clock, real = Clock(), compat.monotonic
    monkeypatch.setattr(compat, "monotonic", lambda: real() + clock.ahead)
    yield clock
    clock.ahead = 0
    for pool in databases.pools.all():
        # These moments may have been ahead of the real clock.
        pool.next_spare_at, pool.writing.replacing_since = 0, float("-inf")


@pytest.fixture
def pings(monkeypatch):
    """The answers to the checks' SELECT 1, in order; each is really sent to the server."""
    from persistconn import drivers

    stock, answers = drivers.Driver.ping, []

    def ping(self, raw, *args):
        answers.append(stock(self, raw, *args))
        return answers[-1]

    monkeypatch.setattr(drivers.Driver, "ping", ping)
    return answers


@pytest.fixture
def rows():
    """The names in table "item", as another session sees them. The table is emptied before."""
    support.ask("TRUNCATE item", database=support.DATABASE)
    return lambda: sorted(
        name for name, in support.query("SELECT name FROM item", database=support.DATABASE)
    )
