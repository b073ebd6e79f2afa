"""The server of `cislens serve`: ranges, and nothing but what is offered."""

import http.client
import threading
import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import pytest

from cislens.errors import CislensError
from cislens.report.serving import ADDRESS, Offered, server_of, span

BYTES = bytes(range(256)) * 8


@pytest.fixture(scope="module")
def port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """A folder with a page, something hidden and a link that leads out; a file beside it."""
    root = tmp_path_factory.mktemp("served")
    folder = root / "run"
    (folder / ".git").mkdir(parents=True)
    (folder / "inner").mkdir()
    (folder / "report.html").write_text("<p>report")
    (folder / "inner" / "a b.bin").write_bytes(BYTES)
    (folder / ".git" / "config").write_text("secret")
    (folder / ".env").write_text("secret")
    (root / "outside.txt").write_text("secret")
    (folder / "link.txt").symlink_to(root / "outside.txt")
    (root / "track.bw").write_bytes(BYTES)
    offered = Offered(folder, {"/": "<p>page"})
    assert offered.offer(root / "track.bw") == offered.offer(root / "track.bw")
    with server_of(offered) as server:
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        yield server.server_address[1]
        server.shutdown()


def ask(
    port: int, path: str, method: str = "GET", **headers: str
) -> tuple[int, http.client.HTTPMessage, bytes]:
    connection = http.client.HTTPConnection(ADDRESS, port, timeout=10)
    try:
        connection.request(method, path, headers=headers)
        answer = connection.getresponse()
        return answer.status, answer.headers, answer.read()
    finally:
        connection.close()


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (None, None), ("bytes=0-0", (0, 1)), ("bytes=5-", (5, 100)), ("bytes=90-1000", (90, 100)),
        ("bytes=-7", (93, 100)), ("bytes=-1000", (0, 100)), ("bytes=99-99", (99, 100)),
        ("bytes=9-5", None), ("bytes=-", None), ("lines=1-2", None), ("bytes=0-1,5-6", None),
    ],
)  # fmt: skip
def test_a_range_is_that_of_the_standard(text: str | None, found: tuple[int, int] | None) -> None:
    assert span(text, 100) == found


@pytest.mark.parametrize(
    ("text", "size"), [("bytes=100-", 100), ("bytes=-0", 100), ("bytes=0-", 0)]
)
def test_a_range_beyond_the_end_is_empty(text: str, size: int) -> None:
    found = span(text, size)
    assert found is not None
    assert found[0] >= found[1]


def test_ranges_come_from_the_file(port: int) -> None:
    status, headers, body = ask(port, "/files/0/track.bw", Range="bytes=250-259")
    assert (status, body) == (206, BYTES[250:260])
    assert headers["Content-Range"] == f"bytes 250-259/{len(BYTES)}"
    status, headers, body = ask(port, "/files/0/track.bw", Range="bytes=4096-")
    assert (status, headers["Content-Range"]) == (416, f"bytes */{len(BYTES)}")
    status, headers, body = ask(port, "/files/0/track.bw", "HEAD")
    assert (status, headers["Content-Length"], body) == (200, str(len(BYTES)), b"")
    assert headers["Accept-Ranges"] == "bytes"
    assert ask(port, "/inner/a%20b.bin")[2] == BYTES


def test_ranges_of_a_file_beyond_4_gib_cost_no_memory(tmp_path: Path) -> None:
    size, end = 5 << 30, b"the last bytes"
    with (tmp_path / "large.bw").open("wb") as handle:
        handle.seek(size - len(end))
        handle.write(end)  # all before it is a hole
    offered = Offered()
    address = offered.offer(tmp_path / "large.bw")
    with server_of(offered) as server:
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        number = server.server_address[1]
        tracemalloc.start()
        status, headers, body = ask(number, address, Range=f"bytes={size - 4}-")
        assert (status, body) == (206, end[-4:])
        assert headers["Content-Range"] == f"bytes {size - 4}-{size - 1}/{size}"
        assert ask(number, address, Range=f"bytes={size - 14}-{size - 12}")[2] == end[:3]
        assert ask(number, address, "HEAD")[1]["Content-Length"] == str(size)
        assert read_part(number, address, 64 << 20) == 64 << 20
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        server.shutdown()
    assert peak < 8 << 20


def read_part(port: int, path: str, most: int) -> int:
    """How many of the first bytes of a whole answer came; the reader leaves after `most`."""
    connection = http.client.HTTPConnection(ADDRESS, port, timeout=10)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        came = 0
        while came < most and (block := answer.read(1 << 20)):
            came += len(block)
        return came
    finally:
        connection.close()


def test_pages_are_whole_and_may_read_nothing_else(port: int) -> None:
    status, headers, body = ask(port, "/")
    assert (status, body) == (200, b"<p>page")
    assert headers["Content-Security-Policy"].startswith("default-src 'self' ")
    assert headers["X-Content-Type-Options"] == "nosniff"
    status, headers, body = ask(port, "/report.html?x=1")
    assert (status, headers["Content-Type"]) == (200, "text/html; charset=utf-8")


@pytest.mark.parametrize(
    "path",
    [
        "/.env", "/.git/config", "/%2egit/config", "/../outside.txt", "/%2e%2e/outside.txt",
        "/inner/..%2f..%2foutside.txt", "/link.txt", "/inner", "/inner/", "/absent", "//etc/passwd",
        "/files/1/track.bw", "/files/0/other.bw", "/a%00b", "/" + "a" * 5000,
    ],
)  # fmt: skip
def test_nothing_else_is_given(port: int, path: str) -> None:
    status, _, body = ask(port, path)
    assert (status, b"secret" in body) == (404, False)


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1", "localhost:1", "127.0.0.1.x:{port}"])
def test_another_site_cannot_read_through_it(port: int, host: str) -> None:
    assert ask(port, "/", Host=host.format(port=port))[0] == 421
    assert ask(port, "/", Host=f"localhost:{port}")[0] == 200


def test_only_reading_is_answered(port: int) -> None:
    assert ask(port, "/", "POST")[0] == 501


def test_a_taken_port_is_one_message(port: int) -> None:
    with pytest.raises(CislensError, match=rf"port {port} of 127\.0\.0\.1 cannot be listened on"):
        server_of(Offered(), port)
