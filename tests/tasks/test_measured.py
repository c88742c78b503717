"""The table of docs/tasks.md: ``nox -s tasks -- --measure=1000``. No other run has it."""

from __future__ import absolute_import

import pytest
import systems
import workers
from workers import CONTENDERS, Ended, Result

MEASURED = [system for system in systems.ALL if system.is_installed()]


@pytest.mark.parametrize("system", MEASURED, ids=repr)
def test_measured(system, request):
    """Add a line of the table: connections opened, and errors after a kill in the middle."""
    number = request.config.getoption("--measure")
    opened, errors = [], []
    for contender in CONTENDERS:
        result = Result(system, number, contender)
        assert result.failed == []
        opened.append("%d" % result.opened)
        errors.append(errors_after_a_kill(system, contender))
    versions = ", ".join("%s %s" % pair for pair in workers.versions(system.distributions))
    cells = [system.name, versions] + opened + errors
    request.config.rows.append("| " + " | ".join(cells) + " |")


def errors_after_a_kill(system, contender):
    try:
        return "%d" % len(Result(system.slow(), 100, contender, kills=True).failed)
    except Ended:
        return "the worker ends"
