# Sourced by the other scripts, which set $here and ${requirements[@]}: makes .venv, installs what changed, sets $python.
python="$here/.venv/bin/python"
if ! "$python" -m pip --version >/dev/null 2>&1; then
    for candidate in python3.13 python3.12 python3.11 python3; do
        if command -v "$candidate" >/dev/null && "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))'; then
            break
        fi
        candidate=""
    done
    if [ -z "$candidate" ]; then
        echo "Python 3.11 or later was not found: install it (for example python3.11 and python3.11-venv)" >&2
        exit 2
    fi
    echo "making .venv with $("$candidate" --version)" >&2
    "$candidate" -m venv --clear "$here/.venv"
fi
for file in "${requirements[@]}"; do
    stamp="$here/.venv/installed-$file"
    if ! cmp -s "$here/$file" "$stamp"; then
        echo "installing $file" >&2
        "$python" -m pip install --quiet --disable-pip-version-check -r "$here/$file" >&2
        cp "$here/$file" "$stamp"
    fi
done
