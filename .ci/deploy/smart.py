"""A deployment with AccessMode smart behind the operator's own domain, and clients with their keys."""

import json
import time
import uuid
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from urllib.parse import urlencode

import jwt

from deployment import Deployment
from proxy import Proxy
from signed_http import Reply
from stage import KICK_OFF_HEADERS, LAKE_BUCKET, LAKE_PREFIX, Stage, expect

ASSERTION_TYPE = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
FORM = {"Content-Type": "application/x-www-form-urlencoded", "Accept": "application/json"}


@dataclass
class ClientKey:
    """A client with a key, registered or not."""

    name: str
    key_file: Path

    def assertion(self, token_url: str) -> str:
        """Signs an assertion that is valid for one minute."""
        key = json.loads(self.key_file.read_text())
        now = int(time.time())
        claims = {"iss": self.name, "sub": self.name, "aud": token_url, "iat": now, "exp": now + 60, "jti": str(uuid.uuid4())}
        # The supported algorithm for this type of key.
        algorithm = {"EC": "ES384", "RSA": "RS384"}[key["kty"]]
        return jwt.encode(claims, jwt.PyJWK(key, algorithm).key, algorithm, {"kid": key["kid"]})


class Smart:
    """The deployment, as a context manager. It uses the lake and the packaged template of the first stage."""

    def __init__(self, stage: Stage) -> None:
        self.cloud, self.program, self.http, self.lines = stage.cloud, stage.program, stage.http, stage.lines
        self.proxy = Proxy(self.cloud)
        self.base = self.proxy.base
        self.stack = Deployment(self.cloud, stage.packaged, "headrace-smart", {
            "SourceBucketName": LAKE_BUCKET, "SourcePrefix": LAKE_PREFIX, "BaseUrl": self.base, "LogLevel": "debug"})
        self.proxy.endpoint = self.stack.endpoint
        self.token_url = self.stack.outputs["TokenUrl"]
        self.table = self.stack.outputs["JobTableName"]
        # Texts that must never be in a log.
        self.secrets: list[str] = []

    def __enter__(self) -> "Smart":
        self.proxy.__enter__()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.proxy.__exit__(kind, error, trace)

    def new_client(self, name: str, algorithm: str = "ES384") -> ClientKey:
        """Creates a client with a new key. It is not registered."""
        folder = self.cloud.folder / "keys" / name
        self.program.run("clients", "keygen", "--alg", algorithm, "--out", folder)
        return ClientKey(name, folder / "private.jwk")

    def register(self, client: ClientKey, scope: str) -> None:
        self.program.run("clients", "add", client.name, "--scope", scope, "--jwks", client.key_file.with_name("jwks.json"),
                         "--table", self.table)

    def request_token(self, assertion: str, scope: str) -> Reply:
        """Requests a token with this assertion."""
        self.secrets.append(assertion)
        body = urlencode({"grant_type": "client_credentials", "scope": scope, "client_assertion_type": ASSERTION_TYPE,
                          "client_assertion": assertion}).encode()
        return self.send("POST", self.token_url, FORM, body)

    def token(self, client: ClientKey, scope: str = "system/*.rs") -> dict:
        """Requests a token, which must be granted. Returns the token response."""
        reply = self.request_token(client.assertion(self.token_url), scope)
        expect(reply.status == 200, f"a token for {client.name}: {reply.status}")
        granted = reply.json()
        self.secrets.append(granted["access_token"])
        return granted

    def ask(self, method: str, url: str, token: str) -> Reply:
        return self.send(method, url, {**KICK_OFF_HEADERS, "Authorization": f"Bearer {token}"})

    def send(self, method: str, url: str, headers: dict[str, str] | None = None, body: bytes | None = None) -> Reply:
        """Sends a request to the API as the proxy forwards it."""
        return self.http.send(method, self.stack.endpoint + url.removeprefix(self.base), headers, body=body)

    def restart(self, function: str) -> None:
        """Stops the instances of a function. The next request starts a new one."""
        functions, name = self.stack.client("lambda"), self.stack.resources[function]
        settings = functions.get_function_configuration(FunctionName=name)["Environment"]["Variables"]
        functions.update_function_configuration(FunctionName=name, Environment={"Variables": settings})
