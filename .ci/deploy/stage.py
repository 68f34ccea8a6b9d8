"""Shared parts of the deployment tests: the stack, the lake, the clients, and the steps of an export."""

import collections
import json
import subprocess
import time
from pathlib import Path
from typing import Protocol
from urllib.parse import urlsplit

from botocore.credentials import Credentials

from deployment import Deployment, lay_out, root_client
from emulator import MiniStack
from signed_http import Client, Reply

LAKE_BUCKET = "headrace-lake"
LAKE_PREFIX = "lake/current/"
DESTINATION_PREFIX = "fhir/"
KICK_OFF_HEADERS = {"Accept": "application/fhir+json", "Prefer": "respond-async"}
# The public routes, which describe the service. AccessMode smart adds the token endpoint.
PUBLIC_ROUTES = {"GET /metadata", "HEAD /metadata", "GET /OperationDefinition", "GET /OperationDefinition/{id}",
        "GET /.well-known/smart-configuration"}
# One request for each other route.
SIGNED_REQUESTS = [
    ("GET", "/$export"), ("POST", "/$export"), ("GET", "/Patient/$export"), ("POST", "/Patient/$export"),
    ("GET", "/Patient/1/$export"), ("POST", "/Patient/1/$export"), ("GET", "/Group/1/$export"), ("POST", "/Group/1/$export"),
    ("GET", "/Group"), ("GET", "/Group/1"), ("GET", "/_operations/export"), ("GET", "/_operations/export/1"),
    ("DELETE", "/_operations/export/1"), ("GET", "/_operations/files/1/Patient-1.ndjson"),
    ("HEAD", "/_operations/files/1/Patient-1.ndjson")]
EXPORT_SECONDS = 120
# A record is sealed after a minute, and the reaper runs every minute.
RECORD_SECONDS = 180
AUDIT_PREFIX = "audit/"
# Events are delivered every minute.
EVENT_SECONDS = 180
EVENT_BUS = "exports"


class Stage:
    """A deployed stack over one lake, with AccessMode iam and two IAM users: one may export, the other has no permissions."""

    def __init__(self, cloud: MiniStack, binaries: Path, lake: Path) -> None:
        self.cloud = cloud
        self.binaries = binaries
        self.program = Program(cloud, binaries / "headrace")
        self.objects = {
            LAKE_PREFIX + path.relative_to(lake).as_posix(): path.read_bytes()
            for path in sorted(lake.rglob("*.ndjson")) if path.is_file()}
        if not self.objects:
            raise SystemExit(f"no NDJSON under {lake}")
        self.lines = collections.Counter(
            line for content in self.objects.values() for line in content.splitlines() if line.strip())
        self.events_url = bus_with_queue(cloud)
        self.packaged = lay_out(cloud, Path(__file__).resolve().parents[2] / "template.yaml", binaries)
        self.stack = Deployment(cloud, self.packaged, "headrace-test", {
            "SourceBucketName": LAKE_BUCKET, "SourcePrefix": LAKE_PREFIX, "DestinationPrefix": DESTINATION_PREFIX,
            "AccessMode": "iam", "LeaseSeconds": "15", "TaskMaxAttempts": "2", "LogLevel": "debug", "EventBusName": EVENT_BUS})
        self.s3, self.sqs = self.stack.client("s3"), self.stack.client("sqs")
        self.s3.create_bucket(Bucket=LAKE_BUCKET)
        for key, content in self.objects.items():
            self.s3.put_object(Bucket=LAKE_BUCKET, Key=key, Body=content)
        # Outside the prefix: the policies do not cover it, and no export may contain it.
        self.s3.put_object(Bucket=LAKE_BUCKET, Key="elsewhere/Patient.ndjson",
                           Body=b'{"resourceType":"Patient","id":"not-to-be-exported"}\n')
        self.resources = self.stack.resources
        self.base = self.stack.outputs["BaseUrl"]
        self.http = Client(cloud.port, str(cloud.certificate))
        self.exporter = self.user("exporter", self.stack.outputs["ApiResourceArn"])
        self.stranger = self.user("stranger", None)
        self.finished = ""
        self.lost = ""
        self.interrupted = ""
        self.lost_message = ""
        # The stack that fills its lake from a FHIR server, once it is deployed.
        self.synchronized = None

    def user(self, name: str, may_invoke: str | None) -> Credentials:
        iam = self.stack.client("iam")
        iam.create_user(UserName=name)
        if may_invoke:
            iam.put_user_policy(UserName=name, PolicyName="export", PolicyDocument=json.dumps({
                "Version": "2012-10-17",
                "Statement": [{"Effect": "Allow", "Action": "execute-api:Invoke", "Resource": may_invoke}]}))
        key = iam.create_access_key(UserName=name)["AccessKey"]
        return Credentials(key["AccessKeyId"], key["SecretAccessKey"])

    def ask(self, method: str, url: str, headers: dict[str, str] | None = None) -> Reply:
        return self.http.send(method, url, headers or {"Accept": "application/fhir+json"}, self.exporter)

    def kick_off(self, path: str = "/$export") -> str:
        """Starts an export. Returns the status URL."""
        reply = self.ask("GET", self.base + path, KICK_OFF_HEADERS)
        expect(reply.status == 202, f"kick-off answers 202, not {reply}")
        location = reply.headers["Content-Location"] or ""
        # MiniStack's requestContext.domainName omits the port, so only the name is compared.
        parts, base = urlsplit(location), urlsplit(self.base)
        expect((parts.scheme, parts.hostname) == (base.scheme, base.hostname), f"absolute Content-Location: {location}")
        expect(parts.path.startswith("/_operations/export/"), f"status path: {location}")
        return self.base + parts.path

    def poll(self, status_url: str, seconds: float = EXPORT_SECONDS) -> Reply:
        """Polls until the response is not 202."""
        deadline = time.monotonic() + seconds
        while True:
            reply = self.ask("GET", status_url)
            if reply.status != 202:
                return reply
            expect(len(reply.headers["X-Progress"] or "") < 100, "X-Progress has fewer than 100 characters")
            expect((reply.headers["Retry-After"] or "").isdigit(), "Retry-After is a whole number of seconds")
            expect(time.monotonic() < deadline, f"not finished after {seconds} s: {reply.headers['X-Progress']}")
            time.sleep(0.3)

    def exported_keys(self, job: str = "") -> list[str]:
        """Lists the keys in the destination bucket, optionally those of one job."""
        pages = self.s3.get_paginator("list_objects_v2").paginate(Bucket=self.stack.outputs["DestinationBucketName"])
        return [item["Key"] for page in pages for item in page.get("Contents", []) if job in item["Key"]]

    def enable_worker(self, on: bool) -> None:
        """Enables or disables the event source mapping of the task queue."""
        mapping = self.resources["ChunkWorkerFunctionTasks"]
        self.stack.client("lambda").update_event_source_mapping(UUID=mapping, Enabled=on)

    def receive(self, queue_url: str, seconds: float = 20) -> dict:
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            messages = self.sqs.receive_message(QueueUrl=queue_url, WaitTimeSeconds=1).get("Messages", [])
            if messages:
                return messages[0]
        raise AssertionError(f"no message was received from {queue_url}")


def bus_with_queue(cloud: MiniStack) -> str:
    """Creates an event bus, and a rule that sends the events of exports to a queue. Returns the URL of the queue."""
    events, sqs = root_client(cloud, "events"), root_client(cloud, "sqs")
    events.create_event_bus(Name=EVENT_BUS)
    url = sqs.create_queue(QueueName="events-of-exports")["QueueUrl"]
    arn = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    pattern = {"source": ["headrace"], "detail-type": ["Export State Change"]}
    events.put_rule(Name="exports", EventBusName=EVENT_BUS, EventPattern=json.dumps(pattern))
    events.put_targets(Rule="exports", EventBusName=EVENT_BUS, Targets=[{"Id": "queue", "Arn": arn}])
    return url


class Program:
    """The program `headrace`, as an operator or a client runs it."""

    def __init__(self, cloud: MiniStack, binary: Path) -> None:
        self.cloud, self.binary = cloud, binary

    def run(self, *arguments: str | Path) -> str:
        """Runs the program, which must succeed. Returns its output."""
        result = subprocess.run(
            [self.binary, *arguments], cwd=self.cloud.folder, env=self.cloud.env, capture_output=True, text=True, timeout=300)
        expect(result.returncode == 0, f"headrace {arguments[0]} ends with {result.returncode}: {result.stdout}{result.stderr}")
        return result.stdout


def expect(condition: bool, what: str) -> None:
    if not condition:
        raise AssertionError(what)


def job_id(status_url: str) -> str:
    return status_url.rsplit("/", 1)[-1]


def expect_outcome(reply: Reply) -> str:
    """Checks that the reply is an OperationOutcome. Returns its issues."""
    expect("application/fhir+json" in (reply.headers["Content-Type"] or ""), f"FHIR JSON, not {reply.headers['Content-Type']}")
    outcome = reply.json()
    expect(outcome.get("resourceType") == "OperationOutcome", f"an OperationOutcome: {reply}")
    return json.dumps(outcome["issue"])


def expect_absent(text: str, word: str) -> None:
    at = text.find(word)
    expect(at < 0, f"found '{word[:60]}' in: {text[max(0, at - 400):at + 400]}")


class HasRecords(Protocol):
    """A deployment with the program."""

    program: Program
    stack: Deployment


def audit_location(stage: HasRecords) -> str:
    return f"s3://{stage.stack.outputs['AuditBucketName']}/{AUDIT_PREFIX}"


def expect_record(stage: HasRecords, action: str, outcome: str, *which: str) -> None:
    """Waits until an auditor finds a sealed record of this action and outcome."""
    deadline = time.monotonic() + RECORD_SECONDS
    while True:
        shown = stage.program.run("audit", "show", audit_location(stage), *which)
        if any({action, outcome} <= set(line.split()) for line in shown.splitlines()):
            return
        expect(time.monotonic() < deadline, f"no record of {action}, {outcome} ({' '.join(which)}) in:\n{shown}")
        time.sleep(1)


def expect_sound_records(stage: HasRecords) -> None:
    said = stage.program.run("audit", "verify", audit_location(stage), "--table", stage.stack.outputs["JobTableName"])
    expect(said.startswith("intact: records 1 to ") and "the end of the chain matches the job table" in said, f"intact: {said}")
