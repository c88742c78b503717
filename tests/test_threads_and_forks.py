"""Who may use which connection: threads share the pool, processes share nothing."""

from __future__ import absolute_import

import gc
import os
import threading
import time

import pytest
import support
from django.db import connection
from support import backends, end_of_work, in_child, in_thread, pid, unit_of_work, wait_until

import persistconn


def test_a_connection_given_back_in_one_thread_is_used_in_the_next_thread():
    before = unit_of_work()
    assert in_thread(unit_of_work) == before


def test_threads_at_work_at_once_have_connections_of_their_own():
    gate, pids = threading.Event(), []

    def work():
        pids.append(pid())
        gate.wait()
        end_of_work()

    threads = [threading.Thread(target=work) for number in range(5)]
    for thread in threads:
        thread.start()
    assert wait_until(lambda: len(pids) == 5)
    gate.set()
    for thread in threads:
        thread.join()
    assert len(set(pids)) == 5
    assert sorted(pids) == backends()


def test_the_connection_used_last_is_used_next():
    gate = threading.Event()

    def work():
        pid()
        gate.wait()
        end_of_work()

    thread = threading.Thread(target=work)
    thread.start()
    assert wait_until(lambda: len(backends()) == 1)
    gate.set()
    before = pid()
    thread.join()
    end_of_work()
    assert pid() == before
    end_of_work()


def test_a_thread_that_ends_without_giving_back_leaves_no_session_open():
    for _turn in range(5):
        in_thread(pid)
    gc.collect()
    assert wait_until(lambda: backends() == [])
    # Another thread closes the sessions, and counts each only when it is closed.
    assert wait_until(lambda: persistconn.stats()["default"]["in_use"] == 0)


def test_the_connection_of_a_dropped_wrapper_is_closed():
    from django.db import connections

    wrapper = connections["default"].__class__(connections["default"].settings_dict, "another")
    wrapper.cursor().close()
    assert len(backends()) == 1
    del wrapper
    gc.collect()
    assert wait_until(lambda: backends() == [])


def test_a_wrapper_made_by_hand_keeps_its_connection_when_other_work_ends():
    from django.db import connections

    wrapper = connections["default"].__class__(connections["default"].settings_dict, "another")
    wrapper.cursor().close()
    (its_own,) = backends()
    end_of_work()
    assert wrapper.connection is not None
    assert unit_of_work() != its_own
    wrapper.close()


def test_a_child_does_not_use_an_idle_connection_of_its_parent():
    before = unit_of_work()

    def work():
        assert pid() != before
        assert persistconn.stats()["default"]["discarded"] == {"fork": 1}
        end_of_work()

    assert in_child(work) == 0
    assert unit_of_work() == before


def test_a_child_does_not_use_a_connection_that_its_parent_has_in_use():
    before = pid()

    def work():
        assert pid() != before
        assert unit_of_work() != before
        assert persistconn.stats()["default"]["discarded"] == {"fork": 1}

    assert in_child(work) == 0
    assert pid() == before
    end_of_work()


@pytest.mark.skipif(not hasattr(os, "register_at_fork"), reason="Python has it since 3.7")
def test_a_child_without_a_query_closes_its_copy_of_its_parents_socket():
    unit_of_work(), pid()
    ours = len(sockets())

    def work():
        assert len(sockets()) == ours - 1

    assert in_child(work) == 0
    end_of_work()


def sockets():
    links = [os.path.join("/proc/self/fd", name) for name in os.listdir("/proc/self/fd")]
    return [link for link in links if os.path.lexists(link) and "socket" in os.readlink(link)]


@pytest.mark.skipif(support.BEFORE_1_6, reason="atomic() came with 1.6")
def test_a_child_is_not_in_its_parents_transaction(rows):
    from django.db import transaction

    def work():
        connection.cursor().execute("INSERT INTO item VALUES ('child')")
        end_of_work()

    with transaction.atomic():
        connection.cursor().execute("INSERT INTO item VALUES ('parent')")
        assert in_child(work) == 0
        transaction.set_rollback(True)
    assert rows() == ["child"]
    end_of_work()


@pytest.mark.parametrize(
    "do", [connection.close, end_of_work, persistconn.drain, persistconn.disable, gc.collect]
)
def test_no_action_of_a_child_ends_a_session_of_its_parent(do):
    in_use = pid()
    idle = in_thread(unit_of_work)
    assert in_child(do) == 0
    assert sorted([in_use, idle]) == backends()
    assert pid() == in_use
    assert in_thread(unit_of_work) == idle
    end_of_work()


def test_the_regular_exit_of_a_child_ends_no_session_of_its_parent():
    before = pid()
    child = os.fork()
    if child == 0:
        # The functions that sys.exit() runs at last; a real exit would also end this test run's
        # output.
        import atexit

        getattr(atexit, "_run_exitfuncs", lambda: None)()
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    assert pid() == before
    end_of_work()


def test_all_threads_of_a_child_get_the_same_new_object_from_per_process():
    from persistconn.fork import PerProcess

    inherited = []
    made = PerProcess(
        lambda: time.sleep(0.001) or object(), lambda mine, old: inherited.append(old)
    )
    parents = made.get()

    def work():
        seen = []
        threads = [threading.Thread(target=lambda: seen.append(made.get())) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(set(seen)) == 1
        assert seen[0] is not parents
        assert inherited == [parents]

    assert in_child(work) == 0
    assert made.get() is parents
