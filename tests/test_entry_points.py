"""The entry points that install persistconn, each in a process of its own, as on a site."""

from __future__ import absolute_import

import os
import subprocess
import sys

import django
import pytest
import support

BEFORE_1_7 = django.VERSION < (1, 7)

SETTINGS = """
SECRET_KEY = "not secret"
DATABASES = {"default": %(database)r}
INSTALLED_APPS = %(apps)r
MIDDLEWARE = MIDDLEWARE_CLASSES = %(middleware)r
ROOT_URLCONF = "site_urls"
ALLOWED_HOSTS = ["*"]
USE_I18N = USE_TZ = False
%(more)s
"""

ASK = """
import os, sys
sys.path[:0] = %(path)r
os.environ["DJANGO_SETTINGS_MODULE"] = "door_settings"
%(code)s
"""


@pytest.fixture
def run(tmpdir):
    """Run code with settings of its own in a new Python; return what it prints."""

    def run(code, apps=(), middleware=(), more="", options=()):
        values = {
            "database": support.database_settings(support.DATABASE),
            "apps": list(apps),
            "middleware": list(middleware),
            "more": more,
        }
        tmpdir.join("door_settings.py").write(SETTINGS % values)
        here = os.path.dirname(os.path.abspath(__file__))
        path = [str(tmpdir), here, os.path.dirname(here)]
        command = [sys.executable] + list(options)
        process = subprocess.Popen(
            command + ["-c", ASK % {"path": path, "code": code}],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            universal_newlines=True,
        )
        output = support.finish(process)[0].strip()
        assert process.returncode == 0, output
        return output

    return run


REQUESTS = """
import support
if hasattr(__import__("django"), "setup"):
    __import__("django").setup()
from django.core.handlers.wsgi import WSGIHandler
handler = WSGIHandler()
pids = [support.get("/pid/", handler).text for request in range(5)]
import persistconn
print("%d backends, enabled: %s" % (len(set(pids)), persistconn.is_enabled()))
"""
KEPT = "1 backends, enabled: True"


@pytest.mark.skipif(BEFORE_1_7, reason="a WSGI worker may never import an app before 1.7")
def test_installed_apps_alone_installs_persistconn(run):
    assert run(REQUESTS, apps=["persistconn"]) == KEPT


@pytest.mark.skipif(django.VERSION < (3, 2), reason="AppConfigs are found by themselves since 3.2")
def test_installed_apps_warns_of_nothing(run):
    options = ["-W", "error::DeprecationWarning", "-W", "error::PendingDeprecationWarning"]
    assert run(REQUESTS, apps=["persistconn"], options=options) == KEPT


def test_the_middleware_alone_installs_persistconn(run):
    assert run(REQUESTS, middleware=["persistconn.middleware.Install"]) == KEPT


def test_install_called_in_wsgi_py_installs_persistconn(run):
    assert run("import persistconn; persistconn.install()\n" + REQUESTS) == KEPT


def test_all_entry_points_work_together(run):
    output = run(
        "import persistconn; persistconn.install()\n" + REQUESTS,
        apps=["persistconn"],
        middleware=["persistconn.middleware.Install"],
    )
    assert output == KEPT


def test_persistconn_can_be_installed_on_a_site_without_a_database(run):
    code = "import persistconn; persistconn.install()\n" + REQUESTS.replace("/pid/", "/none/")
    dummy = "DATABASES = {'default': {'ENGINE': 'django.db.backends.dummy'}}"
    assert run(code, more=dummy) == KEPT


def test_an_import_without_settings_does_not_install(run):
    code = 'del os.environ["DJANGO_SETTINGS_MODULE"]\nimport persistconn\n'
    assert run(code + "print(persistconn.is_enabled())") == "False"


def test_an_import_inside_settings_py_is_harmless(run):
    assert run(REQUESTS.split("import persistconn")[0], more="import persistconn") == ""


@pytest.mark.skipif(not BEFORE_1_7, reason="before 1.7 apps are merely imported")
def test_an_import_with_settings_installs(run):
    code = "from django.conf import settings\nsettings.DEBUG\nimport persistconn\n"
    assert run(code + "print(persistconn.is_enabled())") == "True"


@pytest.mark.skipif(not BEFORE_1_7, reason="before 1.7 models are loaded late")
def test_loading_models_installs(run):
    code = "from django.db.models.loading import get_models\nget_models()\nimport persistconn\n"
    assert run(code + "print(persistconn.is_enabled())", apps=["persistconn"]) == "True"


def test_persistconn_is_enabled_in_a_management_command(run):
    setup = "__import__('django').setup()" if not BEFORE_1_7 else ""
    code = setup + "\nfrom django.core.management import call_command\n"
    code += "call_command(%r)\n" % ("validate" if BEFORE_1_7 else "check")
    code += "import persistconn\nprint(persistconn.is_enabled())"
    assert run(code, apps=["persistconn"]).splitlines()[-1] == "True"


def test_a_bad_setting_stops_the_start_with_a_message_about_that_setting(run):
    setup = "__import__('django').setup()" if not BEFORE_1_7 else "from django.conf import settings"
    code = "from django.core.exceptions import ImproperlyConfigured\ntry:\n    %s\n" % setup
    code += (
        "    __import__('persistconn').install()\nexcept ImproperlyConfigured as e:\n    print(e)"
    )
    output = run(code, apps=["persistconn"], more="PERSISTCONN_MAX_AGE = 'long'")
    expected = "PERSISTCONN_MAX_AGE is 'long'; allowed: a number of seconds, 0 (off) or None"
    assert output.startswith(expected)


def test_the_error_for_an_unsupported_django_names_both_versions():
    from persistconn.django_versions import for_version
    from persistconn.errors import UnsupportedDjango

    with pytest.raises(UnsupportedDjango) as error:
        for_version((1, 1, 4, "final", 0))
    assert str(error.value) == "persistconn supports Django 1.2 and later; this is Django 1.1."
