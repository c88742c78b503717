"""Shots (exceptions and signals) at random moments, in units of work that share connections."""

from __future__ import absolute_import

import collections
import ctypes
import itertools
import random
import signal
import threading
import time
from functools import partial

import forked
import pytest
import support
from django.db import connections
from interrupts import PACKAGE, Helper, Shot, check_all_is_well
from support import end_of_work, fetch

import persistconn
from persistconn.errors import PoolTimeout

SLOTS, THREADS, UNITS = 3, 4, 20


class SoftLimit(Exception):
    """A shot that ``except Exception`` catches."""


SHOTS = (Shot, SoftLimit, KeyboardInterrupt)

tokens = itertools.count()


class Unit(object):
    """A unit of work that writes into its session, and reads what it wrote."""

    def __init__(self):
        self.token = str(next(tokens))
        self.is_ended = False  # by a signal handler that interrupted the unit

    def run(self):
        try:
            fetch("SELECT set_config('shots.token', '%s', false)" % self.token)
            seen = fetch("SELECT current_setting('shots.token')")
            assert seen == self.token or self.is_ended, "another's session: %r" % seen
        except PoolTimeout as error:
            raise AssertionError("a slot is lost: %s" % error)
        finally:
            end_of_work()


class Timer(object):
    """Interrupts units of the main thread by a signal."""

    def __init__(self, chance):
        self.chance, self.seconds = chance, 0.002
        self.unit, self.fired = None, 0
        self.errors = collections.Counter()
        signal.signal(signal.SIGALRM, self._on_signal)

    def shoot_at(self, unit):
        began = time.time()
        try:
            try:
                self.unit = unit
                signal.setitimer(signal.ITIMER_REAL, self.chance.uniform(1e-6, self.seconds))
                unit.run()
            finally:
                self.unit = None
        except SHOTS + support.database_errors() as error:
            self.errors[type(error).__name__] += 1
        except AttributeError as error:
            # In stock Django, too, work that was ended meanwhile finds that its connection is None.
            if not unit.is_ended:
                raise
            self.errors[str(error)] += 1
        self.seconds += (1.2 * (time.time() - began) - self.seconds) / 10

    def _on_signal(self, number, frame):
        unit, self.unit = self.unit, None
        if unit is not None:
            self.fired += 1
            self.chance.choice([self._raise, self._ask, self._drain, self._work])(unit, frame)

    def _raise(self, unit, frame):
        raise self.chance.choice(SHOTS)

    def _ask(self, unit, frame):
        persistconn.stats()

    def _drain(self, unit, frame):
        persistconn.drain()

    def _work(self, unit, frame):
        # Inside the driver's code nobody may use its connection, with persistconn or without.
        if frame.f_code.co_filename.startswith(PACKAGE) and not is_in_driver(frame):
            unit.is_ended = True
            Unit().run()


def is_in_driver(frame):
    while frame is not None:
        if frame.f_globals.get("__name__", "").startswith("psycopg"):
            return True
        frame = frame.f_back
    return False


class Target(object):
    """The units of a thread, into which another thread throws exceptions."""

    def __init__(self):
        self.errors = collections.Counter()
        self.is_done, self.fired = False, 0
        self._aims = []

    def run(self):
        self._ident = threading.current_thread().ident
        try:
            for _ in range(UNITS):
                self._run()
        finally:
            self.is_done = True
        end_of_work()  # the last unit's own end_of_work() may have been interrupted

    def _run(self):
        try:
            self._run_unit()
        except SHOTS as error:
            self.errors[type(error).__name__] += 1

    def _run_unit(self):
        before = self.fired
        self._aims.append(True)
        try:
            Unit().run()
        except support.database_errors() as error:
            self.errors[type(error).__name__] += 1
        if not self._take_aim():
            # A shot is under way. It arrives in this loop, unless a destructor swallowed it.
            while self.fired == before:
                time.sleep(0.0005)
            for _ in range(1000):
                pass  # Python 2 looks for the shot after every hundredth opcode only.

    def _take_aim(self):
        try:
            return self._aims.pop()
        except IndexError:
            return False

    def shoot(self, kind):
        if self._take_aim():
            kind = ctypes.py_object(kind)
            ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_long(self._ident), kind)
            self.fired += 1


class NoLock(object):
    """Replaces a lock that Django has in each wrapper, and that no other thread needs here.

    Before Python 3.10 an exception at the end of a ``with`` can leave a lock held, in stock Django,
    too: one hang in some 20,000 shots.
    """

    def __enter__(self):
        pass

    def __exit__(self, *exception):
        pass


def by_signals(shots, seed, child):
    connections["default"]._thread_sharing_lock = NoLock()
    helpers, timer = [Helper() for _ in range(SLOTS)], Timer(random.Random(seed))
    while timer.fired < shots:
        is_over = threading.Event()
        for helper in helpers:
            helper.begin(partial(work_until, is_over))
        for _ in range(UNITS * THREADS):
            child.goes_on({"shots": timer.fired, "seed": seed})
            timer.shoot_at(Unit())
        is_over.set()
        for helper in helpers:
            helper.end()
        check_all_is_well(helpers[1:SLOTS])
    return timer.errors


def work_until(is_over):
    while not is_over.is_set():
        Unit().run()


def by_threads(shots, seed, child):
    helpers, chance = [Helper() for _ in range(THREADS)], random.Random(seed)
    fired, errors = 0, collections.Counter()
    while fired < shots:
        child.goes_on({"shots": fired, "seed": seed})
        targets = [Target() for _ in helpers]
        for helper, target in zip(helpers, targets):
            helper.begin(target.run)
        while not all(target.is_done for target in targets):
            time.sleep(chance.uniform(0, 0.002))
            chance.choice(targets).shoot(chance.choice(SHOTS))
        for helper, target in zip(helpers, targets):
            helper.end()
            fired += target.fired
            errors.update(target.errors)
        check_all_is_well(helpers[1:SLOTS])
    return errors


@pytest.fixture
def shots(request):
    return request.config.getoption("--shots") // 4


@pytest.mark.parametrize("max_conns", [SLOTS, None])
@pytest.mark.parametrize("shooting", [by_signals, by_threads])
def test_shots_at_random_moments_lose_no_slot_and_share_no_session(shooting, max_conns, shots):
    seed = random.randrange(10**6)
    with support.settings_as(PERSISTCONN_MAX_CONNS=max_conns, PERSISTCONN_TIMEOUT=5):
        errors = forked.run(partial(shooting, shots, seed), patience=20, limit=7200)
    print("%d shots, of which came out: %s" % (shots, errors))
