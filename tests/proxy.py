"""A TCP proxy that can fail as a network can, and counts the COMMITs that pass."""

from __future__ import absolute_import

import select
import socket
import struct
import threading

from databases import chosen

#: Seconds within which every line notices a change.
TICK = 0.02
NO_ENCRYPTION = (80877103, 80877104)


class Proxy(object):
    """A proxy for one server.

    ``commits`` counts the COMMITs. ``lose`` is "request" or "answer": that part of the next COMMIT
    is lost, and its line closed. ``answer``, if set, is all that a client gets. ``accepted`` counts
    the clients. ``round_trips`` counts how often a client has begun to speak, or to speak again
    after the server.
    """

    def __init__(self, server, port=0):
        self.target = (server.host, server.port)
        self.answer = self.lose = None
        self.accepted = self.commits = self.round_trips = 0
        self.deaf = False
        self.lines = []
        self._lock = threading.Lock()
        self._listener = socket.socket()
        self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._listener.bind(("127.0.0.1", port))
        self._listener.listen(128)
        self._listener.settimeout(TICK)
        self.host, self.port = self._listener.getsockname()
        self._ended = False
        self._thread = threading.Thread(target=self._accept, name="proxy")
        self._thread.daemon = True
        self._thread.start()

    def _accept(self):
        while not self._ended:
            try:
                client = self._listener.accept()[0]
            except (OSError, socket.error):
                continue
            client.settimeout(None)
            with self._lock:
                self.accepted += 1
                self.lines = [line for line in self.lines if line.is_alive()] + [Line(self, client)]
                self.lines[-1].start()

    def count_commit(self):
        """Count a COMMIT. Return which part of it is to be lost, or None."""
        with self._lock:
            self.commits += 1
            lose, self.lose = self.lose, None
            return lose

    def count_round_trip(self):
        with self._lock:
            self.round_trips += 1

    def lead_to(self, server):
        """Connect new clients to another server. The present lines stay as they are."""
        self.target = (server.host, server.port)

    def cut(self):
        """Close all lines in the regular way."""
        self._end_lines("cut")

    def reset(self):
        """Close all lines with an RST."""
        self._end_lines("reset")

    def stall(self):
        """Let the present lines carry nothing any more, in either direction."""
        for line in self._living():
            line.stalled = True

    def swallow(self):
        """Read what clients send on the present lines, and forward nothing of it."""
        for line in self._living():
            line.swallowing = True

    def heal(self):
        self.deaf = False
        for line in self._living():
            line.stalled = line.swallowing = False

    def _living(self):
        with self._lock:
            return [line for line in self.lines if line.is_alive()]

    def _end_lines(self, verdict):
        lines = self._living()
        for line in lines:
            line.verdict = verdict
        for line in lines:
            line.join()

    def close(self):
        self._ended = True
        self._thread.join()
        self._listener.close()
        self.cut()

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        self.close()


class Line(threading.Thread):
    """The line of one client, and its connection to the server."""

    def __init__(self, proxy, client):
        threading.Thread.__init__(self, name="proxy line")
        self.daemon = True
        self.proxy, self.client, self.server = proxy, client, None
        self.stalled, self.swallowing, self.verdict = proxy.deaf, False, None
        self.lost = None
        self.client_speaks = False

    def run(self):
        try:
            if self.proxy.answer is not None:
                self._say(self.proxy.answer)
            else:
                self._carry()
        except (OSError, socket.error, struct.error):
            pass
        finally:
            self._close()

    def _say(self, answer):
        self.client.settimeout(5)
        while (
            chosen.CLIENTS_BEGIN
            and struct.unpack("!ii", self.client.recv(65536)[:8])[1] in NO_ENCRYPTION
        ):
            self.client.sendall(b"N")
        self.client.sendall(answer)

    def _carry(self):
        while self.stalled and not self.verdict:
            threading.Event().wait(TICK)
        self.server = socket.create_connection(self.proxy.target)
        for end in (self.client, self.server):
            end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        while not self.verdict:
            if self.stalled:
                threading.Event().wait(TICK)
                continue
            for end in select.select([self.client, self.server], [], [], TICK)[0]:
                if not self.stalled and not self._pass_on(end):
                    return

    def _pass_on(self, end):
        """Forward what has arrived. Return False if the line ends."""
        data = end.recv(65536)
        if not data:
            return False
        if end is self.client:
            if not self.client_speaks:
                self.proxy.count_round_trip()
            self.client_speaks = True
            if self.swallowing:
                return True
            if chosen.COMMIT in data:
                self.lost = self.proxy.count_commit()
            if self.lost == "request":
                return False
            self.server.sendall(data)
        elif self.lost == "answer":
            return False
        else:
            self.client_speaks = False
            self.client.sendall(data)
        return True

    def _close(self):
        if self.verdict == "reset":
            self.client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        for end in (self.client, self.server):
            if end is not None:
                end.close()
