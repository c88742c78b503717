"""A primary and a standby for the poolers, and Django with persistconn as the faults have it."""

from __future__ import absolute_import

import os
import sys
import threading

import pytest

HERE = os.path.dirname(os.path.abspath(__file__))
TESTS = os.path.dirname(HERE)
sys.path[:0] = [HERE, os.path.join(TESTS, "faults"), TESTS, os.path.dirname(TESTS)]

import contenders  # noqa: E402
import scenarios  # noqa: E402
import support  # noqa: E402
from basics import find_program  # noqa: E402
from cluster import Cluster  # noqa: E402
from middlemen import pgbouncer_version  # noqa: E402

PROGRAMS = ("pgbouncer", "pgpool", "haproxy")


def pytest_addoption(parser):
    parser.addoption(
        "--all", dest="all_poolers", action="store_true", help="ten times the work and the faults"
    )


def pytest_configure(config):
    missing = [name for name in PROGRAMS if find_program(name) is None]
    if missing:
        pytest.exit("These tests need programs that are not installed: %s" % ", ".join(missing))
    scenarios.full = config.getoption("all_poolers")
    scenarios.cluster = Cluster()
    try:
        scenarios.cluster.start()
    except Cluster.NoServer as error:
        pytest.exit("These tests need a PostgreSQL with TLS: %s" % error)
    support.PROJECT["ROOT_URLCONF"] = "pooler_urls"
    contenders.set_up_django(scenarios.cluster, contenders.PERSISTCONN)


def pytest_unconfigure(config):
    if scenarios.cluster is not None:
        scenarios.cluster.stop()


def pytest_report_header(config):
    return "%s, PgBouncer %d.%d" % ((scenarios.versions(),) + pgbouncer_version())


def pytest_terminal_summary(terminalreporter):
    terminalreporter.section("poolers")
    for line in scenarios.table():
        terminalreporter.write_line(line)


@pytest.fixture
def cluster():
    return scenarios.cluster


@pytest.fixture
def pair():
    """A primary and its standby, made for this test."""
    primary, standby = Cluster(), None
    try:
        primary.start()
        # A commit is over when the standby shows it, too.
        primary.reload(synchronous_commit="remote_apply")
        standby = primary.standby()
        yield primary, standby
    finally:
        for server in (standby, primary):
            if server is not None:
                server.stop()


@pytest.fixture(autouse=True)
def nothing_is_left_behind():
    import persistconn

    before = threads()
    yield
    if not persistconn.is_enabled():
        persistconn.enable()
        pytest.fail("persistconn was left switched off")
    contenders.close_all()
    assert support.wait_until(lambda: scenarios.cluster.backends() == []), "sessions are left"
    assert support.wait_until(lambda: threads() <= before), threads() - before
    scenarios.cluster.reset()


def threads():
    # persistconn's housekeeper ends a second after the last idle connection has gone.
    return set(t for t in threading.enumerate() if t.name != "persistconn housekeeper")
