"""Units of work in more greenlets than there may be sessions, beside a greenlet that only ticks."""

from __future__ import absolute_import

import json
import sys
import time

import gevent

from project import (
    sessions,
    with_gevent,  # noqa: F401, I001, before all else
)

TURNS = 3


class Ticker(object):
    """A greenlet that wants to run every few milliseconds."""

    interval = 0.002

    def __init__(self):
        self.ticks, self.longest_gap = 0, 0
        self._greenlet = gevent.spawn(self._run)

    def _run(self):
        before = time.time()
        while True:
            gevent.sleep(self.interval)
            now = time.time()
            self.longest_gap = max(self.longest_gap, now - before)
            self.ticks += 1
            before = now

    def stop(self):
        self._greenlet.kill()


def unit_of_work(tag, seconds):
    """Several statements in one unit; the answers and the sessions that gave them."""
    try:
        return [sessions.ask("%s/%d" % (tag, turn), seconds) for turn in range(TURNS)]
    finally:
        sessions.end_of_work()


def run_all(count, seconds):
    """Run ``count`` units at once. Return their answers, and how the loop ran meanwhile."""
    import persistconn

    ticker, most_waiting = Ticker(), 0
    greenlets = [gevent.spawn(unit_of_work, number, seconds) for number in range(count)]
    while not all(greenlet.ready() for greenlet in greenlets):
        most_waiting = max(most_waiting, persistconn.stats().get("default", {}).get("waiting", 0))
        gevent.sleep(0.01)
    ticker.stop()
    report = {"ticks": ticker.ticks, "longest_gap": ticker.longest_gap}
    return dict(
        report, answers=[greenlet.value for greenlet in greenlets], most_waiting=most_waiting
    )


def kill_all(count, seconds):
    """Begin ``count`` units, and kill each while it waits, connects or queries."""
    for _turn in range(5):
        greenlets = [gevent.spawn(unit_of_work, number, seconds) for number in range(count)]
        for greenlet in greenlets:
            gevent.sleep(0.001)
            greenlet.kill(block=False)
        gevent.joinall(greenlets)


def leave_all(count, seconds):
    """Let ``count`` greenlets end without ending their work."""
    gevent.joinall([gevent.spawn(sessions.backend) for number in range(count)])


if __name__ == "__main__":
    how, count, seconds = sys.argv[1:]
    persistconn = sessions.set_up()
    if how != "run":
        {"kill": kill_all, "leave": leave_all}[how](int(count), float(seconds))
    report = run_all(int(count), float(seconds))
    print(json.dumps(dict(report, stats=persistconn.stats()["default"])))
