"""Whether the server of a pool takes writes: how a failover shows, and which sessions it ends."""

#: The default of CHECK_AFTER, in seconds, for where it is None.
LEAST_AGE = 1


class Writing(object):
    """The knowledge of a pool about its server: sessions that can write, and refused writes."""

    def __init__(self):
        #: The number of times so far that all older sessions had to show they can write.
        self.doubts = 0
        # When the last session was opened that could write. None: none ever could, as on a replica.
        self._writer_opened_at = None
        self._is_refused = False  # whether a write was refused since then
        #: The beginning of the CHECK_AFTER seconds in which each session is replaced once.
        self.replacing_since = float("-inf")

    def is_possible(self):
        """Whether any session could ever write. If not, this is a replica on purpose."""
        return self._writer_opened_at is not None

    def refused(self):
        """Note that a session could not write. Return whether the others are to be asked."""
        if self.is_possible():
            self._is_refused = True
            self.doubts += 1
            return True
        return False

    def began(self, entry):
        """Note a new session that can write. Return whether the others are to be asked again.

        After a refused write it may be the first one on another server.
        """
        self._writer_opened_at = entry.opened_at
        if self._is_refused:
            self._is_refused = False
            self.doubts += 1
            return True
        return False

    def replaces(self, entry, now):
        """Whether another session may be able to write where this one cannot.

        As long as no server takes writes, or if the users make their sessions read-only, a new
        session cannot write either. So each is replaced at most once in CHECK_AFTER seconds.
        """
        check_after = entry.pool.values.check_after
        check_after = LEAST_AGE if check_after is None else check_after
        # Behind a middleman the server's own reports can be another server's.
        if entry.driver.read_only(entry.raw) != "off":
            if entry.was_read_only == "off":
                if now - self.replacing_since >= check_after:
                    self.replacing_since = now
                return entry.opened_at <= self.replacing_since
            if self.is_possible() and entry.opened_at < self._writer_opened_at:
                return True
        return now - entry.opened_at >= check_after
