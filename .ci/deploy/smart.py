"""A deployment with AccessMode smart behind its operator's own domain, and its clients with their keys."""

import json
import time
import uuid
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from urllib.parse import urlencode

import jwt

from deployment import Deployment
from front import Front
from signed_http import Reply
from stage import ASKS, LAKE_BUCKET, LAKE_PREFIX, Stage, expect

ASSERTION_TYPE = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
FORM = {"Content-Type": "application/x-www-form-urlencoded", "Accept": "application/json"}


@dataclass
class Party:
    """Somebody with a key, registered or not."""

    name: str
    key_file: Path

    def assertion(self, token_url: str) -> str:
        """Signed by its key, good for one request within a minute."""
        key = json.loads(self.key_file.read_text())
        now = int(time.time())
        claims = {"iss": self.name, "sub": self.name, "aud": token_url, "iat": now, "exp": now + 60, "jti": str(uuid.uuid4())}
        # The one algorithm that a key of this type signs with here.
        algorithm = {"EC": "ES384", "RSA": "RS384"}[key["kty"]]
        return jwt.encode(claims, jwt.PyJWK(key, algorithm).key, algorithm, {"kid": key["kid"]})


class Smart:
    """Use as a context manager. The lake and the packaged template are those of the first stage."""

    def __init__(self, stage: Stage) -> None:
        self.cloud, self.program, self.http, self.lines = stage.cloud, stage.program, stage.http, stage.lines
        self.front = Front(self.cloud)
        self.base = self.front.base
        self.stack = Deployment(self.cloud, stage.packaged, "headrace-smart", {
            "SourceBucketName": LAKE_BUCKET, "SourcePrefix": LAKE_PREFIX, "BaseUrl": self.base, "LogLevel": "debug"})
        self.front.endpoint = self.stack.endpoint
        self.token_url = self.stack.outputs["TokenUrl"]
        self.table = self.stack.outputs["JobTableName"]
        # What must never be in a log.
        self.secrets: list[str] = []

    def __enter__(self) -> "Smart":
        self.front.__enter__()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.front.__exit__(kind, error, trace)

    def party(self, name: str, algorithm: str = "ES384") -> Party:
        """Somebody with a key of its own, whom nobody knows yet."""
        folder = self.cloud.folder / "keys" / name
        self.program.run("clients", "keygen", "--alg", algorithm, "--out", folder)
        return Party(name, folder / "private.jwk")

    def register(self, party: Party, scope: str) -> None:
        self.program.run("clients", "add", party.name, "--scope", scope, "--jwks", party.key_file.with_name("jwks.json"),
                         "--table", self.table)

    def show(self, assertion: str, scope: str) -> Reply:
        """The token endpoint's answer to this assertion."""
        self.secrets.append(assertion)
        body = urlencode({"grant_type": "client_credentials", "scope": scope, "client_assertion_type": ASSERTION_TYPE,
                          "client_assertion": assertion}).encode()
        return self.send("POST", self.token_url, FORM, body)

    def token(self, party: Party, scope: str = "system/*.rs") -> dict:
        """The answer with a token."""
        reply = self.show(party.assertion(self.token_url), scope)
        expect(reply.status == 200, f"a token for {party.name}: {reply.status}")
        granted = reply.json()
        self.secrets.append(granted["access_token"])
        return granted

    def ask(self, method: str, url: str, token: str) -> Reply:
        return self.send(method, url, {**ASKS, "Authorization": f"Bearer {token}"})

    def send(self, method: str, url: str, headers: dict[str, str] | None = None, body: bytes | None = None) -> Reply:
        """A request to the API as the front would pass it on."""
        return self.http.send(method, self.stack.endpoint + url.removeprefix(self.base), headers, body=body)

    def start_anew(self, function: str) -> None:
        """Ends the function's instances: the next request meets a new one."""
        functions, name = self.stack.client("lambda"), self.stack.resources[function]
        settings = functions.get_function_configuration(FunctionName=name)["Environment"]["Variables"]
        functions.update_function_configuration(FunctionName=name, Environment={"Variables": settings})
