"""A leak that is put into the sources, and the test that must notice it."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Mutant:
    """A leak put into the sources.

    Attributes
    ----------
    name : str
    file : str
        Below scripts/.
    text, mutated : str
        What is replaced, which the file must hold exactly once, and by what.
    test : str
        Node below tests/ that must fail by an assertion because of it.
    """

    name: str
    file: str
    text: str
    mutated: str
    test: str
