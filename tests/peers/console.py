"""Runs what documents show at a prompt, and looks at whether it comes out as they show it.

A `console` block that is run has a line above it: `<!-- test: NAME -->`, or `<!-- test: NAME, exit code 9 -->` if its last
command ends with that; `exit codes 8, 0` are those of each. A line that begins with `$ ` is a command, which `\\` continues on the next line, and `<<'END'` up to
`END`. What follows is what it shows, up to the next one. A command under which nothing is shown may say what it likes.

What is shown stands for its like: a number for any number, a time for any time, a duration for any duration, blanks and rules for any length of
them, `…` for anything in a line and, by itself, for any lines.
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import textwrap
from dataclasses import dataclass, field
from pathlib import Path

from contract import ROOT
from support import BIN, ENVIRONMENT, TIMEOUT, TRESOR

BLOCK = re.compile(
    r"^(?P<indent> *)(?:<!-- test: (?P<name>[\w-]+)(?:, exit codes? (?P<codes>[\d, ]+))? -->\n *)?```console\n(?P<text>.*?)^ *```$",
    re.MULTILINE | re.DOTALL,
)
# A line, or a line and what it reads up to `END`, or lines that are continued.
COMMAND = re.compile(r"(?P<command>.*<<'END'.*\n(?:.*\n)*?END\n|(?:.*\\\n)*.*\n)(?P<shown>(?:.*\n)*)")
SPAN = r"\d+(?:us|µs|ms|s|m|h|days?)\b"
# Without milliseconds if there are none.
TIME = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d{3})?Z"
LIKE = re.compile(rf"(?P<time>{TIME})|(?P<duration>\b{SPAN}(?: {SPAN})*)|(?P<number>\d+)|(?P<blanks>[ \t]+)|(?P<rule>─+)|(?P<any>…)")
PATTERNS = {"time": TIME, "duration": r"\d+[a-zµ]+(?: \d+[a-zµ]+)*", "number": r"\d+", "blanks": r"[ \t]+", "rule": "─+", "any": ".*"}


@dataclass(frozen=True)
class Command:
    text: str
    shown: str
    code: int


@dataclass(frozen=True)
class Block:
    name: str | None
    commands: list[Command]


@dataclass(frozen=True)
class Document:
    """A document of the project."""

    path: str

    @property
    def blocks(self) -> list[Block]:
        text = (ROOT / self.path).read_text()
        return [Block(found["name"], commands(textwrap.dedent(found["text"]), found["codes"])) for found in BLOCK.finditer(text)]

    def block(self, name: str) -> Block:
        (block,) = (block for block in self.blocks if block.name == name)
        return block


def commands(text: str, said_codes: str | None) -> list[Command]:
    """What a block tells to run."""
    assert text.startswith("$ "), f"a console block that runs nothing: {text}"
    prompts = re.split(r"^\$ ", text, flags=re.MULTILINE)[1:]
    codes = [int(code) for code in (said_codes or "0").split(",")]
    if len(codes) == 1:
        codes = [0] * (len(prompts) - 1) + codes
    found = []
    for prompt, code in zip(prompts, codes, strict=True):
        command, shown = COMMAND.fullmatch(prompt).group("command", "shown")
        found.append(Command(command.rstrip(), shown, code))
    return found


def is_like(shown: str, said: str) -> bool:
    """Whether what a command has said is like what is shown."""
    lines = ["(?:.*\n)*" if line.strip() == "…" else pattern(line) + "[ \t]*\n" for line in shown.rstrip().splitlines()]
    return re.fullmatch("".join(lines), said.rstrip() + "\n") is not None


def pattern(line: str) -> str:
    """A regular expression for all lines that are like this one."""
    line, parts, end = line.rstrip(), [], 0
    for found in LIKE.finditer(line):
        parts += [re.escape(line[end : found.start()]), PATTERNS[found.lastgroup]]
        end = found.end()
    return "".join([*parts, re.escape(line[end:])])


@dataclass
class Shell:
    """Somebody at a prompt in a folder, who has `tresor` and `grpcurl`."""

    folder: Path
    # What stands in documents, and what it is here.
    here: dict[str, str] = field(default_factory=dict)
    variables: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        programs = self.folder / ".programs"
        programs.mkdir(parents=True)
        for name, program in {"tresor": TRESOR, "grpcurl": BIN / "grpcurl"}.items():
            (programs / name).symlink_to(program)
        # Where `cargo build --release` puts it.
        (self.folder / "target").mkdir()
        (self.folder / "target/release").symlink_to(programs)
        self._exported = programs / "exported"
        path = os.pathsep.join([str(programs), ENVIRONMENT["PATH"]])
        for name, value in ({"PATH": path} | self.variables).items():
            self.export(name, value)

    def export(self, name: str, value: str) -> None:
        """Sets a variable for what is run from now on."""
        with self._exported.open("a") as exported:
            exported.write(f"export {name}={shlex.quote(value)}\n")

    def stand_in(self, name: str, script: str) -> None:
        """Puts a script in the place of a program that is not to be had here."""
        program = self.folder / ".programs" / name
        program.write_text(script)
        program.chmod(0o755)

    def run(self, block: Block) -> str:
        """Runs a block's commands one after the other, insists that they come out as shown, and returns what they said."""
        return "".join(map(self._run, block.commands))

    def _run(self, command: Command) -> str:
        exported = shlex.quote(str(self._exported))
        script = f". {exported}\n{self._translated(command.text)}\ncode=$?; export -p > {exported}; exit $code"
        done = subprocess.run(
            ["sh", "-c", script],
            cwd=self.folder,
            env={"HOME": str(self.folder)},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=TIMEOUT,
        )
        said = done.stdout
        for text, here in self.here.items():
            said = said.replace(here, text)
        assert done.returncode == command.code, f"$ {command.text}\nexit code {done.returncode}\n{said}"
        assert not command.shown.strip() or is_like(command.shown, said), f"$ {command.text}\nshown:\n{command.shown}\nsaid:\n{said}"
        return said

    def _translated(self, command: str) -> str:
        for text, here in self.here.items():
            command = command.replace(text, here)
        return command
