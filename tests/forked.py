"""Work in a forked process that ends in time: one that hangs says where its threads are."""

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
    """Run ``work(child)`` in a forked process. Return what it returns; fail as it fails."""
    ended = outcome(work, patience, limit)
    assert "error" not in ended, "%(doing)s\n%(error)s" % ended
    return ended["result"]


def outcome(work, patience=10, limit=1200):
    """Run ``work(child)`` in a forked process. Return how it ended, as a dict.

    "result" is what ``work`` returned. Or there is an "error": a traceback, or the stacks of all
    threads if ``child.goes_on()`` was not called for ``patience`` seconds. "doing" is what it was
    told last.
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
        """Say that nothing hangs, and what comes next: plain data, which may still change."""
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
        # Popped by one thread only: work may end while its time does.
        with os.fdopen(self._pipes.pop(), "wb") as pipe:
            pipe.write(json.dumps(dict(ended, doing=self._doing)).encode())
        os._exit(0)


def stacks():
    """Where all threads are, but for the one that asks."""
    frames = sys._current_frames()
    frames.pop(threading.current_thread().ident)
    return "\n".join("".join(traceback.format_stack(frame)) for frame in frames.values())
