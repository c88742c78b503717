"""The pool alone, with stand-ins for connections: it knows no database."""

from __future__ import absolute_import

import gc

import pytest

from persistconn.pool import JITTER, Pool, Pools


class Raw(object):
    pass


class RecordingDriver(object):
    """Stands in for a driver, and remembers what was closed."""

    def __init__(self):
        self.closed = []

    def fileno(self, raw):
        return None

    def flags(self, raw):
        return {}

    def close(self, raw):
        self.closed.append(raw)


@pytest.fixture
def driver():
    return RecordingDriver()


@pytest.fixture
def pool():
    return Pool()


def fine(entry):
    return None


def test_nothing_is_idle_at_first(pool):
    assert pool.acquire(fine) is None


def test_what_was_released_is_acquired_again(pool, driver):
    entry = pool.add(Raw(), driver)
    pool.release(entry)
    assert pool.acquire(fine) is entry
    assert pool.acquire(fine) is None


def test_the_last_released_is_the_first_acquired(pool, driver):
    first, second = pool.add(Raw(), driver), pool.add(Raw(), driver)
    pool.release(first)
    pool.release(second)
    assert pool.acquire(fine) is second


def test_those_with_a_fault_are_discarded_under_it(pool, driver):
    entries = [pool.add(Raw(), driver) for number in range(3)]
    for entry in entries:
        pool.release(entry)
    assert pool.acquire(lambda entry: None if entry is entries[0] else "dead") is entries[0]
    assert driver.closed == [entries[2].raw, entries[1].raw]
    assert pool.stats()["discarded"] == {"dead": 2}


def test_a_doomed_one_is_closed_when_released(pool, driver):
    entry = pool.add(Raw(), driver)
    entry.doom = "busy"
    pool.release(entry)
    assert driver.closed == [entry.raw]
    assert pool.stats()["discarded"] == {"busy": 1}


def test_one_given_back_after_nothing_is_kept_any_more_is_closed_and_counted_once(pool, driver):
    entry = pool.add(Raw(), driver)
    pool.keep(False)
    pool.keep(True)
    pool.release(entry)
    assert driver.closed == [entry.raw]
    assert pool.stats()["discarded"] == {"closed by caller": 1}


def test_drain_closes_the_idle_at_once_and_the_others_when_released(pool, driver):
    idle, used = pool.add(Raw(), driver), pool.add(Raw(), driver)
    pool.release(idle)
    pool.drain()
    assert driver.closed == [idle.raw]
    pool.release(used)
    assert driver.closed == [idle.raw, used.raw]


def test_what_is_opened_after_a_drain_is_kept(pool, driver):
    pool.drain()
    entry = pool.add(Raw(), driver)
    pool.release(entry)
    assert pool.acquire(fine) is entry


def test_a_pool_that_keeps_nothing_closes_what_is_released(pool, driver):
    pool.keep(False)
    entry = pool.add(Raw(), driver)
    pool.release(entry)
    assert driver.closed == [entry.raw]


def test_the_counts(pool, driver):
    first, second = pool.add(Raw(), driver), pool.add(Raw(), driver)
    pool.release(first)
    pool.acquire(fine)
    pool.release(second)
    expected = {"opened": 2, "reused": 1, "idle": 1, "in_use": 1, "discarded": {}}
    assert pool.stats() == expected


def test_one_found_dead_is_not_counted_as_reused(pool, driver):
    pool.release(pool.add(Raw(), driver))
    pool.acquire(lambda entry: "dead")
    assert pool.stats()["reused"] == 0


def test_one_whose_owner_is_gone_is_not_in_use(pool, driver):
    pool.add(Raw(), driver)
    gc.collect()
    stats = pool.stats()
    assert (stats["in_use"], stats["discarded"]) == (0, {"lost": 1})


def test_connections_opened_together_do_not_grow_old_together(pool, driver):
    entries = [pool.add(Raw(), driver) for number in range(100)]
    soonest = [e for e in entries if e.outlived(600, e.opened_at + 600 * (1 - JITTER / 2))]
    assert 0 < len(soonest) < 100
    assert all(entry.outlived(600, entry.opened_at + 600) for entry in entries)
    assert not any(entry.outlived(600, entry.opened_at + 569) for entry in entries)


def test_without_a_max_age_none_grows_old(pool, driver):
    entry = pool.add(Raw(), driver)
    assert not entry.outlived(None, entry.opened_at + 10**9)


def test_an_entry_answers_for_its_connection_while_it_stands_in_for_it(pool, driver):
    raw = Raw()
    raw.server_version = 15
    assert pool.add(raw, driver).server_version == 15


def test_pools_are_found_by_key():
    pools = Pools()
    assert pools.find("a") is None
    pool = pools.find_or_add("a", "default")
    assert pools.find_or_add("a", "replica") is pools.find("a") is pool
    assert pool.aliases == {"default", "replica"}


def test_a_pool_shows_its_state(pool, driver):
    pool.aliases.add("default")
    pool.release(pool.add(Raw(), driver))
    assert repr(pool) == "<Pool of default: 0 in use, 1 idle>"
