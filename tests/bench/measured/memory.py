"""The leftovers of requests: resident size, objects, and garbage that only the collector finds."""

from __future__ import absolute_import

import gc
import os
import sys

from measured.requests import timer

WARM_UP = 50
#: Requests that are observed with the collector switched off.
WATCHED = 100


def resident_kilobytes():
    with open("/proc/self/statm") as statm:
        return int(statm.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") // 1024


def snapshot():
    gc.collect()
    counts = {"objects": len(gc.get_objects()), "kilobytes": resident_kilobytes()}
    if hasattr(sys, "getallocatedblocks"):
        counts["blocks"] = sys.getallocatedblocks()
    return counts


def growth(get, most, seconds):
    """Growth per request of what is still there after a collection, and the requests made."""
    before, end, count = snapshot(), timer() + seconds, 0
    while count < most and (timer() < end or count < WATCHED):
        get()
        count += 1
    after = snapshot()
    grown = dict((name, float(after[name] - before[name]) / count) for name in before)
    return dict(grown, requests=count, resident=after["kilobytes"])


def garbage(get):
    """Objects in cycles that each request leaves to the collector."""
    gc.collect()
    gc.disable()
    try:
        for _turn in range(WATCHED):
            get()
        return float(gc.collect()) / WATCHED
    finally:
        gc.enable()


def measure(get, most, seconds):
    for _turn in range(WARM_UP):
        get()
    return dict(growth(get, most, seconds), garbage=garbage(get))
