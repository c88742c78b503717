"""PgBouncer's console, and the greatest number of connections while a block runs."""

from __future__ import absolute_import

import threading

import support

#: Sessions of clients on the server, whoever opened them, without those of the tests.
SESSIONS = """
SELECT count(*) FROM pg_stat_activity
WHERE backend_type = 'client backend' AND application_name <> 'fault admin'"""


ESTABLISHED = "01"


def count_clients(port):
    """How many clients are connected to a port of this machine."""
    with open("/proc/net/tcp") as table:
        lines = [line.split() for line in table][1:]
    return len([x for x in lines if x[1].endswith(":%04X" % port) and x[3] == ESTABLISHED])


class Console(object):
    """``with Console(bouncer) as console: console.tell("RECONNECT")``"""

    def __init__(self, bouncer):
        options = {} if support.driver.__name__ == "psycopg2" else {"prepare_threshold": None}
        self._session = support.driver.connect(
            host=bouncer.host, port=bouncer.port, user="postgres", dbname="pgbouncer", **options
        )
        self._session.autocommit = True

    def tell(self, command):
        """Give a command. Return the rows of the answer as dicts."""
        cursor = self._session.cursor()
        cursor.execute(command)
        names = [column[0] for column in cursor.description or ()]
        return [dict(zip(names, row)) for row in (cursor.fetchall() if names else ())]

    def clients(self):
        """How many clients there are, without consoles."""
        return len([c for c in self.tell("SHOW CLIENTS") if c["database"] != "pgbouncer"])

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        self._session.close()


class Holder(object):
    """Another client in a transaction: it holds the session that PgBouncer gives out next."""

    def __init__(self, bouncer):
        self._where = {"host": bouncer.host, "port": bouncer.port}

    def hold(self):
        self._session = support.driver.connect(user="postgres", dbname="postgres", **self._where)
        self._session.cursor().execute("SELECT 1")

    def let_go(self):
        self._session.close()

    def __enter__(self):
        self.hold()
        return self

    def __exit__(self, *exception):
        self.let_go()


class Most(object):
    """``number`` is the greatest that ``count()`` has returned while the block ran."""

    def __init__(self, count, interval=0.005):
        self.number = self.taken = 0
        self._count, self._interval = count, interval
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def _run(self):
        while not self._end.is_set():
            self.number = max(self.number, self._count())
            self.taken += 1
            self._end.wait(self._interval)

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *exception):
        self._end.set()
        self._thread.join()


class ServerSessions(Most):
    """The greatest number of sessions on a server."""

    def __init__(self, cluster):
        self._cursor = cluster.connect().cursor()
        Most.__init__(self, self._ask)

    def _ask(self):
        self._cursor.execute(SESSIONS)
        return self._cursor.fetchone()[0]

    def __exit__(self, *exception):
        Most.__exit__(self, *exception)
        self._cursor.connection.close()


class PoolerClients(Most):
    """The greatest number of clients of a PgBouncer."""

    def __init__(self, bouncer):
        self._console = Console(bouncer)
        Most.__init__(self, self._console.clients)

    def __exit__(self, *exception):
        Most.__exit__(self, *exception)
        self._console.__exit__()
