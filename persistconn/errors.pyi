from typing import Any, Dict, Sequence

from django.core.exceptions import ImproperlyConfigured
from django.db.utils import OperationalError

__all__ = ["PoolTimeout", "UnsupportedDjango"]

class UnsupportedDjango(ImproperlyConfigured): ...

class PoolTimeout(OperationalError):
    holders: Sequence[Dict[str, Any]]
