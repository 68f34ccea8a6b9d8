#!/usr/bin/env python3
"""The deployment test: template.yaml, deployed, with the real binaries, without an AWS account and without Docker.

How to run it, from the repository's root:

    python3 -m venv target/deploy-venv
    target/deploy-venv/bin/pip install -r .ci/deploy/requirements.txt
    cargo build --workspace --bins
    target/deploy-venv/bin/python .ci/deploy/deploy_test.py --binaries target/debug --lake DIR

DIR holds NDJSON files with one version of each resource. Besides Python it needs the `openssl` command. It takes two to
three minutes, most of them waiting for the reaper's schedule, and ends with a line `N passed, N failed`.

What happens: MiniStack runs on loopback with TLS and with IAM enforced (`emulator.py`, which lists its blind spots),
`sam deploy` puts the stack there (`deployment.py`, which lists what it changes in the template for MiniStack), and each test
below is one thing a user or an operator relies on. They run in order and share the stack.
"""

import argparse
import collections
import json
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

from botocore.credentials import Credentials

from deployment import STACK, Deployment
from emulator import MiniStack
from signed_http import Client, Reply

LAKE_BUCKET = "headrace-lake"
LAKE_PREFIX = "lake/current/"
DESTINATION_PREFIX = "exports/"
ASKS = {"Accept": "application/fhir+json", "Prefer": "respond-async"}
EXPORT_SECONDS = 120
# A lost message is found once its lease has run out (LeaseSeconds below) at the next whole minute of the schedule.
LEASE_SECONDS = 15
RECOVERY_SECONDS = 240
GARBAGE = "\u00a7 this is no order of ours {"


class Stage:
    """What the tests share: the stack, the lake, the callers, and the jobs that later tests look at again."""

    def __init__(self, cloud: MiniStack, binaries: Path, lake: Path) -> None:
        self.cloud = cloud
        self.objects = {
            LAKE_PREFIX + path.relative_to(lake).as_posix(): path.read_bytes()
            for path in sorted(lake.rglob("*.ndjson")) if path.is_file()}
        if not self.objects:
            raise SystemExit(f"no NDJSON under {lake}")
        self.lines = collections.Counter(
            line for content in self.objects.values() for line in content.splitlines() if line.strip())
        template = Path(__file__).resolve().parents[2] / "template.yaml"
        self.stack = Deployment(cloud, template, binaries, {
            "SourceBucketName": LAKE_BUCKET, "SourcePrefix": LAKE_PREFIX, "DestinationPrefix": DESTINATION_PREFIX,
            "LeaseSeconds": str(LEASE_SECONDS), "LogLevel": "debug"})
        self.s3, self.sqs = self.stack.client("s3"), self.stack.client("sqs")
        self.s3.create_bucket(Bucket=LAKE_BUCKET)
        for key, content in self.objects.items():
            self.s3.put_object(Bucket=LAKE_BUCKET, Key=key, Body=content)
        # Beside the prefix: no policy of ours reaches it, and no export may show it.
        self.s3.put_object(Bucket=LAKE_BUCKET, Key="elsewhere/Patient.ndjson",
                           Body=b'{"resourceType":"Patient","id":"not-to-be-exported"}\n')
        self.resources = self.stack.resources()
        self.base = self.stack.outputs["BaseUrl"]
        self.http = Client(cloud.port, str(cloud.certificate))
        self.exporter = self.user("exporter", self.stack.outputs["CallersResource"])
        self.stranger = self.user("stranger", None)
        self.finished = ""
        self.lost = ""

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
        """Starts an export; gives its status URL."""
        reply = self.ask("GET", self.base + path, ASKS)
        expect(reply.status == 202, f"kick-off answers 202, not {reply}")
        location = reply.headers["Content-Location"] or ""
        # MiniStack's requestContext.domainName leaves the port out, so only the name is compared.
        parts, base = urlsplit(location), urlsplit(self.base)
        expect((parts.scheme, parts.hostname) == (base.scheme, base.hostname), f"absolute Content-Location: {location}")
        expect(parts.path.startswith("/_operations/export/"), f"status path: {location}")
        return self.base + parts.path

    def poll(self, status_url: str, seconds: float = EXPORT_SECONDS) -> Reply:
        """The first answer that is not 202."""
        deadline = time.monotonic() + seconds
        while True:
            reply = self.ask("GET", status_url)
            if reply.status != 202:
                return reply
            expect(len(reply.headers["X-Progress"] or "") <= 100, "X-Progress has at most 100 characters")
            expect((reply.headers["Retry-After"] or "").isdigit(), "Retry-After is a whole number of seconds")
            expect(time.monotonic() < deadline, f"not finished after {seconds} s: {reply.headers['X-Progress']}")
            time.sleep(0.3)

    def exported_keys(self, job: str = "") -> list[str]:
        """Keys in the destination bucket, of one job where it is named."""
        pages = self.s3.get_paginator("list_objects_v2").paginate(Bucket=self.stack.outputs["DestinationBucketName"])
        return [item["Key"] for page in pages for item in page.get("Contents", []) if job in item["Key"]]

    def take_announcements(self, on: bool) -> None:
        """Turns the queue's event source mapping on or off."""
        mapping = self.resources["ChunkWorkerFunctionTasks"]
        self.stack.client("lambda").update_event_source_mapping(UUID=mapping, Enabled=on)

    def receive(self, queue_url: str, seconds: float = 20) -> dict:
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            messages = self.sqs.receive_message(QueueUrl=queue_url, WaitTimeSeconds=1).get("Messages", [])
            if messages:
                return messages[0]
        raise AssertionError(f"no message came out of {queue_url}")

    def logs(self) -> str:
        """All that the functions and the access log have written."""
        client = self.stack.client("logs")
        groups = [name for logical, name in self.resources.items() if logical.endswith("Log")]
        events = (
            event["message"]
            for group in groups
            for page in client.get_paginator("filter_log_events").paginate(logGroupName=group)
            for event in page["events"])
        return "\n".join(events)


def expect(condition: bool, what: str) -> None:
    if not condition:
        raise AssertionError(what)


def job_id(status_url: str) -> str:
    return status_url.rsplit("/", 1)[-1]


def expect_outcome(reply: Reply) -> str:
    """The reply is an OperationOutcome with text; gives the text."""
    expect("application/fhir+json" in (reply.headers["Content-Type"] or ""), f"FHIR JSON, not {reply.headers['Content-Type']}")
    outcome = reply.json()
    expect(outcome.get("resourceType") == "OperationOutcome", f"an OperationOutcome: {reply}")
    return json.dumps(outcome["issue"])


# ----------------------------------------------------------------------------------------------------------- the tests


def the_whole_template_is_deployed(stage: Stage) -> None:
    expect(stage.stack.status == "CREATE_COMPLETE", f"stack status {stage.stack.status}")
    table = stage.stack.client("dynamodb").describe_table(TableName=stage.stack.outputs["JobTableName"])["Table"]
    expect({index["IndexName"] for index in table["GlobalSecondaryIndexes"]} == {"due", "owner"}, "both indexes")
    bucket = stage.stack.outputs["DestinationBucketName"]
    # Not the lifecycle rules: MiniStack's CloudFormation leaves them out.
    expect(stage.s3.get_bucket_versioning(Bucket=bucket).get("Status") is None, "versioning is off")


def nobody_gets_in_unsigned(stage: Stage) -> None:
    routes = [
        ("GET", "/$export"), ("POST", "/$export"), ("GET", "/Patient/$export"), ("POST", "/Patient/$export"),
        ("GET", "/Patient/1/$export"), ("POST", "/Patient/1/$export"), ("GET", "/Group/1/$export"),
        ("POST", "/Group/1/$export"), ("GET", "/_operations/export/1"), ("DELETE", "/_operations/export/1"),
        ("GET", "/_operations/files/1/Patient-1.ndjson"), ("HEAD", "/_operations/files/1/Patient-1.ndjson")]
    api = stage.stack.client("apigatewayv2")
    deployed = api.get_routes(ApiId=stage.resources["HttpApi"])["Items"]
    expect(len(deployed) == len(routes), f"{len(routes)} routes are tried, {len(deployed)} are deployed")
    expect(all(route["AuthorizationType"] == "AWS_IAM" for route in deployed), "every route asks for AWS_IAM")
    for method, path in routes:
        reply = stage.http.send(method, stage.base + path, ASKS)
        expect(reply.status == 403, f"unsigned {method} {path} answers 403, not {reply}")


def nobody_gets_in_with_the_wrong_signature_or_without_a_policy(stage: Stage) -> None:
    forged = Credentials(stage.exporter.access_key, "not-the-secret")
    for who in (forged, stage.stranger):
        reply = stage.http.send("GET", stage.base + "/$export", ASKS, who)
        expect(reply.status == 403, f"answers 403, not {reply}")


def a_wrong_request_is_told_so(stage: Stage) -> None:
    reply = stage.ask("GET", stage.base + "/$export", {"Accept": "application/fhir+json"})
    expect(reply.status == 400, f"without Prefer: 400, not {reply}")
    expect_outcome(reply)


def a_job_whose_announcement_is_lost(stage: Stage) -> None:
    """Recorded, announced, and the message gone: the last test sees whether the reaper has found it."""
    stage.take_announcements(False)
    stage.lost = stage.kick_off()
    queue = stage.stack.outputs["TaskQueueUrl"]
    message = stage.receive(queue)
    stage.sqs.delete_message(QueueUrl=queue, ReceiptHandle=message["ReceiptHandle"])
    stage.take_announcements(True)
    expect(stage.ask("GET", stage.lost).status == 202, "the job waits")


def an_export_has_every_line_once(stage: Stage) -> None:
    started = time.monotonic()
    stage.finished = stage.kick_off()
    expect_export(stage, stage.poll(stage.finished))
    print(f"     {sum(stage.lines.values())} resources in {time.monotonic() - started:.1f} s", flush=True)


def expect_export(stage: Stage, reply: Reply) -> None:
    """The manifest is complete, and its files hold the lake's lines, each once."""
    expect(reply.status == 200, f"the manifest: {reply}")
    manifest = reply.json()
    expect(manifest["error"] == [], f"no errors: {manifest['error']}")
    lines: collections.Counter[bytes] = collections.Counter()
    for item in manifest["output"]:
        content = download(stage, item["url"])
        got = content.splitlines()
        expect(len(got) == item["count"], f"{item['url']}: {len(got)} lines, count {item['count']}")
        expect(all(json.loads(line)["resourceType"] == item["type"] for line in got), f"{item['url']} holds one type")
        lines.update(got)
    missing, extra = stage.lines - lines, lines - stage.lines
    expect(not missing and not extra, f"{missing.total()} lines are missing, {extra.total()} too many")


def download(stage: Stage, url: str) -> bytes:
    """One file: our own URL, then the presigned one, which needs no credentials and does not live long."""
    path = urlsplit(url).path
    expect(path.startswith("/_operations/files/"), f"a file URL of our own: {url}")
    unsigned = stage.http.send("GET", stage.base + path)
    expect(unsigned.status == 403, f"an unsigned caller gets 403 for {path}, not {unsigned}")
    redirect = stage.ask("GET", stage.base + path)
    expect(redirect.status == 307, f"{path} answers 307, not {redirect}")
    presigned = redirect.headers["Location"]
    expect(int(parse_qs(urlsplit(presigned).query)["X-Amz-Expires"][0]) <= 300, "the URL lives five minutes at most")
    file = stage.http.send("GET", presigned)
    expect(file.status == 200, f"the presigned URL answers 200, not {file}")
    part = stage.http.send("GET", presigned, {"Range": "bytes=0-9"})
    expect(part.status == 206 and part.body == file.body[:10], "a range of it can be asked for")
    return file.body


def head_tells_where_a_file_is(stage: Stage) -> None:
    url = stage.poll(stage.finished).json()["output"][0]["url"]
    reply = stage.ask("HEAD", stage.base + urlsplit(url).path)
    expect(reply.status == 307 and bool(reply.headers["Location"]), f"HEAD answers 307, not {reply}")


def a_finished_export_is_deleted(stage: Stage) -> None:
    file = stage.poll(stage.finished).json()["output"][0]["url"]
    keys = stage.exported_keys(job_id(stage.finished))
    expect(bool(keys) and all(key.startswith(DESTINATION_PREFIX) for key in keys), f"files under the prefix: {keys}")
    expect_cancelled(stage, stage.finished)
    gone = stage.ask("GET", stage.base + urlsplit(file).path)
    expect(gone.status == 404, f"its files answer 404, not {gone}")


def a_running_export_is_cancelled(stage: Stage) -> None:
    # %24 for $, as many clients write it.
    expect_cancelled(stage, stage.kick_off("/%24export"))


def expect_cancelled(stage: Stage, status_url: str) -> None:
    reply = stage.ask("DELETE", status_url)
    expect(reply.status == 202, f"DELETE answers 202, not {reply}")
    reply = stage.ask("GET", status_url)
    expect(reply.status == 404, f"afterwards the status is 404, not {reply}")
    expect_outcome(reply)
    # A worker that was writing just then sweeps its own part when it notices.
    deadline = time.monotonic() + 30
    while keys := stage.exported_keys(job_id(status_url)):
        expect(time.monotonic() < deadline, f"files are left: {keys}")
        time.sleep(0.5)
    expect(stage.ask("GET", status_url).status == 404, "and stays 404")


def a_snapshot_that_cannot_be_kept_fails_the_job(stage: Stage) -> None:
    """An object of the lake changes after the plan has pinned it: the job fails and says which one.

    To get between the plan and its tasks, the mapping is off, and the plan's message goes to the worker by hand.
    """
    key = next(iter(stage.objects))
    stage.take_announcements(False)
    status_url = stage.kick_off()
    queue = stage.stack.outputs["TaskQueueUrl"]
    message = stage.receive(queue)
    run_worker(stage, message)
    stage.sqs.delete_message(QueueUrl=queue, ReceiptHandle=message["ReceiptHandle"])
    stage.s3.put_object(Bucket=LAKE_BUCKET, Key=key, Body=b'{"resourceType":"Patient","id":"changed"}\n')
    stage.take_announcements(True)
    try:
        reply = stage.poll(status_url)
        expect(500 <= reply.status <= 599, f"the job fails visibly, not {reply}")
        text = expect_outcome(reply)
        expect(key.removeprefix(LAKE_PREFIX) in text, f"the outcome names {key}: {text}")
    finally:
        stage.s3.put_object(Bucket=LAKE_BUCKET, Key=key, Body=stage.objects[key])


def run_worker(stage: Stage, message: dict) -> None:
    """Hands one message to the worker, as the event source mapping would."""
    arn = stage.sqs.get_queue_attributes(
        QueueUrl=stage.stack.outputs["TaskQueueUrl"], AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    event = {"Records": [{
        "messageId": message["MessageId"], "receiptHandle": message["ReceiptHandle"], "body": message["Body"],
        "attributes": {"ApproximateReceiveCount": "1", "SentTimestamp": "0", "SenderId": "000000000000",
                       "ApproximateFirstReceiveTimestamp": "0"},
        "messageAttributes": {}, "md5OfBody": message["MD5OfBody"], "eventSource": "aws:sqs", "eventSourceARN": arn,
        "awsRegion": stage.stack.session.region_name}]}
    reply = stage.stack.client("lambda").invoke(
        FunctionName=stage.resources["ChunkWorkerFunction"], Payload=json.dumps(event))
    answer = json.loads(reply["Payload"].read() or b"null")
    expect("FunctionError" not in reply, f"the worker fails: {answer}")
    expect(not (answer or {}).get("batchItemFailures"), f"the worker refuses the message: {answer}")


def a_poisoned_message_ends_in_the_dead_letter_queue(stage: Stage) -> None:
    """Five receives, then the DLQ. The queue's 90 minutes of invisibility become one second for this test alone."""
    queue, dead = stage.stack.outputs["TaskQueueUrl"], stage.stack.outputs["DeadLetterQueueUrl"]
    stage.sqs.set_queue_attributes(QueueUrl=queue, Attributes={"VisibilityTimeout": "1"})
    try:
        stage.sqs.send_message(QueueUrl=queue, MessageBody=GARBAGE)
        message = stage.receive(dead, seconds=60)
    finally:
        stage.sqs.set_queue_attributes(QueueUrl=queue, Attributes={"VisibilityTimeout": "5400"})
    expect(message["Body"] == GARBAGE, f"the garbage, and nothing else: {message['Body']}")
    more = stage.sqs.receive_message(QueueUrl=dead).get("Messages", [])
    expect(not more, f"nothing else is dead: {more}")


def exports_go_on_beside_it(stage: Stage) -> None:
    expect_export(stage, stage.poll(stage.kick_off()))


def the_reaper_finds_the_lost_job(stage: Stage) -> None:
    """On its schedule, not called by us."""
    started = time.monotonic()
    expect_export(stage, stage.poll(stage.lost, RECOVERY_SECONDS))
    print(f"     after another {time.monotonic() - started:.0f} s of waiting", flush=True)


def the_policies_suffice_and_the_logs_keep_silent(stage: Stage) -> None:
    logs = stage.logs()
    expect(bool(logs), "the functions have logged")
    for word in ("AccessDenied", "not authorized to perform"):
        expect_absent(logs, word)
    # No download URL, no signature, and no patient: the first line of the lake stands for all.
    line = next(iter(stage.lines)).decode()
    for secret in ("X-Amz-Signature", "X-Amz-Credential", line, line[:200]):
        expect_absent(logs, secret)


def expect_absent(text: str, word: str) -> None:
    at = text.find(word)
    expect(at < 0, f"found '{word[:60]}' in: {text[max(0, at - 400):at + 400]}")


TESTS: list[Callable[[Stage], None]] = [
    the_whole_template_is_deployed,
    nobody_gets_in_unsigned,
    nobody_gets_in_with_the_wrong_signature_or_without_a_policy,
    a_wrong_request_is_told_so,
    a_job_whose_announcement_is_lost,
    an_export_has_every_line_once,
    head_tells_where_a_file_is,
    a_finished_export_is_deleted,
    a_running_export_is_cancelled,
    a_snapshot_that_cannot_be_kept_fails_the_job,
    a_poisoned_message_ends_in_the_dead_letter_queue,
    exports_go_on_beside_it,
    the_reaper_finds_the_lost_job,
    the_policies_suffice_and_the_logs_keep_silent,
]


def main() -> int:
    parser = argparse.ArgumentParser(description="Deploys template.yaml to MiniStack and exports a lake through it.")
    parser.add_argument("--binaries", type=Path, required=True, help="folder with the functions' binaries, such as target/debug")
    parser.add_argument("--lake", type=Path, required=True, help="folder of NDJSON files, one version of each resource")
    parser.add_argument("--keep-log", type=Path, help="where to leave MiniStack's log")
    choices = parser.parse_args()
    failed = 0
    with MiniStack() as cloud:
        try:
            print(f"MiniStack at {cloud.url}; sam deploy of {STACK} ...", flush=True)
            stage = Stage(cloud, choices.binaries.resolve(), choices.lake.resolve())
            print(f"deployed: {stage.base}", flush=True)
            for test in TESTS:
                name = test.__name__.replace("_", " ")
                try:
                    test(stage)
                    print(f"ok   {name}", flush=True)
                except Exception:  # one broken test must not hide what the others would say
                    failed += 1
                    print(f"FAIL {name}\n{traceback.format_exc()}", flush=True)
            if failed:
                print(f"the end of MiniStack's log:\n{cloud.last_lines(60)}", flush=True)
        finally:
            if choices.keep_log:
                choices.keep_log.write_bytes(cloud.log.read_bytes())
    print(f"{len(TESTS) - failed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
