"""A hub on 127.0.0.1 that speaks as much of the Hugging Face API as a model folder needs."""

import base64
import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass
class Hub:
    """What was sent to it, and what it gives back.

    Attributes:
        token: what a request must bring; None lets everybody in.
        files: of its repositories, name -> path -> bytes.
        private: of each repository, as it was made.
    """

    address: str = ""
    token: str | None = None
    files: dict[str, dict[str, bytes]] = field(default_factory=dict)
    private: dict[str, bool] = field(default_factory=dict)

    def commit(self, name: str) -> str:
        return hashlib.sha1(repr(sorted(self.files[name].items())).encode()).hexdigest()


@contextmanager
def serving() -> Iterator[Hub]:
    hub = Hub()

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *args: object) -> None:
            return

        def answer(self, status: int, body: object, headers: dict[str, str] | None = None) -> None:
            data = body if isinstance(body, bytes) else json.dumps(body).encode()
            self.send_response(status)
            for name, value in {"Content-Length": str(len(data)), **(headers or {})}.items():
                self.send_header(name, value)
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(data)

        def refused(self) -> bool:
            if hub.token is None or self.headers.get("Authorization") == f"Bearer {hub.token}":
                return False
            self.answer(401, {"error": "Invalid credentials"})
            return True

        def do_POST(self) -> None:
            sent = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            if self.refused():
                return
            parts = self.path.strip("/").split("/")
            if parts[:3] == ["api", "repos", "create"]:
                asked = json.loads(sent)
                name = f"{asked['organization']}/{asked['name']}"
                if name in hub.files:
                    self.answer(409, {"error": "exists", "url": f"{hub.address}/{name}"})
                    return
                hub.files[name], hub.private[name] = (
                    {},
                    asked.get("private") or asked.get("visibility") == "private",
                )
                self.answer(200, {"url": f"{hub.address}/{name}"})
            elif parts[1] == "validate-yaml":
                self.answer(200, {"errors": [], "warnings": []})
            elif parts[4] == "preupload":
                listed = json.loads(sent)["files"]
                plan = [
                    {"path": f["path"], "uploadMode": "regular", "shouldIgnore": False}
                    for f in listed
                ]
                self.answer(200, {"files": plan})
            else:  # commit
                name = "/".join(parts[2:4])
                for line in sent.splitlines():
                    step = json.loads(line)
                    if step["key"] == "file":
                        data = base64.b64decode(step["value"]["content"])
                        hub.files[name][step["value"]["path"]] = data
                oid = hub.commit(name)
                url = f"{hub.address}/{name}/commit/{oid}"
                self.answer(200, {"commitUrl": url, "commitOid": oid})

        def do_GET(self) -> None:
            if self.refused():
                return
            parts = self.path.partition("?")[0].strip("/").split("/")
            at = 2 if parts[0] == "api" else 0
            name = "/".join(parts[at : at + 2])
            if name not in hub.files:
                code = {"X-Error-Code": "RepoNotFound"}
                self.answer(404, {"error": "Repository not found"}, code)
            elif at and len(parts) > 5 and parts[5] not in ("main", hub.commit(name)):
                code = {"X-Error-Code": "RevisionNotFound"}
                self.answer(404, {"error": "Invalid rev id"}, code)
            elif at and parts[4] == "tree":
                listed = [
                    {"type": "file", "path": p, "size": len(d), "oid": hashlib.sha1(d).hexdigest()}
                    for p, d in hub.files[name].items()
                ]
                self.answer(200, listed)
            elif at:
                siblings = [{"rfilename": path} for path in hub.files[name]]
                self.answer(200, {"id": name, "sha": hub.commit(name), "siblings": siblings})
            else:
                data = hub.files[name]["/".join(parts[4:])]
                tag = {"ETag": f'"{hashlib.sha1(data).hexdigest()}"'}
                self.answer(200, data, {**tag, "X-Repo-Commit": hub.commit(name)})

        do_HEAD = do_GET

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    hub.address = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
