"""How threads wait for a server that is away. Functions of the tests stand in for the server."""

from __future__ import absolute_import

import contextlib
import gc
import logging
import sys
import threading
import time
import weakref

import pytest
import support
from interrupts import NEVER_INTERRUPTED, opcode
from support import wait_until

from persistconn.connecting import gate as gates
from persistconn.connecting import outage
from persistconn.connecting.gate import Gate
from persistconn.connecting.outage import FIRST_PAUSE, LONGEST_PAUSE, Call, Turn


class Away(Exception):
    """A transient error."""


class Wrong(Exception):
    """The server's answer to a wrong password."""


class Server(object):
    """Lets every caller in, unless it is away. Notes when each try began, and its limit."""

    def __init__(self, away=True):
        self.error = Away("refused") if away else None
        self.tries, self.limits = [], []
        self.at_once = self.most_at_once = 0
        self.answers = threading.Event()
        self.answers.set()

    def __call__(self, seconds):
        self.tries.append(time.time())
        self.limits.append(seconds)
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        try:
            self.answers.wait(min(seconds, 10))
            if self.error is not None:
                raise self.error.__class__(*self.error.args)
            return "in"
        finally:
            self.at_once -= 1


class Attempt(object):
    """An attempt to connect, as the gate takes it."""

    def __init__(self, server, seconds, is_strict=False, try_limit=30, least=0):
        self.server = server
        self.seconds = seconds
        self.is_strict, self.try_limit, self.least = is_strict, try_limit, least
        self.was_answered = False

    def __call__(self, seconds):
        return self.server(seconds)

    def is_transient(self, error):
        self.was_answered = isinstance(error, Wrong)
        return isinstance(error, Away)


def open_circuit():
    """A server that is away, and a gate that knows it already."""
    server, gate = Server(), Gate()
    with pytest.raises(Away):
        gate.call(Attempt(server, 0))
    return server, gate


@pytest.fixture
def crowd():
    """A function that starts threads that call a gate; the threads are joined after the test."""
    threads, results = [], []

    def start(number, gate, server, seconds, **more):
        def run():
            try:
                results.append(gate.call(Attempt(server, seconds, **more)))
            except Exception as error:
                results.append(error)

        for _ in range(number):
            threads.append(threading.Thread(target=run))
            threads[-1].start()
        return results

    yield start
    for thread in threads:
        thread.join(10)


def test_a_call_returns_the_result_of_its_try():
    assert Gate().call(Attempt(Server(away=False), 5)) == "in"


def test_a_server_that_is_away_is_tried_until_the_deadline():
    server = Server()
    started = time.time()
    with pytest.raises(Away):
        Gate().call(Attempt(server, 0.3))
    assert len(server.tries) > 3
    assert time.time() - started < 0.3 + LONGEST_PAUSE


def test_a_deadline_of_0_allows_one_try():
    server = Server()
    with pytest.raises(Away):
        Gate().call(Attempt(server, 0))
    assert len(server.tries) == 1


def test_an_error_that_is_not_transient_is_raised_at_once():
    server = Server()
    server.error = Wrong("password")
    with pytest.raises(Wrong):
        Gate().call(Attempt(server, 5))
    assert len(server.tries) == 1


def test_the_pauses_between_tries_grow_from_first_to_longest():
    server = Server()
    with pytest.raises(Away):
        Gate().call(Attempt(server, 0.9))
    pauses = [after - before for before, after in zip(server.tries, server.tries[1:])]
    assert pauses[0] >= FIRST_PAUSE / 2
    assert max(pauses) >= LONGEST_PAUSE / 2
    assert len(server.tries) <= 12


def test_the_tries_end_when_the_server_is_back(crowd):
    server = Server()
    results = crowd(1, Gate(), server, 5)
    assert wait_until(lambda: len(server.tries) > 2)
    server.error = None
    assert wait_until(lambda: results == ["in"])


def test_one_thread_of_a_crowd_tries_and_the_others_wait(crowd):
    server, gate = open_circuit()
    before = len(server.tries)
    results = crowd(50, gate, server, 0.5)
    assert wait_until(lambda: len(results) == 50)
    assert all(isinstance(result, Away) for result in results)
    assert server.most_at_once == 1
    # As many tries as one thread alone makes.
    assert len(server.tries) - before <= 12


def test_all_threads_of_a_crowd_connect_once_one_thread_has_connected(crowd):
    server, gate = open_circuit()
    results = crowd(20, gate, server, 10)
    assert wait_until(lambda: len(server.tries) > 2)
    server.error = None
    assert wait_until(lambda: results == ["in"] * 20, 2)


def test_waiters_fail_at_their_own_deadline(crowd):
    server, gate = open_circuit()
    crowd(1, gate, server, 1.5)
    assert wait_until(lambda: len(server.tries) > 1)
    started = time.time()
    with pytest.raises(Away):
        gate.call(Attempt(server, 0.2))
    assert time.time() - started < 1


def test_a_permanent_error_of_the_server_ends_the_waiting_of_all_threads(crowd):
    server, gate = open_circuit()
    results = crowd(5, gate, server, 10)
    assert wait_until(lambda: len(server.tries) > 2)
    server.error = Wrong("password")
    assert wait_until(lambda: len(results) == 5, 2)
    assert all(isinstance(result, Wrong) for result in results)


def test_an_error_that_says_nothing_about_the_server_does_not_end_the_waiting(crowd):
    server, gate = open_circuit()
    results = crowd(1, gate, server, 10)
    assert wait_until(lambda: len(server.tries) > 2)

    def token_service(seconds):
        raise ValueError("no token")

    with pytest.raises(ValueError):
        gate.call(Attempt(token_service, 0))
    assert gate._outages and results == []
    server.error = None
    assert wait_until(lambda: results == ["in"])


# How long a try may last.


def test_a_try_may_last_longer_than_the_deadline_for_new_tries():
    server = Server(away=False)
    Gate().call(Attempt(server, 0.2, try_limit=30))
    assert server.limits == [30]


def test_a_strict_deadline_limits_each_try():
    server = Server()
    with pytest.raises(Away):
        Gate().call(Attempt(server, 0.3, is_strict=True))
    assert 0.3 >= server.limits[0] > server.limits[-1] > 0


def test_a_waiter_gets_the_outcome_of_the_current_try_even_after_its_deadline(crowd):
    server, gate = open_circuit()
    server.answers.clear()
    results = crowd(5, gate, server, 0.3)
    assert wait_until(lambda: server.at_once == 1)
    time.sleep(0.6)  # longer than their deadlines
    assert results == []
    server.error = None
    server.answers.set()
    assert wait_until(lambda: results == ["in"] * 5, 2)
    assert server.most_at_once <= 5


def test_a_waiter_past_its_deadline_does_not_wait_for_tries_that_began_later():
    waiter, earlier, later = [Call(Attempt(Server(), seconds)) for seconds in (0.05, 5, 5)]
    earlier.turn = Turn(weakref.ref(earlier), 5)
    time.sleep(0.1)
    later.turn = Turn(weakref.ref(later), 5)
    assert waiter.may_wait_for(earlier.turn)
    assert not waiter.may_wait_for(later.turn)


def test_a_strict_deadline_ends_the_waiting_for_the_try_of_another_thread(crowd):
    server, gate = open_circuit()
    server.answers.clear()
    crowd(1, gate, server, 5, is_strict=True)
    assert wait_until(lambda: server.at_once == 1)
    started = time.time()
    with pytest.raises(Away):
        gate.call(Attempt(server, 0.3, is_strict=True))
    assert time.time() - started < 1
    server.error = None
    server.answers.set()


def test_no_try_begins_that_could_not_end_within_a_strict_deadline():
    server = Server()
    server.answers.clear()
    with pytest.raises(Away):
        Gate().call(Attempt(server, 0.5, is_strict=True, try_limit=0.3, least=0.3))
    assert len(server.tries) == 1


def test_a_server_that_does_not_answer_is_tried_again_by_the_next_call():
    server, gate = Server(), Gate()
    server.answers.clear()
    for number in (1, 2, 3):
        with pytest.raises(Away):
            gate.call(Attempt(server, 0.3, is_strict=True, try_limit=0.3, least=0.3))
        assert wait_until(lambda: time.time() - server.tries[-1] > 0.3 + LONGEST_PAUSE)
        assert len(server.tries) == number


# The errors of waiters.


class ThreeArguments(Away):
    def __init__(self, host, port, code):
        Away.__init__(self, "%s:%s" % (host, port))
        self.code = code


def error_of_waiter(gate_and_error):
    """The error of a thread that waits while another thread's try fails with the given error."""
    gate, error = gate_and_error

    def fail(seconds):
        raise error

    with pytest.raises(Away):
        gate.call(Attempt(fail, 0))
    gate._outages["open"].next_at += 60
    with pytest.raises(Away) as caught:
        gate.call(Attempt(fail, 0.1))
    return caught.value


def test_a_waiters_error_has_the_class_and_the_attributes_of_the_original_error():
    first = ThreeArguments("db", 5432, "08006")
    error = error_of_waiter((Gate(), first))
    assert type(error) is ThreeArguments and error is not first
    assert (error.args, error.code, str(error)) == (("db:5432",), "08006", "db:5432")


@pytest.mark.skipif(not hasattr(Exception(), "__cause__"), reason="Python 2 has no causes")
def test_a_waiters_error_has_the_original_error_as_its_cause():
    error = error_of_waiter((Gate(), ThreeArguments("db", 5432, "08006")))
    assert type(error.__cause__) is ThreeArguments
    assert error.__cause__.code == "08006"


def test_a_waiters_error_keeps_the_cause_of_the_original_error():
    first = Away("wrapped")
    first.__cause__ = ValueError("what the driver said")
    error = error_of_waiter((Gate(), first))
    assert type(error.__cause__) is ValueError
    assert error.__cause__ is not first.__cause__
    assert error.__cause__.args == ("what the driver said",)


@pytest.mark.skipif(not hasattr(Exception, "add_note"), reason="Python before 3.11 has no notes")
def test_a_waiters_error_has_the_notes_of_the_original_error():
    first = Away("refused")
    first.add_note("on host db")
    assert error_of_waiter((Gate(), first)).__notes__ == ["on host db"]


@pytest.mark.parametrize("pgcode", ["57P03", None])
def test_a_waiters_error_of_psycopg2_has_the_pgcode_of_the_original_error(pgcode):
    psycopg2 = pytest.importorskip("psycopg2")

    class Refused(psycopg2.OperationalError, Away):
        pass

    first = Refused("starting up\n")
    first.__setstate__({"pgcode": pgcode, "pgerror": "FATAL: starting up"})
    error = error_of_waiter((Gate(), first))
    assert isinstance(error, psycopg2.OperationalError)
    assert (error.args, error.pgcode) == (("starting up\n",), pgcode)
    assert error.pgerror == "FATAL: starting up"
    assert error.diag.sqlstate is None


class Request(object):
    """Something in the frame of a failed request."""


def test_an_outage_keeps_no_frame_of_the_failed_request():
    gate = Gate()

    def serve(gate):
        request = Request()
        try:
            try:
                raise ValueError("from the driver's depths")
            except ValueError as error:
                refused = Away("refused")
                refused.__cause__ = error
                raise refused
        except Away as error:
            first = error
        # The frame of this function is in the tracebacks of the error, its cause and its context.
        try:
            error_of_waiter((gate, first))
        finally:
            del first
        return weakref.ref(request)

    ref = support.in_thread(lambda: serve(gate))
    gc.collect()
    assert gate._outages
    assert ref() is None


# Handlers that need the server themselves.


@contextlib.contextmanager
def logging_to(function):
    class Handler(logging.Handler):
        def emit(self, record):
            function(record)

    logger, handler = logging.getLogger("persistconn"), Handler()
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)


def depth():
    frame, number = sys._getframe(), 0
    while frame is not None:
        frame, number = frame.f_back, number + 1
    return number


def test_a_logging_handler_that_needs_the_server_fails_at_once_and_is_called_once():
    server, gate, calls = Server(), Gate(), []

    def write(record):
        started = time.time()
        try:
            gate.call(Attempt(server, 5))
        except Away:
            calls.append(time.time() - started)

    with logging_to(write):
        with pytest.raises(Away):
            gate.call(Attempt(server, 0.3))
    assert len(calls) == 1 and calls[0] < 0.3


def test_a_call_goes_on_although_its_logging_handler_fails_by_the_same_outage(crowd):
    server, gate = Server(), Gate()
    with logging_to(lambda record: gate.call(Attempt(server, 5))):
        results = crowd(1, gate, server, 5)
        assert wait_until(lambda: len(server.tries) > 2)
        server.error = None
        assert wait_until(lambda: results == ["in"])


def test_another_error_of_a_logging_handler_passes_through():
    def fail(record):
        raise KeyError("no such field")

    with logging_to(fail):
        with pytest.raises(KeyError):
            Gate().call(Attempt(Server(), 5))


def test_a_logging_handler_that_waits_for_another_threads_call_does_not_deadlock():
    server, gate, calls = Server(), Gate(), []

    def ask():
        with pytest.raises(Away):
            gate.call(Attempt(server, 0.2))
        calls.append(1)

    def write(record):
        thread = threading.Thread(target=ask)
        thread.start()
        thread.join(5)

    with logging_to(write):
        with pytest.raises(Away):
            gate.call(Attempt(server, 0.5))
    assert calls == [1]


def test_a_receiver_that_opens_another_connection_within_a_try_does_not_wait_for_that_try():
    server, gate = open_circuit()
    server.error = None

    def connect_and_tell_receivers(seconds):
        return gate.call(Attempt(server, 5))

    assert gate.call(Attempt(connect_and_tell_receivers, 5)) == "in"


# Interrupts at any point.


class Interrupt(BaseException):
    """An exception like that of Ctrl-C, a SIGALRM handler or PyThreadState_SetAsyncExc."""


@contextlib.contextmanager
def at_step(number, work):
    """Do some work at the nth step of the gate's code: bytecodes, or lines before Python 3.7."""
    steps = []

    def trace(frame, event, arg):
        if frame.f_code.co_filename.rpartition(".")[0].endswith(("gate", "outage")):
            if hasattr(frame, "f_trace_opcodes"):
                # Not opcodes and lines both: Python 3.8 forgets the exception that the event of a
                # line raised at the line's first bytecode.
                frame.f_trace_opcodes, frame.f_trace_lines = True, False
            if event != "opcode" or opcode(frame) not in NEVER_INTERRUPTED:
                steps.append(1)
            if len(steps) == number:
                sys.settrace(None)
                work()
            return trace

    sys.settrace(trace)
    try:
        yield steps
    finally:
        sys.settrace(None)


def interrupt():
    raise Interrupt()


@pytest.fixture
def hasty(monkeypatch):
    """Make a gate's pauses a millisecond: these tests call a gate for each step of its code."""
    for name in ("FIRST_PAUSE", "LONGEST_PAUSE"):
        monkeypatch.setattr(outage, name, 0.001)
    for name in ("SHORTEST_SLEEP", "LONGEST_SLEEP"):
        monkeypatch.setattr(gates, name, 0.001)


def each_step(work, gate_for):
    """For each step of a call's code, call a gate, and do the work at that step. Yield the gate."""
    number, reached = 0, True
    while reached:
        number += 1
        gate, attempt = gate_for()
        try:
            with at_step(number, work(gate)) as steps:
                gate.call(attempt)
        except (Interrupt, Away):
            pass
        reached = len(steps) >= number
        yield gate
    assert number > 50


def closed_circuit_and_server_that_is_back_soon():
    return Gate(), Attempt(fails(1), 1)


def open_circuit_and_server_that_is_back_soon():
    server, gate = open_circuit()
    return gate, Attempt(fails(1), 1)


def open_circuit_and_server_that_stays_away():
    server, gate = open_circuit()
    return gate, Attempt(server, 0.004)


CASES = [
    closed_circuit_and_server_that_is_back_soon,
    open_circuit_and_server_that_is_back_soon,
    open_circuit_and_server_that_stays_away,
]


def fails(times):
    """A server that is away for the first ``times`` tries."""
    left = [Away("refused")] * times

    def server(seconds):
        if left:
            raise left.pop()
        return "in"

    return server


@pytest.mark.parametrize("case", CASES)
def test_a_call_that_is_interrupted_anywhere_leaves_the_turn_to_others(case, hasty):
    for gate in each_step(lambda gate: interrupt, case):
        started = time.time()
        assert gate.call(Attempt(Server(away=False), 5)) == "in"
        assert time.time() - started < 2


@pytest.mark.parametrize("case", CASES)
def test_a_signal_handler_that_needs_the_server_waits_for_no_call_of_its_own_thread(case, hasty):
    slowest = []

    def handler_for(gate):
        def handle():
            started = time.time()
            try:
                gate.call(Attempt(fails(1), 5))
            except Away:
                pass
            slowest[:] = [max([time.time() - started] + slowest)]

        return handle

    for gate in each_step(handler_for, case):
        assert gate.call(Attempt(Server(away=False), 5)) == "in"
        assert slowest[0] < 2


def test_another_call_may_try_after_a_try_was_interrupted():
    server, gate = open_circuit()

    def interrupted(seconds):
        raise KeyboardInterrupt()

    with pytest.raises(KeyboardInterrupt):
        gate.call(Attempt(interrupted, 5))
    server.error = None
    assert gate.call(Attempt(server, 5)) == "in"


def test_another_thread_takes_over_from_a_thread_whose_try_exceeds_its_limit(crowd):
    server, gate = open_circuit()
    forever = threading.Event()
    crowd(1, gate, lambda seconds: forever.wait(10), 5, try_limit=0.3)
    time.sleep(0.1)
    try:
        assert gate.call(Attempt(Server(away=False), 5, try_limit=0.3)) == "in"
    finally:
        forever.set()
