"""The marker `slow`: tests that start processes get it here; tests that compute for seconds have it as a decorator."""

import multiprocessing
import subprocess
from types import CodeType, FunctionType, ModuleType

import pytest

from scripts.execution.processes import ProcessExecutor

STARTERS = (subprocess, multiprocessing, ProcessExecutor)
STARTING_NAMES = {"fork", "tests.forked"}  # the second is imported where it is used


def names(code):
    """Return the global names and attributes that a function uses, those of functions inside it included."""
    inner = [names(part) for part in code.co_consts if isinstance(part, CodeType)]
    return set(code.co_names).union(*inner)


def starts_processes(function, seen):
    """Return True if a function of the tests, or one that it calls, starts a process."""
    seen.add(function)
    used = names(function.__code__)
    values = [function.__globals__[name] for name in used if name in function.__globals__]
    of_tests = [value for value in values if isinstance(value, ModuleType) and value.__name__.startswith("tests.")]
    values += [vars(module)[name] for module in of_tests for name in used if name in vars(module)]
    if used & STARTING_NAMES or any(value in STARTERS for value in values if isinstance(value, (ModuleType, type))):
        return True
    called = [value for value in values if isinstance(value, FunctionType) and value.__module__.startswith("tests.")]
    return any(starts_processes(value, seen) for value in called if value not in seen)


def mark(items):
    """Mark the tests that start processes, themselves or by their fixtures."""
    found = {}
    for item in items:
        fixtures = item._fixtureinfo.name2fixturedefs.values()
        for function in [item.function, *(definition.func for definitions in fixtures for definition in definitions)]:
            if function not in found:
                of_tests = getattr(function, "__module__", "").startswith("tests.")
                found[function] = of_tests and starts_processes(function, set())
            if found[function]:
                item.add_marker(pytest.mark.slow)
                break
