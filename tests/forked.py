"""Run work in a forked process; if it hangs, report the stacks of its threads."""

from __future__ import absolute_import

import json
import os
import select
import signal
import sys
import threading
import time
import traceback

import support


def run(work, patience=10, limit=1200):
    """Run ``work(child)`` in a forked process. Return its result, or fail with its error."""
    ended = outcome(work, patience, limit)
    assert "error" not in ended, "%(doing)s\n%(error)s" % ended
    return ended["result"]


def outcome(work, patience=10, limit=1200):
    """Run ``work(child)`` in a forked process. Return how it ended, as a dict.

    "result" is the return value of ``work``. Instead there may be an "error": a traceback, or the
    stacks of all threads if nothing called ``child.goes_on()`` for ``patience`` seconds. "doing" is
    the argument of the last ``child.goes_on()``.
    """
    support.close_sessions()
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(reading)
        Child(writing, patience).run(work)
    os.close(writing)
    try:
        said = _read(reading, time.time() + limit)
    finally:
        os.close(reading)
        os.kill(pid, signal.SIGKILL)
        status = os.waitpid(pid, 0)[1]
    assert support.wait_until(lambda: support.backends() == [])
    if not said:
        return {"error": "It ended with status %d and without a word." % status, "doing": None}
    return json.loads(said.decode())


def _read(reading, ends_at):
    said = b""
    while select.select([reading], [], [], max(0, ends_at - time.time()))[0]:
        piece = os.read(reading, 65536)
        if not piece:
            break
        said += piece
    return said


class Child(object):
    """The forked process, as its work sees it."""

    def __init__(self, pipe, patience):
        self._pipes, self._patience = [pipe], patience
        self.goes_on(None)
        watch = threading.Thread(target=self._watch)
        watch.daemon = True
        watch.start()

    def goes_on(self, doing):
        """Report that the work goes on, and its next step: plain data, which may still change."""
        self._doing, self._ends_at = doing, time.time() + self._patience

    def run(self, work):
        try:
            ended = {"result": work(self)}
        except BaseException:
            ended = {"error": traceback.format_exc()}
        self._leave(ended)

    def _watch(self):
        while time.time() < self._ends_at:
            time.sleep(0.1)
        self._leave({"error": "It hangs.\n" + stacks()})

    def _leave(self, ended):
        # Only one thread can pop the pipe: the work may end just when its time is up.
        with os.fdopen(self._pipes.pop(), "wb") as pipe:
            pipe.write(json.dumps(dict(ended, doing=self._doing)).encode())
        os._exit(0)


def stacks():
    """The stacks of all threads but the calling one."""
    frames = sys._current_frames()
    frames.pop(threading.current_thread().ident)
    return "\n".join("".join(traceback.format_stack(frame)) for frame in frames.values())
