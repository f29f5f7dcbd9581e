"""The demo's handler: reads one Python source file and says what is in it.

A file that cannot be read, decoded or parsed is a result like any other, with its `problem` in words: folders of real
sources hold such files on purpose. It keeps no state, and imports nothing of headrace, so child processes start fast.
"""

import ast
import hashlib
import warnings
from typing import Final

import msgspec

#: A larger file is hashed and counted, not parsed: the tree takes some hundred times its size in memory.
PARSED_MAX_BYTES: Final = 8 * 1024 * 1024
_CHUNK_BYTES: Final = 1024 * 1024


class IndexedFile(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What is in one file.

    Attributes:
        path: The file.
        size_bytes: Its size; `bytes` on the wire.
        lines: Its lines, a last one without a line break included.
        sha256: The hash of its bytes, in hexadecimal; empty when it could not be read.
        imports: The modules that it imports, each once, sorted; relative ones with their dots.
        problem: Why it has no imports to show; None when it was parsed.
    """

    path: str
    size_bytes: int = msgspec.field(name="bytes")
    lines: int
    sha256: str
    imports: tuple[str, ...]
    problem: str | None = None


def index_file(path: str) -> IndexedFile:
    """Index one file.

    Args:
        path: Where it is.
    """
    digest = hashlib.sha256()
    size_bytes = line_breaks = 0
    last, head = b"", b""
    try:
        with open(path, "rb") as file:
            while chunk := file.read(_CHUNK_BYTES):
                digest.update(chunk)
                size_bytes += len(chunk)
                line_breaks += chunk.count(b"\n")
                last = chunk[-1:]
                if size_bytes <= PARSED_MAX_BYTES:
                    head += chunk
    except OSError as error:
        why = f"cannot be read: {error.strerror}"
        return IndexedFile(path=path, size_bytes=0, lines=0, sha256="", imports=(), problem=why)
    imports: tuple[str, ...] = ()
    problem: str | None = f"not parsed: larger than {PARSED_MAX_BYTES // 2**20} MiB"
    if size_bytes <= PARSED_MAX_BYTES:
        imports, problem = imports_of(head)
    return IndexedFile(
        path=path,
        size_bytes=size_bytes,
        lines=line_breaks + (last not in (b"", b"\n")),
        sha256=digest.hexdigest(),
        imports=imports,
        problem=problem,
    )


def imports_of(source: bytes) -> tuple[tuple[str, ...], str | None]:
    """Return the modules that a source imports and None, or nothing and why it cannot be parsed."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what a file's author should mend is not for who indexes it
            tree = ast.parse(source)
    except SyntaxError as error:
        line = f" (line {error.lineno})" if error.lineno else ""
        return (), f"does not parse: {error.msg}{line}"
    except (ValueError, RecursionError, MemoryError) as error:  # null bytes, bad encodings, nesting beyond the parser
        return (), f"does not parse: {str(error) or type(error).__name__}"
    found: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            found.add("." * node.level + (node.module or ""))
    return tuple(sorted(found)), None
