"""How threads wait for a server, without one: what they try is a function of the test."""

from __future__ import absolute_import

import threading
import time

import pytest
from support import wait_until

from persistconn.gate import FIRST_PAUSE, LONGEST_PAUSE, Gate


class Away(Exception):
    """Passes."""


class Wrong(Exception):
    """Does not."""


def is_passing(error):
    return isinstance(error, Away)


class Server(object):
    """Lets in whoever tries, unless it is away; notes when somebody tried."""

    def __init__(self, away=True):
        self.error = Away("refused") if away else None
        self.tries = []
        self.at_once = self.most_at_once = 0

    def __call__(self, seconds):
        self.tries.append(time.time())
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        try:
            if self.error is not None:
                raise self.error
            return "in"
        finally:
            self.at_once -= 1


def away():
    """A server, and a gate that has found it away already."""
    server, gate = Server(), Gate()
    with pytest.raises(Away):
        gate.pass_through(server, is_passing, 0)
    return server, gate


@pytest.fixture
def crowd():
    """Start threads that pass; they have ended when the test has."""
    threads, results = [], []

    def start(number, gate, server, seconds):
        def run():
            try:
                results.append(gate.pass_through(server, is_passing, seconds))
            except Exception as error:
                results.append(error)

        for _ in range(number):
            threads.append(threading.Thread(target=run))
            threads[-1].start()
        return results

    yield start
    for thread in threads:
        thread.join(10)


def test_what_the_try_returns_is_returned():
    assert Gate().pass_through(Server(away=False), is_passing, 5) == "in"


def test_a_server_that_is_away_is_tried_until_the_deadline():
    server = Server()
    started = time.time()
    with pytest.raises(Away):
        Gate().pass_through(server, is_passing, 0.3)
    assert len(server.tries) > 3
    assert time.time() - started < 0.3 + LONGEST_PAUSE


def test_a_deadline_of_0_is_one_try():
    server = Server()
    with pytest.raises(Away):
        Gate().pass_through(server, is_passing, 0)
    assert len(server.tries) == 1


def test_an_error_that_does_not_pass_is_raised_at_once():
    server = Server()
    server.error = Wrong("password")
    with pytest.raises(Wrong):
        Gate().pass_through(server, is_passing, 5)
    assert len(server.tries) == 1


def test_the_pauses_grow_from_first_to_longest():
    server = Server()
    with pytest.raises(Away):
        Gate().pass_through(server, is_passing, 0.9)
    pauses = [after - before for before, after in zip(server.tries, server.tries[1:])]
    assert pauses[0] >= FIRST_PAUSE / 2
    assert max(pauses) >= LONGEST_PAUSE / 2
    assert len(server.tries) <= 12


def test_each_try_is_told_how_much_time_is_left():
    left = []

    def server(seconds):
        left.append(seconds)
        raise Away()

    with pytest.raises(Away):
        Gate().pass_through(server, is_passing, 0.3)
    assert 0.3 >= left[0] > left[-1] > 0


def test_the_tries_end_when_the_server_is_back(crowd):
    server = Server()
    results = crowd(1, Gate(), server, 5)
    assert wait_until(lambda: len(server.tries) > 2)
    server.error = None
    assert wait_until(lambda: results == ["in"])


def test_one_of_a_crowd_tries_and_the_others_wait(crowd):
    server, gate = away()
    before = len(server.tries)
    results = crowd(50, gate, server, 0.5)
    assert wait_until(lambda: len(results) == 50)
    assert all(isinstance(result, Away) for result in results)
    assert server.most_at_once == 1
    # As many as one thread alone makes.
    assert len(server.tries) - before <= 12


def test_all_of_a_crowd_pass_once_one_has(crowd):
    server, gate = away()
    results = crowd(20, gate, server, 10)
    assert wait_until(lambda: len(server.tries) > 2)
    server.error = None
    assert wait_until(lambda: results == ["in"] * 20, 2)


def test_those_who_wait_fail_at_their_own_deadline_with_what_the_other_met(crowd):
    server, gate = away()
    crowd(1, gate, server, 0.8)
    assert wait_until(lambda: len(server.tries) > 1)
    started = time.time()
    with pytest.raises(Away) as caught:
        gate.pass_through(server, is_passing, 0.2)
    assert 0.2 <= time.time() - started < 0.8
    assert caught.value is not server.error
    assert caught.value.args == ("refused",)


def test_another_goes_on_where_one_who_tried_was_interrupted(crowd):
    server, gate = away()

    def interrupted(seconds):
        raise KeyboardInterrupt()

    with pytest.raises(KeyboardInterrupt):
        gate.pass_through(interrupted, is_passing, 5)
    server.error = None
    assert gate.pass_through(server, is_passing, 5) == "in"


def test_a_server_that_answers_no_ends_the_waiting_of_all(crowd):
    server, gate = away()
    results = crowd(5, gate, server, 10)
    assert wait_until(lambda: len(server.tries) > 2)
    server.error = Wrong("password")
    assert wait_until(lambda: len(results) == 5, 2)
    assert all(isinstance(result, Wrong) for result in results)
