"""ClickHouse's engine (chdb) behind as much of ClickHouse's HTTP interface as an insert and a query need.

clickhouse_http.py PORT FOLDER. `GET /ping`; `POST /?query=…&setting=value`, an INSERT's rows in the body (plain, gzip or
zstd). One request at a time, no users. What the engine says is passed on: status and text as the server has them for
the codes that matter here.
"""

import gzip
import re
import sys
import threading
import urllib.parse
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import zstandard
from chdb import session

ENGINE = session.Session(sys.argv[2])
ONE_AT_A_TIME = threading.Lock()
# As in ClickHouse's src/Server/HTTP/exceptionCodeToHTTPStatus.cpp: parse errors, unknown table or database.
STATUS = {26: 400, 27: 400, 33: 400, 41: 400, 117: 400, 60: 404, 81: 404}
INSERT = re.compile(r"\s*INSERT\s+INTO\s+(\S+)\s+FORMAT\s+(\w+)\s*$", re.IGNORECASE)
NAME = re.compile(r"[a-z_]+$")


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        self.answer(200, b"Ok.\n")

    def do_POST(self):
        length = int(self.headers["Content-Length"])
        body = self.rfile.read(length)
        if len(body) < length:
            # Who asked has died: half of a request is none.
            self.close_connection = True
            return
        encoding = self.headers.get("Content-Encoding")
        if encoding == "gzip":
            body = gzip.decompress(body)
        elif encoding == "zstd":
            unpacker = zstandard.ZstdDecompressor().decompressobj()
            body = unpacker.decompress(body)
            assert unpacker.eof and not unpacker.unused_data, "one whole frame"
        settings = dict(urllib.parse.parse_qsl(urllib.parse.urlsplit(self.path).query))
        query = settings.pop("query", "")
        try:
            self.answer(200, self.perform(query, settings, body))
        except Exception as error:
            code = re.search(r"Code: (\d+)", str(error))
            status = STATUS.get(int(code[1]), 500) if code else 500
            self.answer(status, str(error).encode())

    def perform(self, query, settings, body):
        insert = INSERT.match(query)
        with ONE_AT_A_TIME:
            if insert is None:
                return ENGINE.query(query or body.decode(), "JSONEachRow").bytes() or b""
            assert all(NAME.match(name) for name in settings), "a setting's name"
            words = ", ".join(f"{name} = '{value}'" for name, value in settings.items() if "'" not in value)
            head = f"INSERT INTO {insert[1]}{' SETTINGS ' + words if words else ''} FORMAT {insert[2]}\n"
            ENGINE.query(head + body.decode("utf-8", "surrogateescape"))
            return b""

    def answer(self, status, body):
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *arguments):
        pass


ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
