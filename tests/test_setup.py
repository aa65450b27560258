"""What installs the course stays in step: pyproject.toml, environment.yml, README and
.ci/run."""

from __future__ import annotations

import os
import re
import subprocess
import tomllib
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from rattler import MatchSpec

from llm_course.checkpoints import PINNED_MODELS

ROOT = Path(__file__).resolve().parents[1]
CONDA_NAMES = {"torch": "pytorch", "matplotlib": "matplotlib-base"}
PIP_ONLY = {"gguf"}  # conda-forge follows its releases late


def requirements() -> dict[str, Requirement]:
    """The runtime dependencies of pyproject.toml, by name."""
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    lines = tomllib.loads(text)["project"]["dependencies"]
    return {requirement.name: requirement for requirement in map(Requirement, lines)}


def environment() -> tuple[list[str], list[str]]:
    """(conda lines, pip lines) of environment.yml."""
    found = yaml.safe_load((ROOT / "environment.yml").read_text(encoding="utf-8"))
    assert found["channels"] == ["conda-forge", "nodefaults"]
    conda = [line for line in found["dependencies"] if isinstance(line, str)]
    (pip,) = [line["pip"] for line in found["dependencies"] if isinstance(line, dict)]
    return conda, pip


def bounds(version: object) -> set[str]:
    """The parts of a version specification, without blanks."""
    return set(str(version).replace(" ", "").split(",")) - {""}


def test_environment_has_the_packages_of_pyproject_within_the_same_bounds() -> None:
    specs = {str(s.name.normalized): s for s in map(MatchSpec, environment()[0])}
    specs.pop("python")
    wanted = {
        CONDA_NAMES.get(name, name): bounds(requirement.specifier)
        for name, requirement in requirements().items()
        if name not in PIP_ONLY
    }
    assert {name: bounds(spec.version) for name, spec in specs.items()} == wanted


def test_pip_section_installs_the_repository_and_what_conda_lacks() -> None:
    pip = environment()[1]
    assert pip[-1] == "-e ."
    wanted = requirements()
    assert {Requirement(line) for line in pip[:-1]} == {
        wanted[name] for name in PIP_ONLY
    }


def test_binder_gets_the_python_that_environment_names() -> None:
    """repo2docker reads `python=X.Y` and nothing else; of a range it takes no
    notice."""
    (line,) = [line for line in environment()[0] if line.startswith("python")]
    assert re.fullmatch(r"python=3\.\d+", line)
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    allowed = tomllib.loads(text)["project"]["requires-python"]
    assert SpecifierSet(allowed).contains(line.partition("=")[2] + ".0")


def test_binders_image_holds_the_weights(tmp_path: Path) -> None:
    """postBuild is executed, with a `python` that says what it is asked to run."""
    script = ROOT / "postBuild"
    assert os.access(script, os.X_OK)
    python = tmp_path / "python"
    python.write_text('#!/bin/sh\nprintf "%s\\n" "$@"\n', encoding="utf-8")
    python.chmod(0o755)
    env = {"PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}"}
    done = subprocess.run([script], env=env, capture_output=True, encoding="utf-8")
    assert (done.returncode, done.stderr) == (0, "")
    flag, code = done.stdout.splitlines()
    loaded: list[str] = []
    assert flag == "-c"
    assert code.startswith("from llm_course.checkpoints import load_pretrained; ")
    exec(code.partition("; ")[2], {"load_pretrained": loaded.append})
    assert loaded == list(PINNED_MODELS)


def test_what_bounds_stored_pictures_and_comparison_is_pinned() -> None:
    assert bounds(requirements()["matplotlib"].specifier) == {">=3.11", "<3.12"}
    assert bounds(requirements()["torch"].specifier) >= {"<2.14"}


def readme_commands() -> list[str]:
    """The bash blocks of the README."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    return [
        block.strip()
        for block in re.findall(r"^```bash\n(.*?)^```$", text, re.M | re.S)
    ]


def test_the_readme_opens_the_course_with_its_first_command() -> None:
    set_up, _, last = readme_commands()[0].rpartition(" && ")
    assert set_up == "python3 -m venv .venv && .venv/bin/python -m pip install -e ."
    program, argument, notebook = last.split()
    assert (program, argument) == (".venv/bin/jupyter", "lab")
    assert (ROOT / notebook).is_file()


def test_the_readme_tests_everything_with_its_second_command() -> None:
    set_up, _, last = readme_commands()[1].rpartition(" && ")
    assert (
        set_up
        == "python3 -m venv .venv && .venv/bin/python -m pip install -e '.[test]'"
    )
    assert (
        last
        == ".venv/bin/python -m pytest -n 2 --dist=loadfile --nbval notebooks/ tests/"
    )


def test_ci_runs_the_readmes_second_command(tmp_path: Path) -> None:
    """.ci/run is executed with a README of our own, in a folder of its own."""
    (tmp_path / ".ci").mkdir()
    script = tmp_path / ".ci" / "run"
    script.write_bytes((ROOT / ".ci" / "run").read_bytes())
    script.chmod(0o755)
    chromium = tmp_path / "bin" / "chromium"
    chromium.parent.mkdir()
    chromium.write_text("#!/bin/sh\n", encoding="utf-8")
    chromium.chmod(0o755)
    fake = "mkdir -p .venv/bin && printf '#!/bin/sh\\necho \"[$@]\"' > .venv/bin/python"
    command = (
        f"{fake} && chmod +x .venv/bin/python && .venv/bin/python -m pytest --nbval"
        " here"
    )
    (tmp_path / "README.md").write_text(
        f"# X\n\n```bash\nexit 7\n```\n\n```bash\n{command}\n```\n\n```bash\nexit"
        " 8\n```\n",
        encoding="utf-8",
    )
    path = f"{chromium.parent}{os.pathsep}{os.environ['PATH']}"
    env = os.environ | {"PATH": path}
    done = subprocess.run(
        [str(script)], cwd="/", env=env, capture_output=True, encoding="utf-8"
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert [line for line in done.stdout.splitlines() if line.startswith("[")] == [
        "[-m ruff check]",
        "[-m ruff format --check]",
        "[-m mypy]",
        "[-m llm_course.authoring.export --check]",
        "[-m llm_course.authoring.refresh --check]",
        "[-m sphinx -q -W -b html docs docs/_build/html]",
        '[-c import locale; assert locale.getpreferredencoding().lower() == "cp1252"]',
        "[-m llm_course.authoring.export]",
        "[-m llm_course.authoring.export --check]",
        "[-m llm_course.classroom.progress notebooks/01_rmsnorm.ipynb]",
        "[-m pytest -q -p no:cacheprovider --nbval notebooks/01_rmsnorm.ipynb]",
        "[-m pytest -q -m mutants tests/test_mutations.py]",
        "[-m pytest -q -m browser tests/browser]",
        "[-m pytest --nbval here]",
    ]
    (tmp_path / "README.md").write_text(
        "# X\n\n```bash\nexit 7\n```\n", encoding="utf-8"
    )
    again = subprocess.run(
        [str(script)], cwd="/", env=env, capture_output=True, encoding="utf-8"
    )
    assert again.returncode == 1
    assert "second bash block" in again.stderr


def test_nothing_installs_from_elsewhere_than_the_index() -> None:
    for name in ("pyproject.toml", "environment.yml", "postBuild", ".ci/run"):
        text = (ROOT / name).read_text(encoding="utf-8")
        text = re.sub(r"^(?:Repository|Documentation) = .*$", "", text, flags=re.M)
        assert not re.search(r"--(?:extra-)?index-url|git\+|https?://", text), name


def test_what_takes_minutes_runs_only_where_it_is_named(request) -> None:
    """Of this very run; it needs no more than a file with such tests in it."""
    unnamed = {"browser", "mutants"}.difference(request.config.option.markexpr.split())
    items = request.session.items
    marked = {mark.name for item in items for mark in item.iter_markers()}
    assert marked.isdisjoint(unnamed)


@pytest.mark.parametrize("name", ["LICENSE", ".gitignore"])
def test_files_that_a_repository_needs_are_there(name: str) -> None:
    assert (ROOT / name).stat().st_size > 0
