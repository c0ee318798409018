"""A small Google Cloud Storage in memory: the part of its JSON API that the three clients here use.

gcsfs (files, through etils), tensorstore (arrays) and google-cloud-storage (orbax asks about the
bucket) all talk to it over HTTP, so that they are tested as they are.
"""

import base64
import json
import re
import threading
import traceback
import uuid
import zlib
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, unquote, urlsplit


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *args):
        pass

    def _do(self):
        url = urlsplit(self.path)
        self.query = {k: v[-1] for k, v in parse_qs(url.query).items()}
        body = self._body()
        with self.server.lock:
            self.server.calls.append((self.command, unquote(url.path)))
            batch = url.path.startswith("/batch/")
            try:
                answer = self._batch(body) if batch else self._answer(self.command, url.path, body)
            except Exception:  # of this file: said where a test sees it, not by a closed connection
                self.server.errors.append(traceback.format_exc())
                answer = 400, {"error": {"code": 400, "message": self.server.errors[-1]}}
        self._send(*answer)

    do_GET = do_POST = do_PUT = do_DELETE = do_PATCH = _do

    def _body(self):
        if self.headers.get("Transfer-Encoding") == "chunked":
            parts = []
            while size := int(self.rfile.readline(), 16):
                parts.append(self.rfile.read(size))
                self.rfile.readline()
            self.rfile.readline()
            return b"".join(parts)
        return self.rfile.read(int(self.headers.get("Content-Length") or 0))

    def _send(self, status, found=None, headers=None):
        data = found if isinstance(found, bytes) else json.dumps(found or {}).encode()
        data = b"" if status == 204 else data
        self.send_response(status)
        for k, v in (headers or {}).items():
            self.send_header(k, v)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def _batch(self, body):
        """Deletions, each a request of its own within one multipart body."""
        kind = self.headers["Content-Type"]
        mark = re.search(r'boundary="?([^";]+)', kind)[1].encode()
        answers = []
        for part in body.split(b"--" + mark)[1:-1]:
            method, path = re.search(rb"(GET|DELETE|PATCH|POST) (\S+)", part).groups()
            status, found, *_ = self._answer(method.decode(), urlsplit(path.decode()).path, b"")
            text = json.dumps(found or {})
            answers.append(
                f"--batch\r\nContent-Type: application/http\r\n\r\nHTTP/1.1 {status} x\r\n"
                f"Content-Type: application/json\r\nContent-Length: {len(text)}\r\n\r\n{text}\r\n"
            )
        data = ("".join(answers) + "--batch--\r\n").encode()
        return 200, data, {"Content-Type": "multipart/mixed; boundary=batch"}

    def _answer(self, method, path, body):
        if path.startswith("/upload/"):
            return self._upload(method, path, body)
        match = re.fullmatch(r"(?:/download)?/storage/v1/b/([^/]+)(?:/(o)(?:/(.+))?)?/?", path)
        if not match or match[1] not in self.server.buckets:
            return 404, {"error": {"code": 404, "message": "no such bucket"}}
        objects = self.server.buckets[match[1]]
        if not match[2]:
            return 200, {"kind": "storage#bucket", "name": match[1], "id": match[1]}
        if not match[3]:
            return self._list(objects)
        other = re.fullmatch(r"(.+)/(?:(?:copyTo|rewriteTo)/b/[^/]+|(moveTo))/o/(.+)", match[3])
        if other:
            source = unquote(other[1])
            if source not in objects:
                return 404, {"error": {"code": 404, "message": "no such object"}}
            made = self._store(match[1], unquote(other[3]), objects[source][1])
            if other[2]:
                del objects[source]
            return 200, {"done": True, "resource": made, **made}
        name = unquote(match[3])
        if name not in objects:
            return 404, {"error": {"code": 404, "message": "no such object"}}
        if method == "DELETE":
            del objects[name]
            return 204, None
        if self.query.get("alt") == "media":
            return self._media(*objects[name])
        return 200, _resource(match[1], name, *objects[name])

    def _media(self, generation, data):
        headers = {"X-Goog-Generation": str(generation), "ETag": f'"{generation}"'}
        if self.query.get("ifGenerationNotMatch") == str(generation):
            return 304, b"", headers
        wanted = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range") or "")
        if not wanted:
            return 200, data, headers
        first, last = int(wanted[1]), min(int(wanted[2] or len(data)), len(data) - 1)
        if first >= len(data):
            return 416, b"", headers
        headers["Content-Range"] = f"bytes {first}-{last}/{len(data)}"
        return 206, data[first : last + 1], headers

    def _list(self, objects):
        prefix, mark = self.query.get("prefix", ""), self.query.get("delimiter", "")
        names = sorted(n for n in objects if n.startswith(prefix))
        below = self.query.get("endOffset")
        names = [n for n in names if n >= self.query.get("startOffset", "")]
        names = [n for n in names if not below or n < below]
        items, folders = [], set()
        for n in names:
            rest = n.removeprefix(prefix)
            if mark and mark in rest:
                folders.add(prefix + rest.partition(mark)[0] + mark)
            else:
                items.append(_resource("b", n, *objects[n]))
        return 200, {"kind": "storage#objects", "items": items, "prefixes": sorted(folders)}

    def _store(self, bucket, name, data):
        objects = self.server.buckets[bucket]
        self.server.generation += 1
        objects[name] = (self.server.generation, data)
        return _resource(bucket, name, *objects[name])

    def _upload(self, method, path, body):
        bucket = re.fullmatch(r"(?:/resumable)?/upload/storage/v1/b/([^/]+)/o", path)[1]
        name, kind = self.query.get("name"), self.query.get("uploadType")
        if bucket not in self.server.buckets:
            return 404, {"error": {"code": 404, "message": "no such bucket"}}
        if method == "PUT" or (kind == "resumable" and "upload_id" in self.query):
            return self._resume(bucket, body)
        if kind == "multipart":
            mark = re.search(r"boundary=['\"]?([^;'\"]+)", self.headers["Content-Type"])[1]
            head, data = body.split(b"--" + mark.encode())[1:3]
            name = json.loads(head.partition(b"\n\n" if b"\r" not in head else b"\r\n\r\n")[2])[
                "name"
            ]
            gap = b"\r\n\r\n" if b"\r\n\r\n" in data[:200] else b"\n\n"
            body = data.partition(gap)[2]
            body = body.removesuffix(b"\r\n") if gap[:1] == b"\r" else body.removesuffix(b"\n")
        elif kind == "resumable":
            name = name or json.loads(body)["name"]
            key = uuid.uuid4().hex
            self.server.uploads[key] = (name, b"")
            where = f"{self.server.url}{path}?uploadType=resumable&upload_id={key}"
            return 200, {}, {"Location": where}
        wanted = self.query.get("ifGenerationMatch")
        now = self.server.buckets[bucket].get(name, (0,))[0]
        if wanted is not None and int(wanted) != now:
            return 412, {"error": {"code": 412, "message": "conditionNotMet"}}
        return 200, self._store(bucket, name, body)

    def _resume(self, bucket, body):
        key = self.query["upload_id"]
        name, data = self.server.uploads[key]
        data += body
        self.server.uploads[key] = (name, data)
        total = (self.headers.get("Content-Range") or "/").rpartition("/")[2]
        if total == "*":
            return 308, {}, {"Range": f"bytes=0-{len(data) - 1}"} if data else {}
        return 200, self._store(bucket, name, data)


def _resource(bucket, name, generation, data):
    crc = base64.b64encode(zlib.crc32(data).to_bytes(4, "big")).decode()
    return {
        "kind": "storage#object", "name": name, "bucket": bucket, "size": str(len(data)),
        "generation": str(generation), "metageneration": "1", "etag": crc,
        "storageClass": "STANDARD", "contentType": "application/octet-stream",
        "timeCreated": "2026-01-01T00:00:00.000Z", "updated": "2026-01-01T00:00:00.000Z",
        "id": f"{bucket}/{name}/{generation}",
    }  # fmt: skip


class Server(ThreadingHTTPServer):
    """The service, on a free port of this machine.

    Attributes:
        buckets: by name, the objects of each: name -> (generation, bytes).
        calls: `(method, path)` of every request.
        errors: what went wrong in here.
        url: its address, for `STORAGE_EMULATOR_HOST`.
    """

    daemon_threads = True

    def __init__(self, *buckets):
        super().__init__(("127.0.0.1", 0), _Handler)
        self.buckets = {b: {} for b in buckets}
        self.uploads, self.calls, self.errors, self.generation = {}, [], [], 0
        self.lock = threading.Lock()
        self.url = f"http://127.0.0.1:{self.server_address[1]}"

    def handle_error(self, request, address):
        """A client that has hung up (or was killed) is nobody's error."""

    def __enter__(self):
        threading.Thread(target=self.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *error):
        self.shutdown()
        self.server_close()
