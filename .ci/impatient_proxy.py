"""Stands before a server and ends access tokens before their time, as a server does whose clock or patience differs: each
token is good for three requests and is then answered 401. Tells whoever asks `/ended` how many it has ended.

Usage: impatient_proxy.py BASE; prints the base that clients use.
"""

import collections
import http.client
import http.server
import sys
import urllib.parse

base = urllib.parse.urlsplit(sys.argv[1])
used = collections.Counter()
ended = set()


class Proxy(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def pass_on(self):
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        token = self.headers.get("Authorization", "")
        if self.path == "/ended":
            return self.answer(200, [], str(len(ended)).encode())
        if token:
            used[token] += 1
            if used[token] > 3:
                ended.add(token)
                return self.answer(401, [("WWW-Authenticate", 'Bearer error="invalid_token"')], b"")
        onwards = http.client.HTTPConnection(base.hostname, base.port)
        onwards.request(self.command, self.path, body, dict(self.headers))
        answer = onwards.getresponse()
        skipped = {"connection", "transfer-encoding", "content-length"}
        return self.answer(answer.status, [pair for pair in answer.getheaders() if pair[0].lower() not in skipped], answer.read())

    do_GET = do_POST = do_DELETE = pass_on

    def answer(self, status, headers, body):
        self.send_response_only(status)
        for name, value in headers:
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Proxy)
print(f"http://127.0.0.1:{server.server_port}{base.path}", flush=True)
server.serve_forever()
