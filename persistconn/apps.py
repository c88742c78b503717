"""The entry point for Django 1.7 and later: an app in INSTALLED_APPS."""

from django.apps import AppConfig
from django.core import checks

from persistconn import control, problems


class PersistconnConfig(AppConfig):
    name = "persistconn"
    verbose_name = "Persistent database connections"

    def ready(self):
        checks.register("persistconn")(check_settings)
        control.install()


def check_settings(app_configs=None, **kwargs):
    """persistconn.E001: a value is not allowed. persistconn.E002: there is no such setting."""
    return [
        checks.Error(problem.message, hint=problem.hint, id=problem.id)
        for problem in problems.find_problems(has_apps=True)
    ]
