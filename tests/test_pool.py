"""The pool alone, with stand-ins for connections: it knows no database."""

from __future__ import absolute_import

import collections
import gc
import random
import threading
import time
import weakref

import pytest
from support import together, wait_until

from persistconn import compat
from persistconn.liveness import expired
from persistconn.pool.entry import JITTER, Entry, StandIn
from persistconn.pool.pool import Pool
from persistconn.pool.pools import Pools
from persistconn.pool.slot import Slot
from persistconn.pool.waiter import Exhausted, Waiter

NAMES = "max_age max_idle max_conns max_kept timeout min_conns"
Values = collections.namedtuple("Values", NAMES)
UNBOUNDED = Values(None, None, None, None, 0, 0)


class Raw(object):
    closed = False

    def close(self):
        self.closed = True


class RecordingDriver(object):
    """Stands in for a driver, and remembers what was closed."""

    def __init__(self):
        self.closed = []
        self.held = []

    def fileno(self, raw):
        return None

    def flags(self, raw):
        return {}

    def is_closed(self, raw):
        return raw.closed

    def is_held(self, raw):
        return raw in self.held

    def close(self, raw):
        self.closed.append(raw)


@pytest.fixture
def driver():
    return RecordingDriver()


@pytest.fixture
def pool():
    return without_checks(Pool(UNBOUNDED))


def without_checks(pool):
    """Let the pool find no fault in idle connections: a stand-in for asking their driver."""
    pool.check_idle = lambda entry: None
    return pool


def opened(pool, driver):
    entry = pool.add()
    entry.opened(Raw(), driver)
    return entry


def bound(pool, **limits):
    pool.values = pool.values._replace(**limits)


def is_new(entry):
    return entry.raw is None


def test_an_empty_pool_gives_out_an_entry_that_is_not_open(pool):
    assert is_new(pool.acquire())


def test_a_released_entry_is_acquired_again(pool, driver):
    entry = opened(pool, driver)
    pool.release(entry)
    assert pool.acquire() is entry
    assert is_new(pool.acquire())


def test_the_entry_released_last_is_acquired_first(pool, driver):
    first, second = opened(pool, driver), opened(pool, driver)
    pool.release(first)
    pool.release(second)
    assert pool.acquire() is second


def test_idle_entries_with_a_fault_are_discarded_and_counted_under_that_fault(pool, driver):
    entries = [opened(pool, driver) for number in range(3)]
    for entry in entries:
        pool.release(entry)
    pool.check_idle = lambda entry: None if entry is entries[0] else "dead"
    assert pool.acquire() is entries[0]
    assert driver.closed == [entries[2].raw, entries[1].raw]
    assert pool.stats()["discarded"] == {"dead": 2}


def test_a_doomed_entry_is_closed_when_released(pool, driver):
    entry = opened(pool, driver)
    entry.doom = "busy"
    pool.release(entry)
    assert driver.closed == [entry.raw]
    assert pool.stats()["discarded"] == {"busy": 1}


def test_an_entry_released_after_keeping_was_switched_off_is_closed_and_counted_once(pool, driver):
    entry = opened(pool, driver)
    pool.keep(False)
    pool.keep(True)
    pool.release(entry)
    assert driver.closed == [entry.raw]
    assert pool.stats()["discarded"] == {"closed by caller": 1}


def test_drain_closes_idle_entries_at_once_and_the_others_when_released(pool, driver):
    idle, used = opened(pool, driver), opened(pool, driver)
    pool.release(idle)
    pool.drain()
    assert driver.closed == [idle.raw]
    pool.release(used)
    assert driver.closed == [idle.raw, used.raw]


def test_an_entry_opened_after_a_drain_is_kept(pool, driver):
    pool.drain()
    entry = opened(pool, driver)
    pool.release(entry)
    assert pool.acquire() is entry


def test_a_pool_that_keeps_nothing_closes_a_released_entry(pool, driver):
    pool.keep(False)
    entry = opened(pool, driver)
    pool.release(entry)
    assert driver.closed == [entry.raw]


def test_stats_counts_opened_reused_idle_and_used_entries(pool, driver):
    first, second = opened(pool, driver), opened(pool, driver)
    pool.release(first)
    pool.acquire()
    pool.release(second)
    expected = {"opened": 2, "reused": 1, "idle": 1, "in_use": 1, "max_in_use": 2, "discarded": {}}
    expected.update(waiting=0, wait_seconds=0, timeouts=0, created_seconds=0)
    numbers = pool.stats()
    assert dict((name, numbers[name]) for name in expected) == expected


def minutes(pool, name):
    """A number of seconds, in whole minutes: the test itself takes less than one."""
    return pool.stats()[name] // 60


def used(entry, clock, minutes):
    """Use an entry for some minutes, as the checkin notes it."""
    clock.forward(60 * minutes)
    entry.used_at = compat.monotonic()


def test_used_seconds_is_the_sum_of_all_checkouts_that_have_ended(pool, driver, clock):
    # As a health check leaves it.
    pool.check_idle = lambda entry: setattr(entry, "used_at", compat.monotonic())
    first = opened(pool, driver)
    used(first, clock, 2)
    assert pool.stats()["used_seconds"] == 0
    pool.release(first)
    clock.forward(3000)
    assert pool.acquire() is first
    used(first, clock, 3)
    pool.discard(first, "error")
    assert minutes(pool, "used_seconds") == 5


def test_the_use_of_a_connection_that_was_lost_counts_as_used_seconds(pool, driver, clock):
    entry = opened(pool, driver)
    clock.forward(240)
    del entry
    gc.collect()
    assert minutes(pool, "used_seconds") == 4


def test_oldest_in_use_is_the_age_of_the_earliest_checkout_that_has_not_ended(pool, driver, clock):
    assert pool.stats()["oldest_in_use"] == 0
    first = opened(pool, driver)
    clock.forward(7 * 60)
    second = opened(pool, driver)
    clock.forward(60)
    assert minutes(pool, "oldest_in_use") == 8
    first.used_at = second.used_at = compat.monotonic()
    pool.release(first)
    assert minutes(pool, "oldest_in_use") == 1
    pool.release(second)
    assert pool.stats()["oldest_in_use"] == 0


def test_max_in_use_is_the_greatest_number_at_the_same_time(pool, driver):
    for at_once in (1, 3, 2):
        entries = [pool.acquire() for _number in range(at_once)]
        for entry in entries:
            if is_new(entry):
                entry.opened(Raw(), driver)
            pool.release(entry)
    assert pool.stats()["max_in_use"] == 3


def test_max_in_use_never_exceeds_max_conns(pool, driver):
    bound(pool, max_conns=2, timeout=0)

    def work():
        try:
            entry = pool.acquire()
        except Exhausted:
            return
        if is_new(entry):
            entry.opened(Raw(), driver)
        pool.release(entry)

    for _turn in range(20):
        together(*[work] * 8)
    assert pool.stats()["max_in_use"] <= 2


def test_a_wait_that_found_nothing_counts_as_a_timeout(pool, driver):
    bound(pool, max_conns=1, timeout=0)
    entry = pool.acquire()
    for number in (1, 2):
        with pytest.raises(Exhausted):
            pool.acquire()
        assert pool.stats()["timeouts"] == number
    pool.remove(entry, "error")


def test_an_entry_found_dead_is_not_counted_as_reused(pool, driver):
    pool.release(opened(pool, driver))
    pool.check_idle = lambda entry: "dead"
    pool.acquire()
    assert pool.stats()["reused"] == 0


def test_a_dropped_entry_is_counted_as_lost_and_not_as_in_use(pool, driver):
    opened(pool, driver)
    gc.collect()
    stats = pool.stats()
    assert (stats["in_use"], stats["discarded"]) == (0, {"lost": 1})


def test_connections_opened_together_do_not_grow_old_together(pool, driver):
    bound(pool, max_age=600)
    entries = [opened(pool, driver) for number in range(100)]
    soonest = [e for e in entries if expired(e, e.opened_at + 600 * (1 - JITTER / 2))]
    assert 0 < len(soonest) < 100
    assert all(expired(entry, entry.opened_at + 600) == "age" for entry in entries)
    assert not any(expired(entry, entry.opened_at + 569) for entry in entries)


def test_a_connection_without_a_max_age_does_not_grow_old(pool, driver):
    entry = opened(pool, driver)
    assert not expired(entry, entry.opened_at + 10**9)


def test_a_stand_in_answers_for_its_connection_and_leaves_it_open():
    raw = Raw()
    raw.server_version = 15
    stand_in = StandIn(raw)
    stand_in.close()
    assert (stand_in.server_version, raw.closed) == (15, False)


class User(object):
    """Stands in for a Database: the settings by which a wrapper finds its pool."""

    now, values = True, UNBOUNDED

    def is_current(self):
        return self.now

    def expire(self):
        self.now = False


def test_pools_are_found_by_key():
    pools, user = Pools(), User()
    pool = pools.use("a", "default", user)
    assert pools.use("b", "other", user) is not pool
    assert pools.use("a", "default", user) is pool


def test_a_pool_that_its_last_user_has_left_is_closed_and_forgotten(driver):
    pools, user, other = Pools(), User(), User()
    pools.keep(True)
    pool = pools.use("a", "default", user)
    pools.use("a", "default", other)
    entry = opened(pool, driver)
    pool.release(entry)
    user.now = False
    pools.left(pool)
    assert driver.closed == []
    other.now = False
    pools.left(pool)
    assert driver.closed == [entry.raw]
    assert pools.use("a", "default", user) is not pool


def test_a_pool_that_was_left_closes_an_entry_released_later(driver):
    pools, user = Pools(), User()
    pools.keep(True)
    pool = pools.use("a", "default", user)
    entry = opened(pool, driver)
    user.now = False
    pools.left(pool)
    pool.release(entry)
    assert driver.closed == [entry.raw]


def test_the_counts_of_a_forgotten_pool_stay(driver):
    pools, user = Pools(), User()
    pools.keep(True)
    pool = pools.use("a", "default", user)
    pool.release(opened(pool, driver))
    user.now = False
    pools.left(pool)
    assert not pools.expire()
    assert pool not in pools.all()
    stats = pools.stats()["default"]
    assert (stats["opened"], stats["discarded"]) == (1, {"closed by caller": 1})


def test_the_repr_of_a_pool_shows_its_counts(driver):
    pool = Pool(UNBOUNDED, alias="default")
    pool.release(opened(pool, driver))
    assert repr(pool) == "<Pool of default: 0 in use, 1 idle, 0 waiting>"


# Bounds.


def acquire_one(pool, timeout=0):
    """Acquire an entry of a pool with max_conns=1."""
    bound(pool, max_conns=1, timeout=timeout)
    return pool.acquire()


def exhausted(pool, timeout=0):
    with pytest.raises(Exhausted):
        acquire_one(pool, timeout)


def test_no_more_than_max_conns_entries_are_given_out(pool):
    held = acquire_one(pool)
    exhausted(pool)
    assert is_new(held)


def test_an_entry_that_was_never_opened_frees_its_slot_when_removed(pool):
    pool.remove(acquire_one(pool), "error")
    assert is_new(acquire_one(pool))


def test_an_entry_that_is_dropped_before_it_is_opened_frees_its_slot(pool):
    acquire_one(pool)
    gc.collect()
    assert is_new(acquire_one(pool))


def test_a_discarded_entry_frees_its_slot(pool, driver):
    entry = opened(pool, driver)
    exhausted(pool)
    pool.discard(entry, "dead")
    assert is_new(acquire_one(pool))


def test_an_entry_with_a_fault_leaves_its_slot_to_the_caller_that_found_the_fault(pool, driver):
    pool.release(opened(pool, driver))
    bound(pool, max_conns=1)
    pool.check_idle = lambda entry: "dead"
    held = pool.acquire()
    assert is_new(held)
    exhausted(pool)


def test_an_entry_beyond_max_kept_is_closed_when_released(pool, driver):
    kept, surplus = opened(pool, driver), opened(pool, driver)
    bound(pool, max_kept=1)
    pool.release(kept)
    pool.release(surplus)
    assert driver.closed == [surplus.raw]
    assert pool.stats()["discarded"] == {"surplus": 1}


@pytest.mark.parametrize("reason, limit", [("age", "max_age"), ("idle", "max_idle")])
def test_idle_connections_past_max_age_or_max_idle_are_closed(pool, driver, clock, reason, limit):
    bound(pool, **{limit: 10})
    first = opened(pool, driver)
    pool.release(first)
    clock.forward(6)
    pool.release(opened(pool, driver))
    clock.forward(5)
    assert pool.expire()
    assert driver.closed == [first.raw]
    assert pool.stats()["discarded"] == {reason: 1}


def test_an_entry_given_back_twice_is_idle_once(pool, driver):
    entry = opened(pool, driver)
    pool.release(entry)
    pool.release(entry)
    assert pool.acquire() is entry
    assert is_new(pool.acquire())


def test_a_connection_that_is_let_go_keeps_its_slot_while_somebody_uses_it(pool, driver):
    entry = opened(pool, driver)
    user = entry.raw
    pool.let_go(entry, "lost")
    del entry
    exhausted(pool)
    del user
    gc.collect()
    assert pool.stats()["discarded"] == {"lost": 1}
    assert is_new(acquire_one(pool))


def test_a_connection_that_was_shut_down_frees_its_slot_when_no_call_is_inside_it(pool, driver):
    entry = opened(pool, driver)
    kept = entry.raw
    driver.held.append(kept)
    pool.let_go(entry, "busy")
    exhausted(pool)
    driver.held.remove(kept)
    assert pool.stats()["discarded"] == {"busy": 1}
    assert is_new(acquire_one(pool))


def waiting(pool, number):
    return wait_until(lambda: pool.stats()["waiting"] == number)


def acquire_in_thread(pool, got, name, timeout=10):
    def run():
        got.append((name, acquire_one(pool, timeout)))

    thread = threading.Thread(target=run)
    thread.start()
    return thread


def test_waiters_are_served_in_the_order_of_arrival(pool, driver):
    entry, got, threads = opened(pool, driver), [], []
    for name in range(4):
        threads.append(acquire_in_thread(pool, got, name))
        assert waiting(pool, name + 1)
    for name in range(4):
        pool.release(entry)
        assert wait_until(lambda served=name + 1: len(got) == served)
    for thread in threads:
        thread.join()
    assert [name for name, _ in got] == [0, 1, 2, 3]
    assert set(given for _, given in got) == set([entry])


def test_a_later_caller_does_not_overtake_a_waiter(pool, driver):
    entry, got = opened(pool, driver), []
    thread = acquire_in_thread(pool, got, "waiting")
    assert waiting(pool, 1)
    exhausted(pool)
    pool.release(entry)
    thread.join()
    exhausted(pool)


def test_the_slot_of_a_discarded_entry_is_given_to_a_waiter(pool, driver):
    entry, got = opened(pool, driver), []
    thread = acquire_in_thread(pool, got, "waiting")
    assert waiting(pool, 1)
    pool.discard(entry, "dead")
    thread.join()
    assert is_new(got[0][1])


def test_the_slot_of_a_dropped_entry_is_given_to_a_waiter(pool, driver):
    entry, got = opened(pool, driver), []
    thread = acquire_in_thread(pool, got, "waiting")
    assert waiting(pool, 1)
    del entry
    gc.collect()
    thread.join()
    assert is_new(got[0][1])


class FreedInBetween(Slot):
    """A slot that is freed between two looks at it: a stand-in for a switch of threads there."""

    @property
    def _watched(self):
        watched, self.watched = self.watched, None
        return watched

    @_watched.setter
    def _watched(self, watched):
        self.watched = watched


@pytest.mark.parametrize("ask", [Slot.has_ended, Slot.raw])
def test_a_slot_can_be_asked_while_another_thread_frees_it(pool, driver, ask):
    slot = FreedInBetween(pool)
    entry = Entry(pool, slot, 0)
    assert not ask(slot)
    del entry


def test_a_slot_in_use_is_not_freed_by_the_end_of_the_connection_that_it_had_before(pool, driver):
    entry = opened(pool, driver)
    held_by_a_thread_that_asks = entry.slot._watched
    pool.release(entry)
    del entry
    pool.check_idle = lambda entry: "dead"
    entry = acquire_one(pool, 0)
    del driver.closed[:]
    assert held_by_a_thread_that_asks() is None
    assert pool.stats()["in_use"] == 1
    pool.remove(entry, "error")


class GivenOnInBetween(Slot):
    """Stands in for a slot that another thread gives to another entry between two reads."""

    @property
    def _watched(self):
        watched, self.watched = self.watched, self.next_watched
        return watched

    @_watched.setter
    def _watched(self, watched):
        self.watched = watched


def test_a_slot_that_another_entry_gets_at_this_moment_has_not_ended(pool, driver):
    slot, raw, alive = GivenOnInBetween(pool), Raw(), Raw()
    slot.watched, slot.next_watched = weakref.ref(raw), weakref.ref(alive)
    del raw
    assert not slot.has_ended()


class TakenWhenAsked(Slot):
    """Stands in for two threads: one frees a slot, the other takes this one in its place."""

    @property
    def is_taken(self):
        self.pool.discard(self.predecessor, "dead")
        return True

    @is_taken.setter
    def is_taken(self, is_taken):
        pass


def test_stats_counts_no_freed_slot_beside_the_one_that_took_its_place(pool, driver):
    slot = TakenWhenAsked(pool)
    slot.predecessor = opened(pool, driver)
    entry = Entry(pool, slot, 0)
    pool._slots.append(slot)
    assert pool.stats()["in_use"] == 1
    pool.remove(entry, "error")


def test_a_wait_that_times_out_reports_its_duration(pool, driver):
    held = opened(pool, driver)
    with pytest.raises(Exhausted) as error:
        acquire_one(pool, 0.05)
    assert error.value.args[0] >= 0.05
    assert pool.stats()["wait_seconds"] >= 0.05
    assert pool.stats()["waiting"] == 0
    pool.release(held)


def interrupt_a_wait(pool, monkeypatch, before=lambda: None):
    """Interrupt a wait: a stand-in for Ctrl-C, which comes to the main thread at any moment."""

    def interrupted(waiter, seconds):
        before()
        raise KeyboardInterrupt

    monkeypatch.setattr(Waiter, "wait", interrupted)
    with pytest.raises(KeyboardInterrupt):
        acquire_one(pool, 10)
    monkeypatch.undo()


def test_an_interrupted_wait_leaves_no_waiter_and_takes_no_slot(pool, driver, monkeypatch):
    held = opened(pool, driver)
    interrupt_a_wait(pool, monkeypatch)
    assert pool.stats()["waiting"] == 0
    pool.release(held)
    assert acquire_one(pool) is held


def test_an_entry_given_to_an_interrupted_waiter_goes_to_the_next_caller(pool, driver, monkeypatch):
    held = opened(pool, driver)
    interrupt_a_wait(pool, monkeypatch, lambda: pool.release(held))
    assert acquire_one(pool) is held


BOUND, STEPS, WORKERS = 4, 12000, 12


def test_the_invariants_of_a_pool_hold_at_every_step_of_a_random_life(pool, driver):
    """Workers acquire, give back, fail to connect, time out, drop and discard at random."""
    seed = random.randrange(10**6)
    faults = random.Random(seed)
    pool.check_idle = lambda entry: "dead" if faults.random() < 0.1 else None
    steps, broken, held, lock = iter(range(STEPS)), [], set(), threading.Lock()

    def check(entry, chance):
        with lock:
            if entry in held:
                broken.append("one connection was given to two")
            held.add(entry)
            if len(held) > BOUND:
                broken.append("%d given out" % len(held))
        if chance.random() < 0.2:
            time.sleep(0)
        with lock:
            held.discard(entry)

    def work(number):
        chance = random.Random(seed + number)
        for _step in steps:
            timeout, max_kept = chance.choice([0, 0.001, 5]), chance.choice([None, 2])
            pool.values = UNBOUNDED._replace(max_conns=BOUND, timeout=timeout, max_kept=max_kept)
            try:
                entry = pool.acquire()
            except Exhausted:
                continue
            check(entry, chance)
            if is_new(entry) and chance.random() < 0.9:
                entry.opened(Raw(), driver)
            what = chance.random()
            if is_new(entry) or what < 0.05:
                pool.remove(entry, "error")
            elif what < 0.1:
                pool.discard(entry, "busy")
            elif what > 0.95:
                entry = None  # lost
            else:
                pool.release(entry)
            entry = None
            now = pool.stats()
            if now["in_use"] + now["idle"] > BOUND:
                broken.append("more than the bound are known: %r" % now)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(WORKERS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not broken, "seed %d: %s" % (seed, broken[:3])
    gc.collect()
    assert next(steps, None) is None
    stats = pool.stats()
    assert (stats["in_use"], stats["waiting"]) == (0, 0), "seed %d" % seed
    assert len([pool.acquire() for _slot in range(BOUND)]) == BOUND
