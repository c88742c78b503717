"""A server for the faults, the contender that uses it, and the table of the results."""

from __future__ import absolute_import

import json
import os
import sys
import threading

import pytest

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [HERE, os.path.dirname(HERE), os.path.dirname(os.path.dirname(HERE))]

import contenders  # noqa: E402
import scenarios  # noqa: E402
import support  # noqa: E402
from cluster import Cluster  # noqa: E402


def pytest_addoption(parser):
    group = parser.getgroup("faults")
    group.addoption("--contender", choices=contenders.ALL, default=contenders.PERSISTCONN)
    group.addoption("--all-faults", action="store_true", help="and not a tenth of them")
    group.addoption("--json", help="write the table to this file, for merge.py")
    group.addoption("--require-all", action="store_true", help="what is missing is an error")


def pytest_configure(config):
    scenarios.full = config.getoption("all_faults")
    scenarios.cluster = Cluster()
    try:
        scenarios.cluster.start()
    except Cluster.NoServer as error:
        pytest.exit("These tests need a server with TLS: %s" % error)
    try:
        contenders.set_up_django(scenarios.cluster, config.getoption("contender"))
    except contenders.NotOnThisDjango as error:
        scenarios.cluster.stop()
        pytest.exit(str(error))


def pytest_unconfigure(config):
    scenarios.cluster.stop()


def pytest_report_header(config):
    return "%s: %s" % (contenders.chosen, scenarios.versions())


def pytest_terminal_summary(terminalreporter):
    terminalreporter.section("faults, %s" % contenders.chosen)
    for line in scenarios.table():
        terminalreporter.write_line(line)
    path = terminalreporter.config.getoption("json")
    if path:
        with open(path, "w") as results:
            results.write(json.dumps(results_of_run(), indent=1, sort_keys=True) + "\n")


def results_of_run():
    return {
        "contender": contenders.chosen,
        "versions": scenarios.versions(),
        "full": scenarios.full,
        "rows": scenarios.rows,
    }


@pytest.fixture(scope="session")
def missing(request):
    """For tests that lack a program or a right: skips, or with --require-all fails."""

    def tell(reason):
        if request.config.getoption("require_all"):
            pytest.fail(reason)
        pytest.skip(reason)

    return tell


@pytest.fixture
def ours():
    """Skip the test for other contenders: only persistconn promises this."""
    if not contenders.is_ours():
        pytest.skip("a promise of persistconn alone")


@pytest.fixture
def cluster():
    return scenarios.cluster


@pytest.fixture(autouse=True)
def nothing_is_left_behind():
    before = threads()
    yield
    contenders.close_all()
    if contenders.is_ours():
        assert support.wait_until(lambda: scenarios.cluster.backends() == []), "sessions are left"
        assert support.wait_until(lambda: threads() <= before), threads() - before
    scenarios.cluster.reset()


def threads():
    # persistconn's housekeeper ends a second after the last idle connection has gone.
    return set(t for t in threading.enumerate() if t.name != "persistconn housekeeper")
