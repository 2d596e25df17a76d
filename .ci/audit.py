"""Known vulnerabilities of what the lock files install, where the database can be reached; else only that is said.

Exit code 1 if a version is known to be vulnerable and a mended one exists.
"""

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def main() -> None:
    """Audit all lock files."""
    files = [argument for path in sorted((ROOT / "requirements").glob("*.lock")) for argument in ("-r", str(path))]
    flags = ["--disable-pip", "--no-deps", "--progress-spinner=off", "-f", "json"]
    done = subprocess.run([sys.executable, "-P", "-m", "pip_audit", *flags, *files], capture_output=True, text=True)
    try:
        packages = json.loads(done.stdout)["dependencies"]
    except ValueError:
        packages = []
    known = [package for package in packages if "vulns" in package]
    if not known:
        print(
            "audit: the database of vulnerabilities cannot be reached; checked offline alone: the files installed are"
        )
        print("audit: those whose SHA-256 is in the lock files, and they fit each other")
        sys.exit(subprocess.run([sys.executable, "-P", "-m", "pip", "check"]).returncode)
    found = [(package, vulnerability) for package in known for vulnerability in package["vulns"]]
    for package, vulnerability in found:
        mended = ", ".join(vulnerability["fix_versions"]) or "no version"
        print(f"audit: {package['name']} {package['version']}: {vulnerability['id']}, mended in {mended}")
    print(f"audit: {len(known)} packages, {len(found)} known vulnerabilities")
    sys.exit(any(vulnerability["fix_versions"] for _, vulnerability in found))


if __name__ == "__main__":
    main()
