"""The patching engine puts wrappers in place and takes them away without a trace.

These tests patch classes of their own, and signals of Django's class.
"""

from __future__ import absolute_import

import gc
import importlib
import itertools
import logging
import sys
import types
import weakref

import django
import pytest
import support
from django.dispatch import Signal

from persistconn.patching import (
    HotWrap,
    Import,
    LaterWrap,
    Listener,
    OptionalWrap,
    Patcher,
    Receiver,
    Wrap,
)


def shout(wrapped, instance, args, kwargs):
    return wrapped(*args, **kwargs) + "!"


def shouting(original, switch):
    def shout(*args):
        return original(*args) + "!" if switch.is_on else original(*args)

    return shout


@pytest.fixture
def target(monkeypatch):
    module = types.ModuleType("patching_target")

    class Base(object):
        def plain(self):
            return "plain"

        def inherited(self):
            return "inherited"

        @classmethod
        def of_class(cls):
            return cls.__name__

        @staticmethod
        def static():
            return "static"

    class Child(Base):
        pass

    def function(**kwargs):
        return "function"

    module.Base, module.Child, module.function = Base, Child, function
    module.signal = Signal()
    module.signal.connect(function)
    monkeypatch.setitem(sys.modules, "patching_target", module)
    return module


def patcher(*rows):
    patches = Patcher(list(rows))
    patches.switch.is_on = True
    return patches


# Every Django: Patcher applies the rows that it is given.
ALL = ((1, 2), (99,))


def wrap(attribute):
    return Wrap(ALL, "patching_target", attribute, shout, "a test")


def hot(attribute):
    return HotWrap(ALL, "patching_target", attribute, shouting, "a test")


@pytest.mark.parametrize(
    "attribute, call",
    [
        ("Base.plain", lambda m: m.Base().plain()),
        ("Child.inherited", lambda m: m.Child().inherited()),
        ("Base.of_class", lambda m: m.Base.of_class()),
        ("Base.static", lambda m: m.Base.static()),
        ("function", lambda m: m.function()),
    ],
)
def test_a_wrapper_is_called_and_undo_restores_the_identical_object(target, attribute, call):
    parent = target if "." not in attribute else getattr(target, attribute.split(".")[0])
    before, answer = dict(vars(parent)), call(target)
    patches = patcher(wrap(attribute))
    patches.apply()
    assert call(target) == answer + "!"
    patches.undo()
    assert call(target) == answer
    assert dict(vars(parent)) == before


def test_applying_twice_wraps_once(target):
    patches = patcher(wrap("Base.plain"))
    patches.apply()
    patches.apply()
    assert target.Base().plain() == "plain!"
    patches.undo()


def test_undoing_twice_undoes_once(target):
    patches = patcher(wrap("Base.plain"))
    patches.apply()
    patches.undo()
    patches.undo()
    assert target.Base().plain() == "plain"


def test_calls_pass_through_wrappers_while_the_switch_is_off(target):
    patches = patcher(wrap("Base.plain"), hot("Base.inherited"))
    patches.switch.is_on = False
    patches.apply()
    assert target.Base().plain() == "plain"
    assert target.Base().inherited() == "inherited"
    patches.switch.is_on = True
    assert target.Base().plain() == "plain!"
    assert target.Base().inherited() == "inherited!"
    patches.undo()


def test_a_hot_row_wraps_methods_and_functions_and_is_undone_exactly(target):
    before = dict(vars(target.Base)), dict(vars(target.Child)), target.function
    patches = patcher(hot("Base.plain"), hot("Child.inherited"), hot("function"))
    patches.apply()
    assert target.Child().plain() == "plain!"
    assert target.Child().inherited() == "inherited!"
    assert target.Base().inherited() == "inherited"
    assert target.function() == "function!"
    assert target.function.__name__ == "function"
    assert target.function.__wrapped__ is before[2]
    patches.undo()
    assert (dict(vars(target.Base)), dict(vars(target.Child)), target.function) == before


def test_no_row_stays_applied_if_another_row_fails(target):
    before = dict(vars(target.Base))
    patches = patcher(wrap("Base.plain"), wrap("Base.missing"))
    with pytest.raises(AttributeError):
        patches.apply()
    assert dict(vars(target.Base)) == before
    assert not patches.applied


def test_an_optional_row_without_its_module_is_skipped(target):
    patches = patcher(OptionalWrap(ALL, "patching_missing", "function", shout, "a test"))
    patches.apply()
    assert patches.applied
    patches.undo()


def test_undo_leaves_a_later_patch_by_somebody_else_alone_and_logs_a_warning(target, caplog):
    patches = patcher(wrap("Base.plain"))
    patches.apply()
    ours = vars(target.Base)["plain"]

    def theirs(self):
        return "theirs " + ours(self)

    target.Base.plain = theirs
    with caplog.at_level(logging.WARNING, "persistconn"):
        patches.undo()
    patches.switch.is_on = False
    assert target.Base().plain() == "theirs plain"
    assert "patching_target.Base.plain has been patched by somebody else" in caplog.text


def test_a_wrapper_left_under_somebody_elses_patch_is_used_again(target):
    patches = patcher(wrap("Base.plain"))
    patches.apply()
    ours = vars(target.Base)["plain"]
    target.Base.plain = lambda self: "theirs " + ours(self)
    patches.undo()
    patches.apply()
    assert target.Base().plain() == "theirs plain!"


LATER = """
class Base(object):
    def plain(self):
        return "plain"
"""


@pytest.fixture
def import_later(tmpdir, monkeypatch):
    """A function that imports a module with a class Base, which nobody has imported yet."""
    # A name of its own, because hooks of other tests may still wait for their modules.
    name = "patching_later_%d" % next(numbers)
    tmpdir.join(name + ".py").write(LATER)
    monkeypatch.syspath_prepend(str(tmpdir))

    def import_later():
        return importlib.import_module(name)

    import_later.name = name
    yield import_later
    sys.modules.pop(name, None)


numbers = itertools.count()


def later(import_later, attribute="Base.plain"):
    return LaterWrap(ALL, import_later.name, attribute, shouting, "a test")


def test_a_later_row_does_not_import_its_module(import_later):
    patches = patcher(later(import_later))
    patches.apply()
    assert import_later.name not in sys.modules
    patches.undo()


def test_a_later_row_is_applied_when_its_module_is_imported(import_later):
    patches = patcher(later(import_later))
    patches.apply()
    assert import_later().Base().plain() == "plain!"
    patches.undo()


def test_a_later_row_is_applied_at_once_to_a_module_that_was_imported_before(import_later):
    module = import_later()
    patches = patcher(later(import_later))
    patches.apply()
    assert module.Base().plain() == "plain!"
    patches.undo()


def test_undo_of_a_later_row_restores_the_identical_object(import_later):
    module = import_later()
    before = dict(vars(module.Base))
    patches = patcher(later(import_later))
    patches.apply()
    assert dict(vars(module.Base)) != before
    patches.undo()
    assert dict(vars(module.Base)) == before


def test_a_module_imported_after_undo_stays_as_it_is(import_later):
    patches = patcher(later(import_later))
    patches.apply()
    patches.undo()
    module = import_later()
    assert module.Base().plain() == "plain"
    assert not hasattr(module.Base.plain, "__wrapped__")


def test_a_later_row_undone_while_it_is_being_applied_leaves_its_module_as_it_is(import_later):
    def undoing(original, switch):
        patches.undo()
        return shouting(original, switch)

    patches = patcher(LaterWrap(ALL, import_later.name, "Base.plain", undoing, "a test"))
    patches.apply()
    module = import_later()
    assert not hasattr(module.Base.plain, "__wrapped__")


def test_a_later_row_applied_twice_before_the_import_wraps_once(import_later):
    patches = patcher(later(import_later))
    patches.apply()
    patches.undo()
    patches.apply()
    assert import_later().Base().plain() == "plain!"
    patches.undo()


def test_calls_pass_through_a_later_row_while_the_switch_is_off(import_later):
    patches = patcher(later(import_later))
    patches.switch.is_on = False
    patches.apply()
    assert import_later().Base().plain() == "plain"
    patches.undo()


def test_a_later_row_without_its_attribute_logs_a_warning_and_lets_the_import_pass(
    import_later, caplog
):
    patches = patcher(later(import_later, "Base.missing"))
    patches.apply()
    with caplog.at_level(logging.WARNING, "persistconn"):
        assert import_later().Base().plain() == "plain"
    assert "Base.missing is not patched" in caplog.text
    patches.undo()


def test_undo_of_a_later_row_leaves_a_later_patch_by_somebody_else_alone(import_later):
    module = import_later()
    patches = patcher(later(import_later))
    patches.apply()
    ours = vars(module.Base)["plain"]
    module.Base.plain = theirs = lambda self: "theirs " + ours(self)
    patches.undo()
    patches.undo()
    assert vars(module.Base)["plain"] is theirs
    patches.apply()
    assert module.Base().plain() == "theirs plain!"


def test_a_function_of_a_later_row_stays_alive_after_undo_for_those_with_a_weak_reference(
    import_later,
):
    module = import_later()
    patches = patcher(later(import_later))
    patches.apply()
    ref = weakref.ref(vars(module.Base)["plain"])
    patches.undo()
    gc.collect()
    assert ref() is not None
    patches.apply()
    assert vars(module.Base)["plain"] is ref()
    patches.undo()


def test_a_module_that_imported_a_function_gets_the_function_of_its_source(target, monkeypatch):
    importer = types.ModuleType("patching_importer")
    importer.function = stock = target.function
    monkeypatch.setitem(sys.modules, "patching_importer", importer)
    row = Import(ALL, "patching_importer", "patching_target", "function", "a test")
    patches = patcher(wrap("function"), row)
    patches.apply()
    assert importer.function is target.function
    patches.undo()
    assert importer.function is target.function is stock


def test_a_module_that_imported_the_patched_function_gets_the_stock_function_at_undo(
    target, monkeypatch
):
    stock = target.function
    row = Import(ALL, "patching_importer", "patching_target", "function", "a test")
    patches = patcher(wrap("function"), row)
    patches.apply()
    importer = types.ModuleType("patching_importer")
    importer.function = target.function
    monkeypatch.setitem(sys.modules, "patching_importer", importer)
    patches.undo()
    assert importer.function is stock


def receiver():
    return Receiver(ALL, "patching_target", "signal", "patching_target", "function", "a test")


def listener(function):
    return Listener(ALL, "patching_target", "signal", function, "a test")


def received(target, sender=None):
    return support.received_by(target.signal, sender)


def receivers(*names):
    """Make receivers that do nothing."""

    def receiver(name):
        def function(**kwargs):
            pass

        function.__name__ = name
        return function

    return [receiver(name) for name in names]


@pytest.fixture
def between(target):
    """Two receivers, of which one was connected before the target's function, and one after it."""
    before, after = receivers("before", "after")
    target.signal = signal_with(before, target.function, after)
    return before, after


def signal_with(*connected):
    signal = Signal()
    for function in connected:
        signal.connect(function)
    return signal


def test_a_signal_is_received_by_the_function_of_the_source(target):
    stock = target.function
    patches = patcher(wrap("function"), receiver())
    patches.apply()
    assert received(target) == [target.function]
    patches.undo()
    assert received(target) == [stock]


def test_a_receiver_disconnected_by_hand_before_apply_stays_disconnected_at_undo(target):
    target.signal.disconnect(target.function)
    patches = patcher(wrap("function"), receiver())
    patches.apply()
    assert received(target) == [target.function]
    patches.undo()
    assert received(target) == []


def test_a_receiver_disconnected_by_hand_while_replaced_stays_disconnected_at_undo(target):
    patches = patcher(wrap("function"), receiver())
    patches.apply()
    target.signal.disconnect(target.function)
    patches.undo()
    assert received(target) == []


def test_a_receiver_takes_the_place_of_the_replaced_receiver(target, between):
    before, after = between
    patches = patcher(wrap("function"), receiver())
    patches.apply()
    assert received(target) == [before, target.function, after]
    patches.undo()


def test_undo_puts_the_replaced_receiver_back_in_its_place(target, between):
    before, after = between
    stock = target.function
    patches = patcher(wrap("function"), receiver())
    patches.apply()
    (later,) = receivers("later")
    target.signal.connect(later)
    patches.undo()
    assert received(target) == [before, stock, after, later]


def test_a_receiver_comes_last_if_the_replaced_receiver_was_disconnected_by_hand(target, between):
    before, after = between
    target.signal.disconnect(target.function)
    patches = patcher(wrap("function"), receiver())
    patches.apply()
    assert received(target) == [before, after, target.function]
    patches.undo()
    assert received(target) == [before, after]


def test_receivers_that_are_garbage_do_not_shift_the_place_of_a_receiver(target):
    gone, before, after = receivers("gone", "before", "after")
    target.signal = signal_with(gone, before, target.function, after)
    del gone
    patches = patcher(wrap("function"), receiver())
    patches.apply()
    assert received(target) == [before, target.function, after]
    patches.undo()


def test_a_send_under_way_misses_no_receiver_while_a_receiver_is_replaced(target, between):
    entry_after = target.signal.receivers[2]
    patches = patcher(wrap("function"), receiver())
    sending = iter(target.signal.receivers)
    next(sending), next(sending)
    patches.apply()
    assert next(sending) is entry_after
    patches.undo()


class SendingSignal(Signal):
    """Sends at each connect(), as another, faster thread may."""

    def connect(self, *args, **kwargs):
        Signal.connect(self, *args, **kwargs)
        self.send(sender=SendingSignal)


@pytest.mark.skipif(django.VERSION < (1, 6), reason="signals cache since 1.6")
def test_a_caching_signal_sends_in_the_new_order(target):
    before, after = receivers("before", "after")
    target.signal = SendingSignal(use_caching=True)
    for function in (before, target.function, after):
        target.signal.connect(function)
    patches = patcher(wrap("function"), receiver())
    patches.apply()
    assert received(target, SendingSignal) == [before, target.function, after]
    patches.undo()


def test_a_listener_is_the_first_to_receive_a_signal(target):
    calls = []

    def theirs(**kwargs):
        calls.append("theirs")

    def ours(**kwargs):
        calls.append("ours")

    target.signal = signal_with(theirs)
    patches = patcher(listener(ours))
    patches.apply()
    target.signal.send(sender=None)
    assert calls == ["ours", "theirs"]
    patches.undo()


def test_a_send_under_way_calls_no_receiver_twice_while_a_listener_is_added(target, between):
    second = target.signal.receivers[1]
    (ours,) = receivers("ours")
    patches = patcher(listener(ours))
    sending = iter(target.signal.receivers)
    next(sending)
    patches.apply()
    assert next(sending) is second
    patches.undo()
