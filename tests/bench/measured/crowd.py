"""Many threads share few connections: how many sessions there are, and how many requests fail."""

from __future__ import absolute_import

import threading

from measured.memory import resident_kilobytes
from measured.requests import timer

#: A thousand stacks of the usual 8 MB may need more memory than a machine gives.
STACK = 512 * 1024

#: By Django's name of the database. The contender's settings have the name.
SESSIONS = {
    "postgresql": "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'crowd'",
    # Without those of the watcher, who has the same account.
    "mysql": "SELECT count(*) FROM information_schema.processlist"
    " WHERE user = 'crowd' AND id <> connection_id()",
}


class Watcher(threading.Thread):
    """Counts the crowd's sessions, from a session of its own, until it is stopped."""

    def __init__(self, raw, vendor):
        super(Watcher, self).__init__()
        self.daemon = True
        self.most = self.looks = 0
        self._raw, self._sessions = raw, SESSIONS[vendor]
        self._end = threading.Event()

    def run(self):
        cursor = self._raw.cursor()
        while not self._end.is_set():
            cursor.execute(self._sessions)
            self.most = max(self.most, cursor.fetchone()[0])
            self._raw.rollback()
            self.looks += 1
            self._end.wait(0.02)

    def stop(self):
        self._end.set()
        self.join()


class Crowd(object):
    """Threads that all begin at once, and make the same request again and again."""

    def __init__(self, requests, threads, each):
        self.lost = []
        self._requests, self._each = requests, each
        self._begin = threading.Event()
        threading.stack_size(STACK)
        self._threads = [threading.Thread(target=self._run) for _number in range(threads)]
        for thread in self._threads:
            thread.start()

    def _run(self):
        self._begin.wait()
        for _turn in range(self._each):
            try:
                self._requests.get("/one/")
            except Exception as error:
                self.lost.append(str(error))

    def run(self):
        """Let the threads begin. Return the seconds that they took."""
        begin = timer()
        self._begin.set()
        for thread in self._threads:
            thread.join()
        return timer() - begin


def measure(requests, threads, each, raw, vendor):
    """Let ``threads`` threads make ``each`` requests each. Return what happened."""
    crowd, watcher = Crowd(requests, threads, each), Watcher(raw, vendor)
    watcher.start()
    seconds = crowd.run()
    watcher.stop()
    return {
        "threads": threads,
        "requests": threads * each,
        "lost": len(crowd.lost),
        "error": (crowd.lost or [""])[0],
        "sessions": watcher.most,
        "looks": watcher.looks,
        "seconds": seconds,
        "resident": resident_kilobytes(),
    }
