"""The place of a receiver among those of one of Django's signals.

The format of the entries of ``signal.receivers`` depends on Django's version. So these functions
move entries without reading them: the one that disconnect() removes is the receiver's.
"""

import copy


def is_connected(signal, receiver):
    return bool(_take_out(_copy(signal), receiver)[1])


def move(signal, receiver, instead_of=None):
    """Move a connected receiver to the front, or to the place of another, which is disconnected."""
    # Since 1.6 a signal can cache its receivers.
    clear_cache = getattr(signal, "sender_receivers_cache", {}).clear
    is_done = False
    while not is_done:
        before = list(signal.receivers)
        after = _moved(signal, receiver, instead_of)
        # Nothing is allocated under the lock: before 1.7 a garbage collection may want it.
        with signal.lock:
            is_done = signal.receivers == before
            if is_done:
                # A new list, because other threads may be iterating over the old one.
                signal.receivers = after
                clear_cache()


def _moved(signal, receiver, instead_of):
    moved, index = _copy(signal), 0
    _, entries = _take_out(moved, receiver)
    if instead_of is not None:
        index, _ = _take_out(moved, instead_of)
    return moved.receivers[:index] + entries + moved.receivers[index:]


def _copy(signal):
    """Return a copy of a signal with a list of its own, to take receivers out of."""
    copied = copy.copy(signal)
    copied.receivers, copied.sender_receivers_cache = list(signal.receivers), {}
    # Every disconnect() also drops the entries of dead receivers. This one only does that.
    copied.disconnect(None)
    return copied


def _take_out(signal, receiver):
    """Disconnect a receiver. Return its index and [its entry], or the end and [] if it had none."""
    before = list(signal.receivers)
    signal.disconnect(receiver)
    after = signal.receivers
    index = next((i for i, entry in enumerate(after) if entry is not before[i]), len(after))
    return index, before[index : index + len(before) - len(after)]
