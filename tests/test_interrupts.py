"""Signal handlers, destructors and log handlers may call persistconn, and query, at any moment."""

from __future__ import absolute_import

import gc
import itertools
import logging
import os
import signal
import sys

import forked
import pytest
import support
from django.db import connection, connections
from interrupts import Helper, Steps, check_all_is_well, walk
from support import end_of_work, fetch

import persistconn

SLOTS = 2


@pytest.fixture(autouse=True)
def bounded():
    with support.settings_as(PERSISTCONN_MAX_CONNS=SLOTS, PERSISTCONN_TIMEOUT=3):
        yield


def off_and_on():
    persistconn.disable()
    assert not persistconn.is_enabled()
    persistconn.enable()
    assert persistconn.is_enabled()


calls = pytest.mark.parametrize("call", [persistconn.stats, persistconn.drain, off_and_on])


def unit_of_work():
    try:
        assert fetch("SELECT 1") == 1
    finally:
        end_of_work()


def life():
    """Connect, give back, take again, close."""
    persistconn.drain()
    unit_of_work()
    fetch("SELECT 1")
    connection.close()


def interrupt_everywhere(interrupt, child):
    """Run ``life()`` with ``interrupt()`` before each step. Return how many steps there were."""

    def interrupt_and_tell():
        child.goes_on(steps.last)
        interrupt()

    with Steps(lambda: None):
        life()  # Python 3.12 and later watch the opcodes of a function from its second call on
    steps = Steps(interrupt_and_tell)
    with steps:
        life()
    check_all_is_well([Helper() for _ in range(SLOTS - 1)])
    return steps.taken


def signalled(handle):
    """Return an interrupt: a real signal, whose handler calls ``handle()``."""
    handled = []

    def on_signal(number, frame):
        handle()
        handled.append(number)

    def interrupt():
        del handled[:]
        os.kill(os.getpid(), signal.SIGUSR1)
        while not handled:
            pass

    signal.signal(signal.SIGUSR1, on_signal)
    return interrupt


@calls
def test_a_signal_handler_may_call_persistconn_at_any_moment(call):
    forked.run(lambda child: interrupt_everywhere(signalled(call), child))


@calls
def test_a_destructor_may_call_persistconn_at_any_moment(call):
    ended = []

    class Garbage(object):
        def __del__(self):
            call()
            ended.append(True)

    def interrupt():
        cycle = [Garbage()]
        cycle.append(cycle)
        del cycle
        gc.collect(0)

    def work(child):
        steps = interrupt_everywhere(interrupt, child)
        assert len(ended) == steps

    forked.run(work)


def test_signals_whose_handler_does_nothing_disturb_no_unit_of_work():
    def work(child):
        signal.signal(signal.SIGALRM, lambda number, frame: None)
        signal.setitimer(signal.ITIMER_REAL, 0.0003, 0.0003)
        for number in range(2000):
            child.goes_on("unit of work %d" % number)
            unit_of_work()

    forked.run(work)


class LogHandler(logging.Handler):
    """Makes a call at each record, except at the records of its own calls."""

    def __init__(self, call):
        logging.Handler.__init__(self)
        self.call, self.is_calling, self.records = call, False, []

    def emit(self, record):
        if not self.is_calling:
            self.records.append(record.getMessage())
            self.is_calling = True
            self.call()
            self.is_calling = False


def test_a_log_handler_may_call_persistconn_at_each_record():
    def records(call, closed_port):
        handler, logger = LogHandler(call), logging.getLogger("persistconn")
        logger.addHandler(handler)
        logger.setLevel(logging.DEBUG)
        life()
        # Each port has a circuit breaker of its own, which logs its first failure only.
        with support.database_as(PORT=closed_port), pytest.raises(support.database_errors()):
            unit_of_work()
        logger.removeHandler(handler)
        check_all_is_well([Helper() for _ in range(SLOTS - 1)])
        return handler.records

    def work(child):
        calls = [(persistconn.stats, "1"), (persistconn.drain, "2"), (off_and_on, "3")]
        return [record for call, port in calls for record in records(call, port)]

    with support.settings_as(PERSISTCONN_CONNECT_DEADLINE=0.2):
        told = forked.run(work)
    for words in ("opened", "discarded", "cannot be reached"):
        assert [record for record in told if words in record], told


def test_a_signal_handler_may_query_over_an_alias_of_its_own_at_any_moment():
    moments = itertools.count()

    def work():
        if next(moments) % 7 == 0:
            assert fetch("SELECT 2", "other") == 2
            # Before 1.6 one alias alone can be closed, but not given back.
            other = connections["other"]
            getattr(other, "close_if_unusable_or_obsolete", other.close)()

    with support.database_as("other", NAME=support.DATABASE):
        forked.run(lambda child: interrupt_everywhere(signalled(work), child))


def query():
    assert fetch("SELECT 2") == 2


def is_in_a_command_of_pymysql():
    frame = sys._getframe()
    while frame is not None and frame.f_globals.get("__name__") != "pymysql.connections":
        frame = frame.f_back
    return frame is not None


def query_at_any_moment(handle, errors=()):
    """Handle signals at any moment but one: a query within a command would take its answer.

    That is so without persistconn, too. Other drivers' commands are not in Python.
    """
    interrupts, helpers = [], [Helper() for _ in range(SLOTS - 1)]

    def setup():
        interrupts[:] = [signalled(lambda: is_in_a_command_of_pymysql() or handle())]

    def check():
        check_all_is_well(helpers)

    walk(setup, unit_of_work, check, act=lambda: interrupts[0](), errors=errors, stride=11)


def test_a_signal_handler_may_query_at_any_moment():
    query_at_any_moment(query)


def test_a_signal_handler_may_end_the_work_that_it_interrupts():
    # In stock Django, too, the interrupted work then finds that its connection is None.
    query_at_any_moment(unit_of_work, errors=(AttributeError,))


def test_a_signal_handler_may_end_the_work_of_a_backend_that_has_its_own_close(monkeypatch):
    wrapper = connections["default"]
    monkeypatch.setitem(wrapper.__dict__, "close", lambda: wrapper.__class__.close(wrapper))
    query_at_any_moment(unit_of_work, errors=(AttributeError,))
