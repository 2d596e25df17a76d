"""The marker `slow` is on tests that start processes, whatever lies between, and on no others."""

from tests import forked
from tests.conftest import artifact, finish
from tests.slow import starts_processes


def indirect(folder):
    return [finish(folder, scripts=[name]) for name in ("one", "two")]


def test_a_function_that_starts_processes_by_another_one_is_found():
    def by_attribute():
        return forked.completed("script", "folder")

    def nested():
        return lambda folder: indirect(folder)

    assert all(starts_processes(function, set()) for function in (finish, indirect, by_attribute, nested))


def test_a_function_that_only_reads_is_not_slow(request):
    assert not starts_processes(artifact, set())
    assert request.node.get_closest_marker("slow") is None
