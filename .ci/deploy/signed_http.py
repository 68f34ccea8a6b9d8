"""HTTP requests to the deployed API, signed with SigV4."""

import http.client
import json
import ssl
from dataclasses import dataclass
from urllib.parse import urlsplit

from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from emulator import REGION


@dataclass
class Reply:
    status: int
    headers: http.client.HTTPMessage
    body: bytes

    def json(self) -> dict:
        return json.loads(self.body)

    def __str__(self) -> str:
        return f"{self.status} {self.body[:600].decode(errors='replace')}"


class Client:
    """Sends requests to 127.0.0.1, for the API's host or, with presigned URLs, that of S3."""

    def __init__(self, port: int, certificate: str) -> None:
        self.port = port
        # The API's name is not in the certificate and not resolved: MiniStack distinguishes APIs by the header Host.
        self.context = ssl.create_default_context(cafile=certificate)

    def send(self, method: str, url: str, headers: dict[str, str] | None = None,
             signer: Credentials | None = None, body: bytes | None = None) -> Reply:
        parts = urlsplit(url)
        headers = dict(headers or {})
        if signer is not None:
            request = AWSRequest(method=method, url=url, headers=headers, data=body)
            SigV4Auth(signer, "execute-api", REGION).add_auth(request)
            headers = dict(request.headers.items())
        headers["Host"] = parts.netloc
        connection = http.client.HTTPSConnection("127.0.0.1", self.port, timeout=60, context=self.context)
        try:
            target = parts.path + (f"?{parts.query}" if parts.query else "")
            connection.request(method, target, body=body, headers=headers)
            response = connection.getresponse()
            return Reply(response.status, response.headers, response.read())
        finally:
            connection.close()
