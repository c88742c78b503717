"""The engine: puts wrappers in place and takes them away without a trace. On classes of its own."""

from __future__ import absolute_import

import logging
import sys
import types

import pytest

from persistconn.patching import HotWrap, Import, OptionalWrap, Patcher, Receiver, Wrap


class FakeSignal(object):
    """Has what the engine uses of django.dispatch.Signal."""

    def __init__(self, *receivers):
        self.receivers = list(receivers)

    def connect(self, receiver):
        self.receivers.append(receiver)

    def disconnect(self, receiver):
        if receiver in self.receivers:
            self.receivers.remove(receiver)


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

    def function():
        return "function"

    module.Base, module.Child, module.function = Base, Child, function
    module.signal = FakeSignal(function)
    monkeypatch.setitem(sys.modules, "patching_target", module)
    return module


def patcher(*rows):
    patches = Patcher(list(rows))
    patches.switch.is_on = True
    return patches


def wrap(attribute):
    return Wrap("patching_target", attribute, shout, "a test")


def hot(attribute):
    return HotWrap("patching_target", attribute, shouting, "a test")


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
def test_a_wrapper_is_called_and_undoing_it_restores_the_identical_object(target, attribute, call):
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


def test_while_it_is_off_calls_pass_through(target):
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


def test_all_or_nothing(target):
    before = dict(vars(target.Base))
    patches = patcher(wrap("Base.plain"), wrap("Base.missing"))
    with pytest.raises(AttributeError):
        patches.apply()
    assert dict(vars(target.Base)) == before
    assert not patches.applied


def test_an_optional_row_may_have_no_module(target):
    patches = patcher(OptionalWrap("patching_missing", "function", shout, "a test"))
    patches.apply()
    assert patches.applied
    patches.undo()


def test_somebody_elses_later_patch_is_left_alone_and_said(target, caplog):
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


def test_what_was_left_under_somebody_elses_patch_is_used_again(target):
    patches = patcher(wrap("Base.plain"))
    patches.apply()
    ours = vars(target.Base)["plain"]
    target.Base.plain = lambda self: "theirs " + ours(self)
    patches.undo()
    patches.apply()
    assert target.Base().plain() == "theirs plain!"


def test_a_module_that_imported_the_name_gets_what_the_source_has(target, monkeypatch):
    importer = types.ModuleType("patching_importer")
    importer.function = stock = target.function
    monkeypatch.setitem(sys.modules, "patching_importer", importer)
    row = Import("patching_importer", "patching_target", "function", "a test")
    patches = patcher(wrap("function"), row)
    patches.apply()
    assert importer.function is target.function
    patches.undo()
    assert importer.function is target.function is stock


def test_so_does_one_that_is_imported_later_once_it_is_undone(target, monkeypatch):
    stock = target.function
    row = Import("patching_importer", "patching_target", "function", "a test")
    patches = patcher(wrap("function"), row)
    patches.apply()
    importer = types.ModuleType("patching_importer")
    importer.function = target.function
    monkeypatch.setitem(sys.modules, "patching_importer", importer)
    patches.undo()
    assert importer.function is stock


def receiver():
    return Receiver("patching_target", "signal", "patching_target", "function", "a test")


def test_a_signal_is_received_by_what_the_source_has(target):
    stock = target.function
    patches = patcher(wrap("function"), receiver())
    patches.apply()
    assert target.signal.receivers == [target.function]
    patches.undo()
    assert target.signal.receivers == [stock]


def test_a_receiver_that_was_disconnected_by_hand_stays_so_when_it_is_undone(target):
    target.signal.receivers = []
    patches = patcher(wrap("function"), receiver())
    patches.apply()
    assert target.signal.receivers == [target.function]
    patches.undo()
    assert target.signal.receivers == []
