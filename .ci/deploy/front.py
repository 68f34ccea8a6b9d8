"""An operator's own domain in front of the deployed API: one address known before the deployment, which any client reaches.

MiniStack's APIs have names that not every machine resolves, and its requestContext.domainName leaves the port out, so no
assertion could name the token endpoint. A front with a name of its own, the template's BaseUrl, is what most operators have.
"""

import http.server
import ssl
import threading

from emulator import MiniStack
from signed_http import Client

PATH = "/bulk"
# Of one connection, not of what is said over it; host and length are set anew.
HOP_BY_HOP = {"connection", "keep-alive", "transfer-encoding", "content-length", "host", "date", "server"}


class Front:
    """Use as a context manager; answers below `base` with what the API at `endpoint` answers."""

    def __init__(self, cloud: MiniStack) -> None:
        self.endpoint = ""
        self.api = Client(cloud.port, str(cloud.certificate))
        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), self.handler())
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(cloud.certificate, cloud.key)
        # Each connection shakes hands in its own thread.
        self.server.socket = context.wrap_socket(self.server.socket, server_side=True, do_handshake_on_connect=False)
        self.base = f"https://127.0.0.1:{self.server.server_address[1]}{PATH}"

    def __enter__(self) -> "Front":
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.server.shutdown()
        self.server.server_close()

    def handler(self) -> type[http.server.BaseHTTPRequestHandler]:
        front = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def pass_on(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                if not self.path.startswith(f"{PATH}/"):
                    self.send_error(404)
                    return
                headers = {name: value for name, value in self.headers.items() if name.lower() not in HOP_BY_HOP}
                reply = front.api.send(self.command, front.endpoint + self.path.removeprefix(PATH), headers, body=body or None)
                self.send_response_only(reply.status)
                for name, value in reply.headers.items():
                    if name.lower() not in HOP_BY_HOP:
                        self.send_header(name, value)
                self.send_header("Content-Length", str(len(reply.body)))
                self.end_headers()
                self.wfile.write(reply.body)

            do_GET = do_HEAD = do_POST = do_DELETE = pass_on

            def log_message(self, *_: object) -> None:
                """Nothing: paths may name patients."""

        return Handler
