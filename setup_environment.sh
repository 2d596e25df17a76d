# Sourced by the other scripts, which set $here and ${locks[@]}: create .venv, install changed locks and set $python.
# -P and -I: modules of the current directory, which may be a received run, must not shadow pip or venv.
python="$here/.venv/bin/python"
if ! "$python" -P -m pip --version >/dev/null 2>&1; then
    for candidate in python3.13 python3.12 python3.11 python3; do
        if command -v "$candidate" >/dev/null && "$candidate" -I -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
            break
        fi
        candidate=""
    done
    if [ -z "$candidate" ]; then
        echo "Python 3.11 or later not found: install it (for example python3.11 and python3.11-venv)" >&2
        exit 2
    fi
    echo "creating .venv with $("$candidate" --version)" >&2
    "$candidate" -I -m venv --clear "$here/.venv"
fi
# Install only files whose SHA-256 is in a lock, and build nothing. PyTorch is downloaded first, because its lock accepts
# any of its builds: the CPU-only one where the package index of the machine offers it.
install() {
    "$python" -P -m pip install --quiet --disable-pip-version-check --require-hashes --no-deps --only-binary :all: "$@" >&2
}
install_torch() {
    local folder version
    folder=$(mktemp -d)
    version=$(grep -o '^torch==[^ ]*' "$here/requirements/torch.lock")
    "$python" -P -m pip download --quiet --disable-pip-version-check --no-deps --only-binary :all: -d "$folder" "$version" >&2
    install --no-index --find-links "$folder" -r "$here/requirements/torch.lock"
    rm -r "$folder"
    if "$python" -P -c 'import importlib.metadata as m; raise SystemExit(not any("cuda" in r for r in m.requires("torch")))'; then
        install -r "$here/requirements/gpu.lock"
    fi
}
for lock in torch.lock "${locks[@]}"; do
    stamp="$here/.venv/installed-$lock"
    if ! cmp -s "$here/requirements/$lock" "$stamp"; then
        echo "installing $lock" >&2
        if [ "$lock" = torch.lock ]; then install_torch; else install -r "$here/requirements/$lock"; fi
        cp "$here/requirements/$lock" "$stamp"
    fi
done
