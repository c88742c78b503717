"""A wrapper that several threads use: who owns it, and what happens when two threads end it."""

from __future__ import absolute_import

import gc
import os
import sys
import threading
from functools import partial

import django
import pytest
import support
from django.db import DatabaseError, connection, connections
from support import (
    backends,
    end_of_work,
    get,
    in_thread,
    pid,
    pids_at_once,
    put_wrapper,
    settings_as,
    share,
    together,
    wait_until,
)

import persistconn

pytestmark = pytest.mark.skipif(
    not hasattr(connection, "allow_thread_sharing"), reason="it came with 1.4"
)

since_1_6 = pytest.mark.skipif(support.BEFORE_1_6, reason="Django has it since 1.6")


@pytest.fixture
def shared():
    """The main thread's own wrapper, which other threads may use."""
    wrapper = connections["default"]
    share(wrapper)
    yield wrapper
    wrapper.close()
    share(wrapper, False)


def stats():
    return persistconn.stats()["default"]


def execute(wrapper, sql):
    cursor = wrapper.cursor()
    cursor.execute(sql)
    return cursor


def ask(wrapper, sql=support.chosen.PID):
    return execute(wrapper, sql).fetchone()[0]


drivers_that_wait = support.only_on(
    "postgresql", "MySQL's drivers let no two threads use a connection at the same time"
)


def here(work):
    return work()


# The owner of a wrapper, and its helpers: threads that are given the wrapper, as an object.

opened_by = pytest.mark.parametrize("opened_by", [here, in_thread], ids=["owner", "helper"])


def a_request():
    assert get("/pid/").status == 200


@opened_by
@pytest.mark.parametrize("end", [end_of_work, a_request], ids=["end of work", "request"])
def test_the_end_of_a_helpers_work_does_not_end_a_shared_wrapper(shared, opened_by, end):
    opened_by(lambda: execute(shared, support.chosen.TEMPORARY_TABLE))
    in_thread(lambda: (ask(shared), end()))
    assert ask(shared, "SELECT count(*) FROM mine") == 0


def test_a_helper_that_opened_a_shared_wrapper_does_not_end_that_wrapper_with_its_work(shared):
    def helper():
        execute(shared, support.chosen.TEMPORARY_TABLE)
        end_of_work()

    in_thread(helper)
    other = in_thread(lambda: (pid(), end_of_work())[0])
    assert other != ask(shared)
    assert ask(shared, "SELECT count(*) FROM mine") == 0


@opened_by
def test_the_end_of_its_owners_work_gives_a_shared_wrappers_connection_back(shared, opened_by):
    before = opened_by(lambda: ask(shared))
    end_of_work()
    assert shared.connection is None
    assert (stats()["in_use"], stats()["idle"], backends()) == (0, 1, [before])


def begin_by_hand(wrapper):
    execute(wrapper, "SELECT 1" if support.BEFORE_1_6 else "BEGIN")


def switch_autocommit_off(wrapper):
    wrapper.set_autocommit(False)


BEGINNINGS = [begin_by_hand] + ([] if support.BEFORE_1_6 else [switch_autocommit_off])


@opened_by
@pytest.mark.parametrize("begin", BEGINNINGS, ids=lambda begin: begin.__name__)
def test_a_row_that_a_helper_left_uncommitted_is_rolled_back_at_the_end_of_the_owners_work(
    shared, rows, opened_by, begin
):
    opened_by(lambda: ask(shared))

    def helper():
        begin(shared)
        execute(shared, "INSERT INTO item VALUES ('left')")

    in_thread(helper)
    end_of_work()
    assert wait_until(lambda: support.states() == ["idle"])
    assert support.fetch("SELECT count(*) FROM item") == 0
    end_of_work()
    assert rows() == []


@since_1_6
def test_autocommit_that_a_helper_switched_off_is_on_for_the_next_user(shared):
    in_thread(lambda: shared.set_autocommit(False))
    end_of_work()
    pid()
    assert connection.get_autocommit() is True
    end_of_work()


QUERIES, THREADS = 3000, 4


@drivers_that_wait
def test_threads_that_share_a_wrapper_get_no_errors(shared):
    ask(shared)
    errors = []

    def work():
        for number in range(QUERIES):
            try:
                if ask(shared, "SELECT %d" % number) != number:
                    errors.append("another's answer")
            except Exception as error:
                errors.append(error)

    together(*[work] * THREADS)
    assert errors[:3] == []
    end_of_work()


@drivers_that_wait
def test_threads_that_share_a_wrapper_get_no_errors_while_the_wrapper_is_checked(shared):
    ask(shared)
    with settings_as(PERSISTCONN_CHECK_AFTER=0):
        errors = []

        def work():
            for number in range(QUERIES // 10):
                try:
                    if ask(shared, "SELECT %d" % number) != number:
                        errors.append("another's answer")
                except Exception as error:
                    errors.append(error)

        together(*[work] * THREADS)
        assert errors[:3] == []
        end_of_work()


# close() from a thread that may not close the wrapper.


def test_a_close_from_a_foreign_thread_leaves_the_connection_in_use():
    with settings_as(PERSISTCONN_MAX_CONNS=1, PERSISTCONN_TIMEOUT=0):
        before = pid()
        wrapper = connections["default"]
        with pytest.raises(DatabaseError):
            in_thread(wrapper.close)
        assert (stats()["in_use"], backends()) == (1, [before])
        with pytest.raises(support.database_errors()):
            in_thread(pid)
        assert pid() == before
        end_of_work()
        assert (stats()["in_use"], stats()["idle"]) == (0, 1)


def test_the_owner_may_close_a_wrapper_after_a_refused_close_from_a_foreign_thread():
    before = pid()
    wrapper = connections["default"]
    with pytest.raises(DatabaseError):
        in_thread(wrapper.close)
    wrapper.close()
    assert wait_until(lambda: before not in backends())
    assert (stats()["in_use"], stats()["idle"]) == (0, 0)


# Two threads that end a wrapper at the same moment.


def end(wrapper):
    """End a unit of work whose thread has the wrapper as its own, as in a LiveServerTestCase."""
    put_wrapper(wrapper, "default")
    end_of_work()


def close(wrapper):
    try:
        wrapper.close()
    except AttributeError:
        # Django before 1.6 looks twice for the connection, which another thread may close between.
        if django.VERSION >= (1, 6):
            raise


def use(wrapper):
    try:
        ask(wrapper)
    except Exception:
        pass  # as in stock Django, if another thread closes the wrapper meanwhile


class Next(object):
    """The next thread, which has a connection until it is told to give it back."""

    def __init__(self):
        self.pids, self._got, self._ended = [], threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._run)

    def _run(self):
        try:
            self.pids.append(pid())
            self._got.set()
            self._ended.wait()
        finally:
            self._got.set()
            end_of_work()

    def come(self):
        self._thread.start()
        self._got.wait()

    def go(self):
        if self._thread.ident is not None:
            self._ended.set()
            self._thread.join()


def assert_that_each_has_a_session_of_its_own(wrapper, others=()):
    """Check the wrapper, a new thread, and the threads that have the sessions ``others``."""
    pids = pids_at_once(2) + list(others)
    assert len(set(pids)) == len(pids)


def assert_that_all_are_accounted_for(wrapper):
    assert wrapper.connection is None
    # A session in the middle of a query is left to its user, whose error can be in a cycle with the
    # session.
    gc.collect()
    assert stats()["in_use"] == 0
    assert wait_until(lambda: stats()["idle"] == len(backends()))


ROUNDS = 100

PAIRS = [(end, end)]
if support.databases.NAME != "mariadb":
    # Before mysqlclient 2.3 the interpreter crashes if two threads use a connection at once.
    PAIRS += [(end, close), (close, close), (end, use)]

pairs = pytest.mark.parametrize(
    "one, other", PAIRS, ids=lambda function: getattr(function, "__name__", None)
)


@pairs
def test_a_wrapper_that_two_threads_end_at_once_shares_no_session(shared, one, other):
    for _round in range(ROUNDS):
        ask(shared)
        together(partial(one, shared), partial(other, shared))
        assert_that_each_has_a_session_of_its_own(shared)
        assert_that_all_are_accounted_for(shared)


OURS = os.path.dirname(persistconn.__file__)

#: Seconds that the other work has. If it takes longer, it waits for something that the first thread
#: holds.
TURN = 0.2


class Interruption(object):
    """Runs other work to its end before a thread runs a given line of persistconn."""

    def __init__(self, line, work):
        self._left, self._thread = line, threading.Thread(target=work)

    def has_come(self):
        return self._left <= 0

    def _trace(self, frame, event, argument):
        if not frame.f_code.co_filename.startswith(OURS):
            return None
        if event == "line" and not self.has_come():
            self._left -= 1
            if self.has_come():
                self._thread.start()
                self._thread.join(TURN)
        return self._trace

    def of(self, work):
        sys.settrace(self._trace)
        try:
            work()
        finally:
            sys.settrace(None)
        if self.has_come():
            self._thread.join()


def interrupt(one, line, other, wrapper):
    """Return whether there was such a line to be interrupted at."""
    following = Next()

    def meanwhile():
        other(wrapper)
        following.come()

    ask(wrapper)
    interruption = Interruption(line, meanwhile)
    try:
        in_thread(lambda: interruption.of(partial(one, wrapper)))
        # A connection that Django opened by itself between two steps counts from its next use on.
        if wrapper.connection is None:
            assert stats()["in_use"] == len(following.pids)
        assert_that_each_has_a_session_of_its_own(wrapper, following.pids)
    finally:
        following.go()
    assert_that_all_are_accounted_for(wrapper)
    return interruption.has_come()


@pytest.mark.parametrize(
    "one, other",
    PAIRS + [(close, end), (use, end), (use, close)],
    ids=lambda function: getattr(function, "__name__", None),
)
def test_a_wrapper_that_is_ended_between_two_steps_of_another_thread_shares_no_session(
    shared, one, other
):
    line = 1
    while interrupt(one, line, other, shared):
        line += 1
    assert line > 1
