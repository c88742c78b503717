"""A backend of Django whose driver has what PEP 249 names, and nothing else."""
