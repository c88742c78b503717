from django.dispatch import Signal

__all__ = ["connection_checked_in", "connection_checked_out"]

connection_checked_out: Signal
connection_checked_in: Signal
