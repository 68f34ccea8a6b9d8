"""MiniStack as a subprocess: one AWS account on loopback, with TLS and enforced IAM policies.

Limitations of MiniStack 1.5.33, and the workarounds of the deployment test:

* It evaluates `aws:SecureTransport`, so over plain HTTP the template's TLS-only policies deny everything.
  The test runs MiniStack with TLS (USE_SSL) instead of weakening the policies; its certificate is created once per run, and
  all clients, including the functions, trust only this one.
* It binds all interfaces by default; BIND_HOST changes that.
* With TLS it also tries to bind port 443 for Cognito. Harmless: on loopback, and not required.
* Its HTTP API answers to the Host header `<api>.execute-api.localhost:<port>`, which not every machine resolves. The
  client connects to 127.0.0.1 and sends that header (`signed_http.py`).
* The SAM transform needs `aws-sam-translator`, a dependency of `aws-sam-cli`, and KMS needs `cryptography` to sign.
* Its own polling of the queue for an event source mapping does not pass through IAM, so the worker's sqs:ReceiveMessage,
  DeleteMessage and GetQueueAttributes are not tested here; without them AWS rejects the mapping at deployment.
* It does not limit memory, does not freeze a function between invocations and does not know Lambda's account concurrency.
* EventBridge and CloudWatch: the schedule works; alarms are created, but not evaluated on embedded metrics.
"""

import os
import platform
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

REGION = "us-east-1"
START_SECONDS = 60


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def architecture() -> str:
    """Returns this machine's architecture as Lambda names it."""
    return "arm64" if platform.machine() in ("arm64", "aarch64") else "x86_64"


class MiniStack:
    """MiniStack, as a context manager. `env` is the environment of AWS clients that use it as the root user."""

    def __init__(self) -> None:
        self.port = free_port()
        self.folder = Path(tempfile.mkdtemp(prefix="headrace-deploy-"))
        self.url = f"https://127.0.0.1:{self.port}"
        self.certificate = self.folder / "server.crt"
        self.key = self.folder / "server.key"
        self.log = self.folder / "ministack.log"
        self.env = {
            **{name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "HEADRACE_"))},
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test",
            "AWS_REGION": REGION,
            "AWS_DEFAULT_REGION": REGION,
            "AWS_ENDPOINT_URL": self.url,
            "AWS_CA_BUNDLE": str(self.certificate),
            "SSL_CERT_FILE": str(self.certificate),
            "AWS_CONFIG_FILE": os.devnull,
            "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
            "AWS_EC2_METADATA_DISABLED": "true",
        }
        self.process: subprocess.Popen | None = None

    def __enter__(self) -> "MiniStack":
        subprocess.run(
            ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2",
             "-keyout", self.key, "-out", self.certificate, "-subj", "/CN=ministack",
             # Not a CA: rustls rejects a CA certificate as a server certificate.
             "-addext", "basicConstraints=critical,CA:FALSE",
             "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"],
            check=True, capture_output=True)
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "ministack"], stdout=log, stderr=subprocess.STDOUT, cwd=self.folder,
                env={**self.env, "BIND_HOST": "127.0.0.1", "GATEWAY_PORT": str(self.port), "AUTH": "true",
                     "USE_SSL": "1", "MINISTACK_SSL_CERT": str(self.certificate), "MINISTACK_SSL_KEY": str(self.key),
                     "MINISTACK_REGION": REGION, "SFTP_ENABLED": "0", "IOT_MTLS_ENABLED": "0", "TMPDIR": str(self.folder)})
        deadline = time.monotonic() + START_SECONDS
        context = ssl.create_default_context(cafile=str(self.certificate))
        while True:
            try:
                with urllib.request.urlopen(f"{self.url}/_ministack/health", timeout=5, context=context):
                    return self
            except OSError as error:
                if self.process.poll() is not None or time.monotonic() > deadline:
                    self.stop()
                    raise RuntimeError(f"MiniStack did not start: {error}\n{self.last_lines(30)}") from error
                time.sleep(0.2)

    def __exit__(self, *_: object) -> None:
        self.stop()
        shutil.rmtree(self.folder, ignore_errors=True)

    def stop(self) -> None:
        """Stops MiniStack, which stops the functions that it started."""
        if self.process is None or self.process.poll() is not None:
            return
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(timeout=15)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    def last_lines(self, count: int) -> str:
        """Returns the end of the log, without debug lines of the functions."""
        lines = self.log.read_text(errors="replace").splitlines()
        return "\n".join([line[:500] for line in lines if '"level":"DEBUG"' not in line][-count:])
