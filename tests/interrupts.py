"""Interrupts at chosen steps of persistconn's code, and what must be true after each.

A signal handler, a destructor, or an exception set by another thread can come between any two
opcodes. A trace function puts such an interrupt between two chosen opcodes.
"""

from __future__ import absolute_import

import dis
import gc
import os
import sys
import threading
from functools import partial

import forked
import support

import persistconn

try:
    import queue
except ImportError:
    import Queue as queue

PACKAGE = os.path.dirname(os.path.abspath(persistconn.__file__)) + os.sep

#: A walk ends after this many steps have failed.
MOST_FAILURES = 5

# No Python handles signals before these opcodes, and 3.13 keeps the handled error for ever if its
# trace function raises there.
NEVER_INTERRUPTED = ("PUSH_EXC_INFO", "POP_EXCEPT")

# Opcodes that change nothing: an interrupt after one of them is the same as before it.
MERE_MOVES = ("LOAD_", "POP_JUMP", "JUMP_F", "NOP", "COPY", "SWAP", "DUP_", "ROT_")


class Shot(BaseException):
    """The exception of an interrupt, like that of Ctrl-C or of a time limit."""


def shoot():
    raise Shot


class Steps(object):
    """``with Steps(act, number):`` calls ``act()`` before step ``number`` of persistconn's code.

    Only this thread's steps count. Without a number, ``act()`` is called before each step.
    """

    def __init__(self, act, number=None):
        self.act, self.number = act, number
        self.taken = 0
        self.last = {"step": number, "where": None}
        self._opcode = ""

    def __enter__(self):
        watch(self)
        return self

    def __exit__(self, *exception):
        watch(None)

    def before_opcode(self, frame):
        before, self._opcode = self._opcode, opcode(frame)
        if not before.startswith(MERE_MOVES) and self._opcode not in NEVER_INTERRUPTED:
            self.before_step(frame)

    def before_step(self, frame):
        self.taken += 1
        if self.number in (None, self.taken):
            room = frame.f_code.co_filename[len(PACKAGE) :]
            where = (room, frame.f_lineno, frame.f_code.co_name, opcode(frame))
            self.last["where"] = "%s:%s in %s, before %s" % where
            self.act()


def watch(steps):
    """From now on report this thread's opcodes, or lines before Python 3.7, to ``steps``."""

    def on_call(frame, event, argument):
        if not frame.f_code.co_filename.startswith(PACKAGE):
            return None
        if hasattr(frame, "f_trace_opcodes"):
            frame.f_trace_opcodes, frame.f_trace_lines = True, False
        return on_event

    def on_event(frame, event, argument):
        if event == "opcode":
            steps.before_opcode(frame)
        elif event == "line":
            steps.before_step(frame)
        return on_event

    sys.settrace(steps and on_call)


if hasattr(sys, "monitoring"):
    # Python 3.12 and later: settrace() misses opcodes of functions that ran untraced meanwhile.
    TOOL, EVENTS = 4, sys.monitoring.events
    watched = threading.local()

    def watch(steps):  # noqa: F811
        watched.steps = steps
        if sys.monitoring.get_tool(TOOL) is None:
            sys.monitoring.use_tool_id(TOOL, "interrupts")
            sys.monitoring.register_callback(TOOL, EVENTS.PY_START, _on_start)
            sys.monitoring.register_callback(TOOL, EVENTS.INSTRUCTION, _on_instruction)
            sys.monitoring.set_events(TOOL, EVENTS.PY_START)

    def _on_start(code, offset):
        if code.co_filename.startswith(PACKAGE):
            sys.monitoring.set_local_events(TOOL, code, EVENTS.INSTRUCTION)
        return sys.monitoring.DISABLE

    def _on_instruction(code, offset):
        steps = getattr(watched, "steps", None)
        if steps is not None:
            steps.before_opcode(sys._getframe(1))


_opcodes = {}


def opcode(frame):
    code = frame.f_code
    if code not in _opcodes:
        # Newer Pythons copy co_code at each access; in Python 2 it consists of characters.
        _opcodes[code] = bytearray(code.co_code)
    return dis.opname[_opcodes[code][frame.f_lasti]]


def walk(setup, unit, check, act=shoot, errors=(), stride=1):
    """Run ``unit()`` with ``act()`` before its first step, then before its second, and so on.

    The walk ends with the first run that does not reach its step, or after MOST_FAILURES failures.
    A step fails if ``check()`` fails after its run, or if its run hangs. ``setup()`` is called
    before each run. The unit may raise a Shot, an error of the driver, and ``errors``.
    """
    errors += (Shot,) + support.database_errors()
    first, failures = 1, []
    while first is not None and len(failures) < MOST_FAILURES:
        ended = forked.outcome(partial(_walk_on, first, stride, setup, unit, check, act, errors))
        first = None
        if "error" in ended:
            failures.append(ended)
            if ended["doing"]:
                first = ended["doing"]["step"] + stride
    assert not failures, _told(failures)
    print("%d steps" % ended["result"])


def _walk_on(first, stride, setup, unit, check, act, errors, child):
    for _ in range(2):
        # Python 3.12 and later watch the opcodes of a function from its second call on.
        _run(setup, unit, check, Steps(lambda: None), errors)
    steps, number = None, first
    while steps is None or steps.taken >= steps.number:
        steps = Steps(act, number)
        child.goes_on(steps.last)
        _run(setup, unit, check, steps, errors)
        number += stride
    return steps.taken


def _run(setup, unit, check, steps, errors):
    setup()
    _try(unit, steps, errors)
    # Traced frames of an interrupted step can be in a cycle. Where all slots wait, nothing collects it.
    gc.collect(1)
    check()


def _try(unit, steps, errors):
    # Python 2 keeps an error, and the frames in its traceback, until the function returns.
    try:
        with steps:
            unit()
    except errors:
        pass


def _told(failures):
    lines = ["%d steps failed:" % len(failures)]
    for failure in failures:
        lines.append("%(step)s: %(where)s" % (failure["doing"] or {"step": 0, "where": "setup"}))
        lines.append("    " + failure["error"].splitlines()[-1])
    return "\n".join(lines + ["The first:", failures[0]["error"]])


class Helper(object):
    """A thread that does one piece of work at a time. It starts with the first, after a fork."""

    def __init__(self):
        self._orders, self._results = queue.Queue(), queue.Queue()
        self._thread = None

    def begin(self, work):
        if self._thread is None:
            self._thread = threading.Thread(target=self._run)
            self._thread.daemon = True
            self._thread.start()
        self._orders.put(work)

    def end(self):
        """Wait for the work to end. Return its result, or raise its error."""
        result, error = self._results.get()
        if error is not None:
            raise error
        return result

    def _run(self):
        while True:
            self._results.put(_outcome(self._orders.get()))


def _outcome(work):
    try:
        return work(), None
    except BaseException as error:
        return None, error


def check_all_is_well(helpers):
    """Fail unless units of work go on, each with a session of its own, and give all back.

    ``helpers``: one less than there may be connections, since this thread uses one.
    """
    pids = hold_at_once(helpers)
    assert len(set(pids)) == len(pids), "two share a session"
    assert is_idle() or support.wait_until(_is_idle_when_collected, 5), (
        persistconn.stats(),
        support.sessions(),
    )


def hold_at_once(helpers):
    """Have this thread and the helpers use a connection, all at once. Return their backends."""
    arrived, have_all = queue.Queue(), threading.Event()

    def hold():
        try:
            arrived.put(session())
            have_all.wait()
        except Exception:
            arrived.put(None)
            raise
        finally:
            support.end_of_work()

    try:
        pids = [session()]
        for helper in helpers:
            helper.begin(hold)
        pids += [arrived.get() for helper in helpers]
        have_all.set()
        for helper in helpers:
            helper.end()
        return pids
    finally:
        support.end_of_work()


def session():
    """The backend of this thread's unit of work, asked by two statements."""
    pid = support.pid()
    assert support.pid() == pid, "the session has changed between two statements"
    return pid


def is_idle():
    """Whether no connection is in use, and every open session is idle in a pool."""
    numbers = persistconn.stats().values()
    if any(pool["in_use"] or pool["waiting"] for pool in numbers):
        return False
    return sum(pool["idle"] for pool in numbers) == len(support.backends())


def _is_idle_when_collected():
    gc.collect()
    return is_idle()
