"""mysqlclient and PyMySQL."""

from persistconn.drivers.base import IDLE, INTRANS, UNKNOWN, Driver
from persistconn.drivers.timeouts import capped_timeout

# A status flag in every answer of a MySQL server.
SERVER_STATUS_IN_TRANS = 1

# Codes of transient errors: too many connections, server shutting down, socket or host not
# reachable, connection lost while connecting.
NO_ENTRY = frozenset([1040, 1053, 2002, 2003, 2006, 2013, 2055])


class MySQL(Driver):
    shortest_timeout = 1

    def connect_timeout(self, params):
        return params.get("connect_timeout")

    def connect_options(self, params, seconds):
        return {"connect_timeout": capped_timeout(self.connect_timeout(params), seconds)}

    def is_transient(self, error):
        return error.args[:1] and error.args[0] in NO_ENTRY


class PyMySQL(MySQL):
    def connect_timeout(self, params):
        return params.get("connect_timeout", 10)  # the driver's own default

    def status(self, raw):
        if not raw.open:
            return UNKNOWN
        return INTRANS if raw.server_status & SERVER_STATUS_IN_TRANS else IDLE

    def fileno(self, raw):
        return raw._sock.fileno() if raw.open else None
