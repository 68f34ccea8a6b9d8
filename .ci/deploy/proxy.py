"""A reverse proxy that stands for the operator's own domain: its address is known before the deployment.

Not every machine resolves the names of MiniStack's APIs, and its requestContext.domainName omits the port, so an assertion
could not name the token endpoint. Most operators have such a proxy, the template's BaseUrl.
"""

import http.server
import ssl
import threading

from emulator import MiniStack
from signed_http import Client

PATH = "/bulk"
# Headers of a single connection, and those that the proxy sets itself.
HOP_BY_HOP = {"connection", "keep-alive", "transfer-encoding", "content-length", "host", "date", "server"}


class Proxy:
    """The proxy, as a context manager. It forwards requests below `base` to the API at `endpoint`."""

    def __init__(self, cloud: MiniStack) -> None:
        self.endpoint = ""
        self.api = Client(cloud.port, str(cloud.certificate))
        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), self.handler())
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(cloud.certificate, cloud.key)
        # Each TLS handshake runs in its own thread.
        self.server.socket = context.wrap_socket(self.server.socket, server_side=True, do_handshake_on_connect=False)
        self.base = f"https://127.0.0.1:{self.server.server_address[1]}{PATH}"

    def __enter__(self) -> "Proxy":
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.server.shutdown()
        self.server.server_close()

    def handler(self) -> type[http.server.BaseHTTPRequestHandler]:
        proxy = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def forward(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                if not self.path.startswith(f"{PATH}/"):
                    self.send_error(404)
                    return
                headers = {name: value for name, value in self.headers.items() if name.lower() not in HOP_BY_HOP}
                reply = proxy.api.send(self.command, proxy.endpoint + self.path.removeprefix(PATH), headers, body=body or None)
                self.send_response_only(reply.status)
                for name, value in reply.headers.items():
                    if name.lower() not in HOP_BY_HOP:
                        self.send_header(name, value)
                self.send_header("Content-Length", str(len(reply.body)))
                self.end_headers()
                self.wfile.write(reply.body)

            do_GET = do_HEAD = do_POST = do_DELETE = forward

            def log_message(self, *_: object) -> None:
                """Logs nothing: paths may contain ids of patients."""

        return Handler
