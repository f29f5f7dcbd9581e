"""One reader's session with a page: a folder, a home and a runtime folder of its own, and the commands typed there.

Addresses that a page names are those of this test's own server and port. Workers and APIs that a page starts go on, as
in a second terminal, until the page ends; then each is asked to end in order by its own id, and has to exit with 0.
"""

import json
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import httpx
import pytest
import redis
from pages import Block, Command

from servers import Server, free_port, start_valkey

#: Generous: only a hang is to be caught.
DEADLINE_S = 60.0
BIN = Path(sys.executable).parent
#: They go on until they are told to stop; what they print comes when it comes.
GO_ON = re.compile(r"headrace (run|serve)(?!.*--(burst|help))")
PAGE_SERVER, PAGE_PORT = "redis://localhost:6379/0", "8787"


class Session:
    """A reader at a terminal."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.folder = root / "work"
        self.folder.mkdir()
        runtime = root / "run"
        runtime.mkdir(mode=0o700)
        self.environ = {
            "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}", "HOME": str(root), "XDG_RUNTIME_DIR": str(runtime),
            "PYTHONDONTWRITEBYTECODE": "1",
        }  # fmt: skip
        self.port = str(free_port())
        self._server: Server | None = None
        self._going: list[tuple[Command, subprocess.Popen[str], Path]] = []

    def write(self, block: Block) -> None:
        (self.folder / block.file).write_text(self._here(block.text), encoding="utf-8")

    def run_python(self, text: str, place: str) -> None:
        """Run a page's unnamed blocks as one program; what its comments say that it prints, it prints, in order."""
        program = self.root / "page.py"
        program.write_text(self._here(text), encoding="utf-8")
        done = self._run([sys.executable, str(program)], {"HEADRACE_URL": "memory://"})
        assert 0 == done.returncode, f"{place}:\n{done.stdout}"
        promised = re.findall(r"#\s+prints (.*)", text)
        self._compare(f"the prints of {place}", tuple(promised), done.stdout)

    def run(self, command: Command) -> None:
        """Do what a `$` line says."""
        words = shlex.split(self._here(command.line))
        if GO_ON.match(command.line):
            self._start(command, words)
        elif words[0] == "curl":
            self._compare(command.place, command.expected, _curl(words))
        elif words[0] == "redis-cli":
            self._compare(command.place, command.expected, _redis_cli(words))
        elif words[0] == "kill":
            self._stop(*self._going.pop())
        elif words[0] == "echo":
            assert ["echo", "$?"] == words, f"{command.place}: only `echo $?` is known"
            assert (str(self._code),) == command.expected, command.place
        else:
            assert words[0] in {"headrace", "python"}, f"{command.place}: {words[0]} is not known to this test"
            done = self._run(words)
            self._code = done.returncode
            self._compare(command.place, command.expected, done.stdout)

    _code = 0

    def close(self) -> None:
        try:
            while self._going:
                self._stop(*self._going.pop())
        finally:
            for _, process, _ in self._going:
                process.kill()
                process.wait()
            if self._server is not None:
                self._server.stop()

    def _here(self, text: str) -> str:
        """Return a text of the page with this session's addresses."""
        if PAGE_SERVER in text:
            if self._server is None:
                folder = self.root / "server"
                folder.mkdir()
                self._server = start_valkey(folder)
            text = text.replace(PAGE_SERVER, self._server.url)
        return text.replace(PAGE_PORT, self.port)

    def _run(self, words: list[str], more: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            words, cwd=self.folder, env=self.environ | (more or {}), stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT,  # in the order in which a terminal shows them
            text=True, timeout=DEADLINE_S, check=False,
        )  # fmt: skip

    def _start(self, command: Command, words: list[str]) -> None:
        log = self.root / f"going-{len(self._going)}-{time.monotonic_ns()}.log"
        with log.open("w") as file:
            process = subprocess.Popen(
                words, cwd=self.folder, env=self.environ, stdin=subprocess.DEVNULL, stdout=file, stderr=file, text=True
            )
        self._going.append((command, process, log))
        ends_s = time.monotonic() + DEADLINE_S
        while missing := unprinted(command.expected, log.read_text(), in_order=False):
            assert process.poll() is None, f"{command.place}: {command.line} ended:\n{log.read_text()}"
            assert time.monotonic() < ends_s, f"{command.place}: never printed {missing!r}:\n{log.read_text()}"
            time.sleep(0.02)

    def _stop(self, command: Command, process: subprocess.Popen[str], log: Path) -> None:
        process.send_signal(signal.SIGTERM)
        try:
            self._code = process.wait(DEADLINE_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            pytest.fail(f"{command.place}: {command.line} did not end:\n{log.read_text()}")
        assert 0 == self._code, f"{command.place}: {command.line} ended with {self._code}:\n{log.read_text()}"

    def _compare(self, place: str, expected: tuple[str, ...], printed: str) -> None:
        missing = unprinted(tuple(self._here(line) for line in expected), printed)
        assert missing is None, f"{place}: {missing!r} was not printed; this was:\n{printed}"


def unprinted(expected: tuple[str, ...], printed: str, *, in_order: bool = True) -> str | None:
    """Return the first line that was not printed; None when all were.

    Args:
        expected: Lines, in which "..." stands for anything.
        printed: What was printed.
        in_order: Each must come after the one before it. Not for what several processes print into one terminal.
    """
    at = 0
    for line in expected:
        pattern = ".*".join(map(re.escape, line.rstrip().split("...")))
        found = re.compile(rf"^{pattern}\s*$", re.MULTILINE).search(printed, at)
        if found is None:
            return line
        at = found.end() if in_order else 0
    return None


def _curl(words: list[str]) -> str:
    """Send what a curl command says by httpx, since not every machine has curl."""
    method, headers, content, url = "", {}, None, ""
    rest = iter(words[1:])
    for word in rest:
        if word == "-d":
            content = next(rest)
        elif word == "-H":
            name, _, value = next(rest).partition(": ")
            headers[name] = value
        elif word == "-X":
            method = next(rest)
        elif word not in {"-s", "-i"}:
            assert word.startswith("http"), f"curl's {word} is not known to this test"
            url = word
    if content is not None:
        headers.setdefault("Content-Type", "application/x-www-form-urlencoded")
    sent = httpx.request(
        method or ("GET" if content is None else "POST"), url, headers=headers, content=content, timeout=DEADLINE_S
    )
    head = f"HTTP/1.1 {sent.status_code} {sent.reason_phrase}\n" if "-i" in words else ""
    head += "".join(f"{name}: {value}\n" for name, value in sorted(sent.headers.items())) if head else ""
    return f"{head}{sent.text}\n"


def _redis_cli(words: list[str]) -> str:
    """Send what a redis-cli command says by redis-py, for the same reason."""
    assert "-u" == words[1]
    with redis.Redis.from_url(words[2], decode_responses=True, protocol=2) as client:
        client.response_callbacks.clear()
        reply = client.execute_command(*words[3:])
    return f"{reply if isinstance(reply, str) else json.dumps(reply)}\n"
