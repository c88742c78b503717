"""Outages, and the units of work that they have hit in use."""

from __future__ import absolute_import


class Outages(object):
    """When the server went away, and when the last session to it had surely ended."""

    def __init__(self):
        self._times = []

    def add(self, began, ended):
        self._times.append((began, ended))

    def hit_in_use(self, unit):
        return unit.sent is not None and any(
            unit.sent <= ended and began <= unit.ended for began, ended in self._times
        )
