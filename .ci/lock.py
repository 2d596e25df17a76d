#!/usr/bin/env python3
"""Writes the lock files: every package that the requirements lead to, with the SHA-256 of each of its files.

requirements/base.lock holds what requirements.txt leads to, for Python 3.11 and later, but for PyTorch, of which there
are several builds: requirements/torch.lock has them, requirements/gpu.lock what those with GPU support need beside.
The lock files for export, distribution and development hold what the .txt of that name adds. Needs uv.
"""

import re
import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
# PyTorch's own build for the CPU, which PyPI does not have: torch-2.13.0+cpu-cp311-cp311-manylinux_2_28_x86_64.whl
CPU_BUILD = "sha256:6746dbcbeb526eb61330b76b41ff1b4eb848951103a892eeb080dfa2b264667b"
ADDED = {f"requirements/{name}.lock": f"requirements/{name}.txt" for name in ("export", "distributed", "dev")}
ON_GPU = re.compile("nvidia|cuda|triton")


def resolved(*files: str, constraints: str = "") -> dict[str, str]:
    """Entries of each package, which may depend on the platform, by its name."""
    command = "uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header --no-annotate"
    given = ["-c", "-"] if constraints else []
    done = subprocess.run(
        [*command.split(), *files, *given], cwd=ROOT, input=constraints, text=True, check=True, stdout=subprocess.PIPE
    )
    found: dict[str, str] = {}
    for entry in filter(None, re.split(r"^(?=\S)", done.stdout, flags=re.M)):
        name = entry.split("==")[0]
        found[name] = found.get(name, "") + entry
    return found


def write(name: str, entries: dict[str, str]) -> None:
    """Write a lock file."""
    (ROOT / name).write_text("# Made by .ci/lock.py\n" + "".join(entries.values()))


def main() -> None:
    """Resolve all requirements together, and part the result."""
    every = resolved("requirements.txt", *ADDED.values())
    versions = "\n".join(re.findall(r"^\S.*(?= \\$)", "".join(every.values()), re.M))
    run = resolved("requirements.txt", constraints=versions)
    every["torch"] = every["torch"].rstrip() + f" \\\n    --hash={CPU_BUILD}\n"
    for lock, file in ADDED.items():
        write(
            lock,
            {name: every[name] for name in resolved("requirements.txt", file, constraints=versions) if name not in run},
        )
    write("requirements/base.lock", {name: every[name] for name in run if name != "torch" and not ON_GPU.match(name)})
    write("requirements/torch.lock", {"torch": every["torch"]})
    write("requirements/gpu.lock", {name: every[name] for name in run if ON_GPU.match(name)})


if __name__ == "__main__":
    main()
