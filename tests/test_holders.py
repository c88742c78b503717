"""Who holds the connections: what a PoolTimeout and HELD_TOO_LONG say."""

from __future__ import absolute_import

import logging
import threading
import time

import django
import django.core.signals
import django.dispatch
import pytest
import support
from support import end_of_work, in_thread, pid, settings_as, wait_until

import persistconn
from persistconn.errors import PoolTimeout

since_1_6 = pytest.mark.skipif(support.BEFORE_1_6, reason="atomic() came with 1.6")
# Before, the signal does not carry the request.
since_1_8 = pytest.mark.skipif(django.VERSION < (1, 8), reason="the path is told since 1.8")


class Log(logging.Handler):
    """Keeps the warnings of persistconn."""

    def __init__(self):
        logging.Handler.__init__(self, logging.WARNING)
        self.records = []

    def emit(self, record):
        self.records.append(record)


@pytest.fixture
def log():
    handler, logger = Log(), logging.getLogger("persistconn")
    logger.addHandler(handler)
    yield handler
    logger.removeHandler(handler)


class Holding(object):
    """A thread that does something with a connection, and keeps it until the test is over."""

    def __init__(self, begin, name):
        self._begin, self._stop, self._started = begin, threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._run, name=name)
        self._thread.start()
        assert self._started.wait(10) is not False

    def _run(self):
        try:
            self._begin(self.wait)
        finally:
            end_of_work()

    def wait(self):
        self._started.set()
        self._stop.wait()

    def stop(self):
        self._stop.set()
        self._thread.join()


@pytest.fixture
def hold():
    """A function that starts a Holding thread."""
    threads = []

    def start(begin, name="the holder"):
        threads.append(Holding(begin, name))

    yield start
    for thread in threads:
        thread.stop()


def unused(wait):
    pid()
    wait()


def refused(bound=1):
    """The PoolTimeout of a thread that finds all connections in use."""
    with settings_as(PERSISTCONN_MAX_CONNS=bound, PERSISTCONN_TIMEOUT=0):
        with pytest.raises(PoolTimeout) as error:
            in_thread(pid)
    return error.value


def holder():
    found = refused().holders
    assert len(found) == 1
    return found[0]


def test_a_pool_timeout_names_the_thread_that_holds_the_connection(hold):
    hold(unused)
    assert holder()["thread"] == "the holder"
    assert "Held by the holder for " in str(refused())


def test_a_holder_has_the_alias_of_its_connection(hold):
    hold(unused)
    assert holder()["alias"] == "default"


def test_a_holder_tells_where_its_thread_is_now(hold):
    hold(unused)
    where = holder()["where"]
    assert "threading.py" in where[0]
    assert where[-1].endswith(" in wait") and "test_holders.py" in where[-1]


def test_no_place_within_django_or_persistconn_is_told(hold):
    def within_django(wait):
        pid()
        signal = django.dispatch.Signal()
        signal.connect(lambda **kwargs: time.sleep(0.5), weak=False)
        threading.Timer(0.1, wait).start()
        signal.send(sender=None)

    hold(within_django)
    (place,) = holder()["where"]
    assert place.endswith(" in <lambda>")


def test_held_seconds_count_from_the_checkout_and_unused_seconds_from_the_last_cursor(hold):
    def use_twice(wait):
        pid()
        time.sleep(0.3)
        pid()
        wait()

    hold(use_twice)
    now = holder()
    assert now["held_seconds"] >= 0.3
    assert now["unused_seconds"] <= now["held_seconds"] - 0.3


def test_a_holder_outside_a_transaction_is_told_as_that(hold):
    def without_transaction(wait):
        pid()
        support.end_transaction()
        wait()

    hold(without_transaction)
    assert holder()["in_transaction"] is False
    assert ", outside a transaction, now at " in str(refused())


@since_1_6
def test_a_holder_in_a_transaction_is_told_as_that(hold):
    from django.db import transaction

    def in_a_block(wait):
        with transaction.atomic():
            unused(wait)

    hold(in_a_block)
    assert holder()["in_transaction"] is True
    assert ", in a transaction, now at " in str(refused())


def test_a_holder_in_a_query_is_told_as_that(hold):
    def query(wait):
        threading.Timer(0.2, wait).start()
        support.fetch(support.chosen.SLEEP % 1)

    hold(query)
    assert "in a query" in str(refused())


def test_a_holder_in_a_long_query_is_not_warned_about(hold, log):
    def query(wait):
        threading.Timer(0.1, wait).start()
        support.fetch(support.chosen.SLEEP % 2.5)

    with settings_as(PERSISTCONN_HELD_TOO_LONG=0.5):
        hold(query)
        assert not wait_until(lambda: warnings(log), 2)


def test_a_holder_has_the_name_of_its_unit_of_work(hold):
    def work(wait):
        with persistconn.unit_of_work("the nightly import"):
            unused(wait)

    hold(work)
    assert holder()["work"] == "the nightly import"
    assert "the holder (the nightly import) for " in str(refused())


def test_a_decorated_functions_name_is_the_name_of_its_unit_of_work(hold):
    hold(persistconn.unit_of_work()(unused))
    assert holder()["work"] == "test_holders.unused"


def test_after_a_unit_of_work_its_name_is_not_told(hold):
    def work(wait):
        with persistconn.unit_of_work("over"):
            pass
        unused(wait)

    hold(work)
    assert holder()["work"] is None


@since_1_8
def test_a_holder_has_the_path_of_its_request_without_the_query(hold):
    def work(wait):
        environ = dict(support.environ("/report/"), QUERY_STRING="password=secret")
        django.core.signals.request_started.send(sender=object, environ=environ)
        unused(wait)
        django.core.signals.request_finished.send(sender=object)

    hold(work)
    assert holder()["work"] == "GET /report/"


@since_1_8
def test_after_a_request_its_path_is_not_told(hold):
    def work(wait):
        support.get("/pid/")
        unused(wait)

    hold(work)
    assert holder()["work"] is None


def test_the_message_describes_three_holders_and_the_log_record_all(hold, log):
    for number in range(5):
        hold(unused, "holder %d" % number)
    message = str(refused(bound=5))
    (record,) = log.records
    assert [number for number in range(5) if "holder %d for " % number in message] == [0, 1, 2]
    assert message.endswith("; and 2 more.")
    assert all("holder %d for " % number in record.getMessage() for number in range(5))


def test_the_log_record_has_the_holders_as_data(hold, log):
    hold(unused)
    error = refused()
    (record,) = log.records
    assert record.holders == error.holders
    assert record.alias == "default" and record.waited >= 0


def test_the_longest_holder_is_told_first(hold):
    hold(unused, "first")
    time.sleep(0.05)
    hold(unused, "second")
    assert [one["thread"] for one in refused(bound=2).holders] == ["first", "second"]


def test_a_connection_that_another_thread_still_uses_has_an_unknown_holder():
    """A cursor keeps the session of a wrapper that its thread has dropped."""
    from django.db import connections

    wrapper = connections["default"]
    pid()
    wrapper._persistconn.take()
    try:
        assert "unknown" in holder()["thread"]
    finally:
        wrapper.close()


def test_names_of_other_alphabets_are_told(hold):
    def work(wait):
        with persistconn.unit_of_work(b"caf\xc3\xa9".decode("utf-8")):
            unused(wait)

    hold(work, "th\xc3\xa9")
    assert "caf" in str(refused()) and "Held by th" in str(refused())


def test_a_holder_that_cannot_be_described_is_left_out(hold, monkeypatch):
    from persistconn import holders

    def fails(*args):
        raise RuntimeError("stands in for a race with the holder's thread")

    hold(unused)
    monkeypatch.setattr(holders, "_label", fails)
    error = refused()
    assert error.holders == [] and str(error).endswith("others wait.")


def warnings(log):
    return [record for record in log.records if "held without use" in record.getMessage()]


def test_a_holder_beyond_held_too_long_is_warned_about_once(hold, log):
    with settings_as(PERSISTCONN_HELD_TOO_LONG=0.1):
        hold(unused_outside)
        assert wait_until(lambda: warnings(log))
        assert not wait_until(lambda: len(warnings(log)) > 1, 2.5)
    (record,) = warnings(log)
    assert "the holder" in record.getMessage()
    assert record.holders[0]["thread"] == "the holder"


def unused_outside(wait):
    pid()
    support.end_transaction()
    wait()


def test_a_next_hold_of_the_same_connection_is_warned_about_again(hold, log):
    def again(wait):
        unused_outside(lambda: wait_until(lambda: len(warnings(log)) == 1))
        end_of_work()
        unused_outside(wait)

    with settings_as(PERSISTCONN_HELD_TOO_LONG=0.1):
        hold(again)
        assert wait_until(lambda: len(warnings(log)) == 2)


@since_1_6
def test_a_holder_in_a_transaction_is_not_warned_about(hold, log):
    from django.db import transaction

    def in_a_block(wait):
        with transaction.atomic():
            unused(wait)

    with settings_as(PERSISTCONN_HELD_TOO_LONG=0.1):
        hold(in_a_block)
        assert not wait_until(lambda: warnings(log), 2.5)


def test_a_holder_that_uses_its_connection_is_not_warned_about(hold, log):
    def busy(wait):
        wait_ends = time.time() + 2.5
        while time.time() < wait_ends:
            unused_outside(lambda: time.sleep(0.02))
        wait()

    with settings_as(PERSISTCONN_HELD_TOO_LONG=1):
        hold(busy)
        assert warnings(log) == []


def test_the_housekeeper_ends_when_no_connection_is_held_any_more(hold):
    with settings_as(PERSISTCONN_HELD_TOO_LONG=60, PERSISTCONN_MAX_AGE=None):
        in_thread(support.unit_of_work)
        persistconn.drain()
        assert wait_until(
            lambda: "persistconn housekeeper" not in [one.name for one in threading.enumerate()]
        )
