"""A Dockerfile as a shell script that does the same in a folder, for a test without Docker.

Owns the reading of the instructions that ours uses; any other one is an error. The folder stands for the root of the
image: absolute paths of the image lie in it, each stage begins with an empty one, and the Python of the base image is a
clean virtual environment, into which nothing is installed; its pip is the caller's. What needs root or the packages of
a distribution is only written down.
"""

import json
import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

WRITTEN_DOWN = ("apt-get", "useradd", "chown")
"""Commands that are not run: their words go to the file `root-commands` of the folder."""
OURS = re.compile(r"(?<![\w./$}-])/(?=(?:build|convex|data)\b)")
"""The first slash of a path inside the image which is ours, not the distribution's."""


@dataclass
class Image:
    """What a Dockerfile says about running its last stage."""

    script: str
    folder: str = "/"
    command: list[str] = field(default_factory=list)
    health: list[str] = field(default_factory=list)
    user: str = "root"
    volumes: list[str] = field(default_factory=list)
    ports: list[str] = field(default_factory=list)
    bases: list[str] = field(default_factory=list)


def instructions(text: str) -> Iterator[tuple[str, str]]:
    """Yield each instruction and what follows it on its line, continued lines joined."""
    lines = [line for line in text.splitlines() if not line.lstrip().startswith("#")]
    for line in "\n".join(lines).replace("\\\n", " ").splitlines():
        if line.strip():
            name, _, rest = line.strip().partition(" ")
            yield name.upper(), rest.strip()


def read(dockerfile: Path, python: str) -> Image:
    """Return what a Dockerfile says, with the script that does it.

    The script takes two arguments: the folder, which must be empty, and the build context.
    """
    lines = [
        "set -eu",
        "root=$1/image context=$2 stages=$1/stages tools=$1/tools log=$1/root-commands",
        'mkdir -p "$stages" "$tools"',
        ': > "$log"',
        *(
            f'printf \'#!/bin/sh\\necho {name} "$@" >> "%s"\\n\' "$log" > "$tools/{name}" && chmod +x "$tools/{name}"'
            for name in WRITTEN_DOWN
        ),
        f'{shlex.quote(python)} -m venv --without-pip "$1/base"',
        f'printf \'#!/bin/sh\\nexec {shlex.quote(python)} -m pip "$@"\\n\' > "$1/base/bin/pip"',
        'chmod +x "$1/base/bin/pip"',
        "base_path=$tools:$1/base/bin:/usr/bin:/bin",
    ]
    image = Image("")
    stage = ""
    for name, rest in instructions(dockerfile.read_text(encoding="utf-8")):
        lines.append(f"# {name} {rest}")
        match name:
            case "FROM":
                if stage:
                    lines.append(f'mv "$root" "$stages/{stage}"')
                words = rest.split()
                image = Image("", bases=[*image.bases, words[0]])
                stage = words[2] if len(words) == 3 else "last"
                lines += ['mkdir -p "$root"', "PATH=$base_path", 'cd "$root"']
            case "WORKDIR":
                image.folder = rest
                lines += [f'mkdir -p "{inside(rest)}"', f'cd "{inside(rest)}"']
            case "COPY":
                lines += copying(rest)
            case "RUN":
                command = re.sub(r"^(--\S+ +)+", "", rest)
                lines.append(f"( {inside(command)} )")
            case "ENV":
                lines += [f"export {inside(setting)}" for setting in shlex.split(rest)]
            case "USER":
                image.user = rest
            case "VOLUME":
                image.volumes.append(rest)
            case "EXPOSE":
                image.ports += rest.split()
            case "CMD":
                image.command = json.loads(rest)
            case "HEALTHCHECK":
                image.health = json.loads(rest.partition("CMD")[2])
            case "STOPSIGNAL":
                pass
            case _:
                raise NotImplementedError(f"{name} in {dockerfile}")
    # What runs in the image: a program and its arguments, in the folder and the environment of the last stage.
    lines += [
        "{",
        "  echo '#!/bin/sh'",
        "  export -p",
        '  printf \'cd "%s" && exec "$@"\\n\' "$PWD"',
        '} > "$1/in-image"',
        'chmod +x "$1/in-image"',
    ]
    image.script = "\n".join(lines) + "\n"
    return image


def inside(text: str) -> str:
    """Return a text with our paths put below the folder."""
    return OURS.sub("$root/", text)


def copying(rest: str) -> Iterator[str]:
    """Yield the lines of one COPY: files into a folder, or the content of a folder into another."""
    words = rest.split()
    source = '"$context"'
    if words[0].startswith("--from="):
        source = f'"$stages/{words.pop(0).removeprefix("--from=")}"'
    *names, target = words
    target = f'"{inside(target)}"'
    yield f"mkdir -p {target}"
    for name in names:
        place = f"{source}/{name.lstrip('/')}"
        yield f"if [ -d {place} ]; then cp -RP {place}/. {target}; else cp {place} {target}; fi"
