"""No module can run code that a file holds, and only the modules for it open files for writing."""

import ast
import itertools

import pytest

from tests.conftest import ROOT

UNSAFE_MODULES = {"pickle", "cPickle", "dill", "cloudpickle", "joblib", "marshal", "shelve"}
UNSAFE_BUILTINS = {"eval", "exec", "compile", "__import__"}
UNSAFE_METHODS = {"read_pickle", "to_pickle", "unsafe_load", "unsafe_load_all", "full_load", "full_load_all"}
UNSAFE_LOADERS = {"Loader", "UnsafeLoader", "FullLoader", "CLoader", "CUnsafeLoader", "CFullLoader"}  # of PyYAML
WRITERS = {"to_csv", "to_parquet", "to_json", "to_html", "to_feather", "savefig", "savez", "write_image", "write_html"}
SAVERS = {"save", "savez", "copy", "copyfile", "copytree", "move", "NamedTemporaryFile", "mkstemp"}
# Who writes: durable_files.py in one step, artifacts.py into memory, run_dir.py its lock, the log of TensorBoard event
# by event, what is fetched from object storage into a folder that takes the place of another once it is whole, and
# cli.py into nowhere.
MAY_WRITE = {
    "scripts/storage/artifacts.py",
    "scripts/storage/durable_files.py",
    "scripts/storage/temporary_files.py",
    "scripts/evaluation/user_ledger.py",
    "scripts/storage/remote/working_copy.py",
    "scripts/execution/tensorboard.py",
}


def name_of(node):
    """Last part of a dotted name: `load` of `torch.jit.load`."""
    return node.attr if isinstance(node, ast.Attribute) else getattr(node, "id", "")


def dangers(tree):
    """What in a module could run code that a file holds."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (a.name for a in node.names if a.name.partition(".")[0] in UNSAFE_MODULES)
        elif isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] in UNSAFE_MODULES:
            yield str(node.module)
        elif isinstance(node, ast.ImportFrom) and node.module == "yaml":
            yield from (a.name for a in node.names if a.name in UNSAFE_LOADERS | UNSAFE_METHODS | {"load", "load_all"})
        elif isinstance(node, ast.Attribute) and name_of(node.value) == "yaml" and node.attr in UNSAFE_LOADERS:
            yield node.attr
        elif isinstance(node, ast.Call):
            yield from _dangers_of_call(node)


def _dangers_of_call(call):
    name, owner = name_of(call.func), name_of(getattr(call.func, "value", None))
    keywords = {k.arg: getattr(k.value, "value", None) for k in call.keywords}
    if name in (UNSAFE_METHODS if owner else UNSAFE_BUILTINS) or (owner, name) == ("pd", "eval"):
        yield name
    if (owner, name) == ("torch", "load") and keywords.get("weights_only") is not True:
        yield "torch.load"
    if (owner, name) == ("jit", "load"):
        yield "jit.load"
    if owner == "yaml" and name in {"load", "load_all"}:
        yield "yaml.load"
    yield from (k for k, bad in (("allow_pickle", True), ("shell", True)) if keywords.get(k) not in (None, not bad))


def writes(tree):
    """Calls of a module that open a file for writing."""
    for call in (node for node in ast.walk(tree) if isinstance(node, ast.Call)):
        owner = name_of(getattr(call.func, "value", None))
        if name_of(call.func) == "open":
            found = _flags_write(call) if owner == "os" else _mode_writes(call)
        else:
            found = _saves(call, owner)
        if found:
            yield call


def _saves(call, owner):
    """Whether the call is a method or function that writes to the path it is given."""
    name, keywords = name_of(call.func), {k.arg for k in call.keywords}
    if isinstance(call.func, ast.Attribute) and name in {"write_text", "write_bytes"}:
        return True
    if name in WRITERS:  # without a path they return the content
        return bool(call.args or keywords & {"path", "path_or_buf", "fname"})
    return owner in {"torch", "np", "numpy", "tempfile", "shutil"} and name in SAVERS


def _flags_write(call):
    return bool({"O_WRONLY", "O_RDWR", "O_CREAT", "O_APPEND"} & set(map(name_of, ast.walk(call))))


def _mode_writes(call):
    """Whether the mode of an `open` says writing, or cannot be read from the source."""
    path_first = not isinstance(call.func, ast.Attribute) or name_of(call.func.value) in {"gzip", "io"}
    position = 1 if path_first else 0
    given = [k.value for k in call.keywords if k.arg == "mode"] or call.args[position : position + 1]
    if not given:
        return False
    return not isinstance(given[0], ast.Constant) or bool(set("wax+") & set(str(given[0].value)))


def modules():
    """Every source file of the package and of the commands, by its path from the root."""
    files = itertools.chain((ROOT / "scripts").rglob("*.py"), ROOT.glob("*.py"))
    return {p.relative_to(ROOT).as_posix(): ast.parse(p.read_text(encoding="utf-8")) for p in files}


def test_nothing_in_the_package_can_run_what_a_file_holds():
    found = {path: list(dangers(tree)) for path, tree in modules().items()}
    # Workers are handed the data set by the process that begins them, in memory; its file holds plain numbers alone.
    handed_over = {"scripts/execution/shared_dataset.py": ["pickle"]}
    assert {path: names for path, names in found.items() if names} == handed_over


def test_only_the_modules_for_it_open_files_for_writing():
    found = [(path, ast.unparse(call)) for path, tree in modules().items() for call in writes(tree)]
    elsewhere = [(path, call) for path, call in found if path not in MAY_WRITE]
    assert [(p, c) for p, c in elsewhere if c != "open(os.devnull, 'w')"] == []
    assert {path for path, _ in found} >= MAY_WRITE


@pytest.mark.parametrize(
    "source",
    [
        "import pickle",
        "from joblib import load",
        "pd.read_pickle(p)",
        "eval(text)",
        "exec(text)",
        "torch.load(p)",
        "torch.load(p, weights_only=False)",
        "torch.load(p, weights_only=flag)",
        "torch.jit.load(p)",
        "yaml.load(text, yaml.SafeLoader)",
        "yaml.unsafe_load(text)",
        "class Reader(yaml.Loader): pass",
        "from yaml import FullLoader",
        "np.load(p, allow_pickle=True)",
        "subprocess.run(line, shell=True)",
    ],
)
def test_the_check_for_running_code_sees(source):
    assert list(dangers(ast.parse(source)))


@pytest.mark.parametrize(
    "source",
    [
        "open(p, 'w')",
        "open(p, mode='ab')",
        "open(p, mode)",
        "p.open('wb')",
        "gzip.open(p, 'wb')",
        "os.open(p, os.O_RDWR | os.O_CREAT)",
        "p.write_text(t)",
        "frame.to_csv(p)",
        "torch.save(state, p)",
        "figure.savefig(p)",
    ],
)
def test_the_check_for_writing_sees(source):
    assert list(writes(ast.parse(source)))


@pytest.mark.parametrize(
    "source", ["open(p)", "open(p, 'rb')", "p.open('rb')", "frame.to_csv(index=False)", "re.compile(p)"]
)
def test_the_checks_pass_over_what_only_reads(source):
    tree = ast.parse(source)
    assert not list(writes(tree)) + list(dangers(tree))
