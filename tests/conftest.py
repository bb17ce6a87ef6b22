"""Settings of the whole suite."""

from hypothesis import settings

# the same examples each time: a red run is repeatable, and a green one is not luck
settings.register_profile("suite", derandomize=True, deadline=None, database=None)
settings.load_profile("suite")
