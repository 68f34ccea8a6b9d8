#!/usr/bin/env python3
"""The deployment test: template.yaml, deployed, with the real binaries, without an AWS account and without Docker.

How to run it, from the repository's root:

    python3 -m venv target/deploy-venv
    target/deploy-venv/bin/pip install -r .ci/deploy/requirements.txt
    cargo build --workspace --bins
    target/deploy-venv/bin/python .ci/deploy/deploy_test.py --binaries target/debug --lake DIR

DIR holds NDJSON files with one version of each resource. Besides Python it needs the `openssl` command. It takes five
minutes, mostly for the reaper's schedule, and ends with a line `N passed, N failed`.

MiniStack runs on loopback with TLS and enforces IAM policies (`emulator.py` lists its limitations).
`sam deploy` deploys the stack (`deployment.py` lists the changes to the template that MiniStack needs). Each test
checks one guarantee to users or operators. There are two parts with a stack each, whose tests run in order: those below, with
requests signed by AWS identities (AccessMode iam), then those of `smart_tests.py`, with access tokens (AccessMode smart). Between the
former run those of `sync_tests.py`, with a stack that fills its lake from a FHIR server (`fhir_server.py`).
"""

import argparse
import collections
import gzip
import json
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar
from urllib.parse import parse_qs, urlsplit

from botocore.credentials import Credentials

from deployment import Deployment, zipped
from emulator import REGION, MiniStack
from signed_http import Reply
from smart import Smart
from smart_tests import TESTS as SMART_TESTS
from stage import (
    KICK_OFF_HEADERS, DESTINATION_PREFIX, EVENT_SECONDS, EXPORT_SECONDS, LAKE_BUCKET, LAKE_PREFIX, PUBLIC_ROUTES, SIGNED_REQUESTS, Stage, expect, expect_absent,
    expect_outcome, expect_record, expect_sound_records, job_id)
from sync_tests import (
    a_stack_creates_its_lake_and_synchronizes_it, an_export_equals_the_fhir_server, an_export_equals_the_fhir_server_after_a_change,
    the_credential_is_read_by_its_function_alone_and_never_logged)

# A lost task is announced again when its lease has expired, at the next run of the reaper.
RECOVERY_SECONDS = 240
AnyStage = TypeVar("AnyStage", Stage, Smart)
GARBAGE = "\u00a7 not a task {"


def the_whole_template_is_deployed(stage: Stage) -> None:
    expect(stage.stack.status == "CREATE_COMPLETE", f"stack status {stage.stack.status}")
    table = stage.stack.client("dynamodb").describe_table(TableName=stage.stack.outputs["JobTableName"])["Table"]
    expect({index["IndexName"] for index in table["GlobalSecondaryIndexes"]} == {"due", "owner"}, "both indexes")
    bucket = stage.stack.outputs["DestinationBucketName"]
    # Not the lifecycle rules: MiniStack's CloudFormation leaves them out.
    expect(stage.s3.get_bucket_versioning(Bucket=bucket).get("Status") is None, "versioning is off")
    audit_bucket = stage.stack.outputs["AuditBucketName"]
    expect(stage.s3.get_bucket_versioning(Bucket=audit_bucket).get("Status") == "Enabled", "audit files keep their versions")
    expect_private(stage, bucket)
    expect_private(stage, audit_bucket)
    alarms = stage.stack.client("cloudwatch").describe_alarms()["MetricAlarms"]
    watched = {alarm["AlarmName"] for alarm in alarms} & set(stage.resources.values())
    expect(len(watched) == 8, f"eight alarms: {watched}")
    expect(not [name for name in stage.resources if "Token" in name], "AccessMode iam needs no tokens and no key that signs them")


def expect_private(stage: Stage, bucket: str) -> None:
    access = stage.s3.get_public_access_block(Bucket=bucket)["PublicAccessBlockConfiguration"]
    expect(len(access) == 4 and all(access.values()), f"{bucket} is private: {access}")


def unsigned_requests_are_rejected(stage: Stage) -> None:
    api = stage.stack.client("apigatewayv2")
    deployed = api.get_routes(ApiId=stage.resources["HttpApi"])["Items"]
    signed = [route["RouteKey"] for route in deployed if route["AuthorizationType"] == "AWS_IAM"]
    public = [route["RouteKey"] for route in deployed if route["AuthorizationType"] != "AWS_IAM"]
    expect(len(signed) == len(SIGNED_REQUESTS), f"{len(SIGNED_REQUESTS)} routes are tested, these require AWS_IAM: {signed}")
    expect(set(public) == PUBLIC_ROUTES, f"only the descriptions of the service are public: {public}")
    for method, path in SIGNED_REQUESTS:
        reply = stage.http.send(method, stage.base + path, KICK_OFF_HEADERS)
        expect(reply.status == 403, f"unsigned {method} {path} answers 403, not {reply}")


def capabilities_are_public(stage: Stage) -> None:
    reply = stage.http.send("GET", stage.base + "/metadata", {"Accept": "application/json"})
    expect(reply.status == 200, f"the CapabilityStatement: {reply}")
    statement = reply.json()
    expect(statement["resourceType"] == "CapabilityStatement", f"a CapabilityStatement: {statement}")
    rest = statement["rest"][0]
    listed = {resource["type"]: resource for resource in rest["resource"]}
    expect({"Patient", "Group", "Observation"} <= set(listed), "the types that can be exported")
    expect(any(operation["name"] == "group-export" for operation in listed["Group"]["operation"]), "the export of a group")
    gzipped = stage.http.send("GET", stage.base + "/metadata", {"Accept-Encoding": "gzip"})
    expect(gzipped.headers["Content-Encoding"] == "gzip", f"gzip where it is taken: {gzipped}")
    expect(json.loads(gzip.decompress(gzipped.body))["rest"] == statement["rest"], "with the same content")
    head = stage.http.send("HEAD", stage.base + "/metadata", {})
    expect(head.status == 200 and not head.body, f"HEAD: {head}")
    for path in ("/OperationDefinition", "/OperationDefinition/patient-export"):
        expect(stage.http.send("GET", stage.base + path, {}).status == 200, f"{path} is public")
    smart = stage.http.send("GET", stage.base + "/.well-known/smart-configuration", {})
    expect(smart.status == 404, f"there is no token endpoint: {smart}")
    expect_outcome(smart)


def a_client_finds_the_group_to_export(stage: Stage) -> None:
    reply = stage.ask("GET", stage.base + "/Group")
    expect(reply.status == 200, f"the groups of the lake: {reply}")
    groups = [entry["resource"] for entry in reply.json().get("entry", [])]
    lines = [json.loads(line) for line in stage.lines if b'"Group"' in line]
    expected = {line["id"] for line in lines if line["resourceType"] == "Group"}
    expect({group["id"] for group in groups} == expected, f"{expected}, not {groups}")
    for name in expected:
        reply = stage.ask("GET", f"{stage.base}/Group/{name}")
        expect(reply.status == 200 and reply.json()["id"] == name, f"one of them: {reply}")
    expect(stage.ask("GET", stage.base + "/Group/nobody").status == 404, "404 for one that is not there")


def a_client_lists_its_own_exports(stage: Stage) -> None:
    reply = stage.ask("GET", stage.base + "/_operations/export")
    expect(reply.status == 200, f"the list of exports: {reply}")
    bundle = reply.json()
    expect(bundle["type"] == "searchset", f"a searchset: {bundle}")
    ids = [entry["resource"]["id"] for entry in bundle.get("entry", [])]
    expect(job_id(stage.finished) in ids, f"the finished export is listed: {ids}")


def a_wrong_signature_or_a_missing_policy_is_rejected(stage: Stage) -> None:
    forged = Credentials(stage.exporter.access_key, "not-the-secret")
    for signer in (forged, stage.stranger):
        reply = stage.http.send("GET", stage.base + "/$export", KICK_OFF_HEADERS, signer)
        expect(reply.status == 403, f"answers 403, not {reply}")


def an_invalid_request_is_rejected_with_an_outcome(stage: Stage) -> None:
    reply = stage.ask("GET", stage.base + "/$export", {"Accept": "application/fhir+json"})
    expect(reply.status == 400, f"without Prefer: 400, not {reply}")
    expect_outcome(reply)


def the_message_of_a_job_is_lost(stage: Stage) -> None:
    """Deletes the message of a job. A later test checks that the reaper announces the task again."""
    stage.enable_worker(False)
    stage.lost = stage.kick_off()
    queue = stage.stack.outputs["TaskQueueUrl"]
    message = stage.receive(queue)
    stage.lost_message = message["Body"]
    stage.sqs.delete_message(QueueUrl=queue, ReceiptHandle=message["ReceiptHandle"])
    stage.enable_worker(True)
    expect(stage.ask("GET", stage.lost).status == 202, "the job is not started")


def an_export_has_every_line_once(stage: Stage) -> None:
    started = time.monotonic()
    stage.finished = stage.kick_off()
    expect_export(stage, stage.poll(stage.finished))
    print(f"     {sum(stage.lines.values())} resources in {time.monotonic() - started:.1f} s", flush=True)


def expect_export(stage: Stage, reply: Reply) -> None:
    """Checks that the manifest is complete and that its files contain every line of the lake once."""
    expect(reply.status == 200, f"the manifest: {reply}")
    manifest = reply.json()
    expect(manifest["error"] == [], f"no errors: {manifest['error']}")
    lines: collections.Counter[bytes] = collections.Counter()
    for item in manifest["output"]:
        content = download(stage, item["url"])
        got = content.splitlines()
        expect(len(got) == item["count"], f"{item['url']}: {len(got)} lines, count {item['count']}")
        expect(all(json.loads(line)["resourceType"] == item["type"] for line in got), f"{item['url']} contains one type")
        lines.update(got)
    missing, extra = stage.lines - lines, lines - stage.lines
    expect(not missing and not extra, f"{missing.total()} lines are missing, {extra.total()} too many")


def download(stage: Stage, url: str) -> bytes:
    """Downloads one file: the service's URL redirects to a presigned one, which needs no credentials and soon expires."""
    path = urlsplit(url).path
    expect(path.startswith("/_operations/files/"), f"a file URL of the service: {url}")
    unsigned = stage.http.send("GET", stage.base + path)
    expect(unsigned.status == 403, f"an unsigned caller gets 403 for {path}, not {unsigned}")
    redirect = stage.ask("GET", stage.base + path)
    expect(redirect.status == 307, f"{path} answers 307, not {redirect}")
    presigned = redirect.headers["Location"]
    expect(int(parse_qs(urlsplit(presigned).query)["X-Amz-Expires"][0]) <= 300, "the URL is valid for at most five minutes")
    file = stage.http.send("GET", presigned)
    expect(file.status == 200, f"the presigned URL answers 200, not {file}")
    range_reply = stage.http.send("GET", presigned, {"Range": "bytes=0-9"})
    expect(range_reply.status == 206 and range_reply.body == file.body[:10], "range requests work")
    return file.body


def a_deidentified_export_keeps_references_and_no_ids(stage: Stage) -> None:
    """Uses a configuration in the destination. The worker decrypts the job's secret with KMS."""
    samples = Path(__file__).resolve().parents[2] / "tests/samples/anonymization"
    configuration = (samples / "study.json").read_bytes()
    bucket, key = stage.stack.outputs["DestinationBucketName"], f"{DESTINATION_PREFIX}anonymization/study.json"
    stage.s3.put_object(Bucket=bucket, Key=key, Body=b'{"fhirPathRules":[{"path":"Patient.nobody(","method":"redact"}]}')
    path = "/$export?_container=study&_anonymizationConfig=study.json"
    rejected = stage.ask("GET", stage.base + path, KICK_OFF_HEADERS)
    expect(rejected.status == 400 and "rule 1" in expect_outcome(rejected), f"an invalid rule is rejected at kick-off: {rejected}")
    stage.s3.put_object(Bucket=bucket, Key=key, Body=configuration)
    status = stage.kick_off(path)
    reply = stage.poll(status)
    expect(reply.status == 200, f"the manifest: {reply}")
    manifest = reply.json()
    expect(manifest["error"] == [], f"no errors: {manifest['error']}")
    written = b"".join(download(stage, item["url"]) for item in manifest["output"])
    expect(len(written.splitlines()) == stage.lines.total(), f"{len(written.splitlines())} of {stage.lines.total()} resources")
    before, after = ([json.loads(line) for line in lines] for lines in (stage.lines, written.splitlines()))
    ids = {resource["id"] for resource in before}
    kept_ids = sorted(name for name in ids if name.encode() in written)
    expect(not kept_ids, f"no id of the lake is left: {kept_ids[:3]}")
    patients = {f"Patient/{resource['id']}" for resource in after if resource["resourceType"] == "Patient"}
    resolved = sum(resource.get("subject", {}).get("reference") in patients for resource in after)
    expect(resolved > 0, "references point to the patients under their new ids")
    job = stage.stack.client("dynamodb").get_item(
        TableName=stage.stack.outputs["JobTableName"], Key={"pk": {"S": f"JOB#{job_id(status)}"}, "sk": {"S": "JOB"}})["Item"]
    expect("secret" not in job, "the secret is deleted at the end of the job")


def head_redirects_to_the_file(stage: Stage) -> None:
    url = stage.poll(stage.finished).json()["output"][0]["url"]
    reply = stage.ask("HEAD", stage.base + urlsplit(url).path)
    expect(reply.status == 307 and bool(reply.headers["Location"]), f"HEAD answers 307, not {reply}")


def a_finished_export_is_deleted(stage: Stage) -> None:
    file = stage.poll(stage.finished).json()["output"][0]["url"]
    keys = stage.exported_keys(job_id(stage.finished))
    expect(bool(keys) and all(key.startswith(f"{DESTINATION_PREFIX}exports/") for key in keys), f"files under the prefix: {keys}")
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
    # A worker that is writing deletes its own file when it notices the cancellation.
    deadline = time.monotonic() + 30
    while keys := stage.exported_keys(job_id(status_url)):
        expect(time.monotonic() < deadline, f"files are left: {keys}")
        time.sleep(0.5)
    expect(stage.ask("GET", status_url).status == 404, "and stays 404")


def a_changed_source_object_fails_the_job(stage: Stage) -> None:
    """Changes a source object after the plan has pinned it. The job must fail and name the object.

    The event source mapping is disabled and the test sends the plan's message to the worker, to change the object in between.
    """
    key = next(iter(stage.objects))
    stage.enable_worker(False)
    status_url = stage.kick_off()
    queue = stage.stack.outputs["TaskQueueUrl"]
    message = stage.receive(queue)
    run_worker(stage, message)
    stage.sqs.delete_message(QueueUrl=queue, ReceiptHandle=message["ReceiptHandle"])
    stage.s3.put_object(Bucket=LAKE_BUCKET, Key=key, Body=b'{"resourceType":"Patient","id":"changed"}\n')
    stage.enable_worker(True)
    try:
        reply = stage.poll(status_url, RECOVERY_SECONDS)
        expect(500 <= reply.status <= 599, f"the job fails, not {reply}")
        text = expect_outcome(reply)
        expect(key.removeprefix(LAKE_PREFIX) in text, f"the outcome names {key}: {text}")
        # The operator finds the parked task.
        expect_dead_letter(stage, job_id(status_url))
    finally:
        stage.s3.put_object(Bucket=LAKE_BUCKET, Key=key, Body=stage.objects[key])


def run_worker(stage: Stage, message: dict) -> None:
    """Sends one message to the worker, as the event source mapping does."""
    arn = stage.sqs.get_queue_attributes(
        QueueUrl=stage.stack.outputs["TaskQueueUrl"], AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    event = {"Records": [{
        "messageId": message["MessageId"], "receiptHandle": message["ReceiptHandle"], "body": message["Body"],
        "attributes": {"ApproximateReceiveCount": "1", "SentTimestamp": "0", "SenderId": "000000000000",
                       "ApproximateFirstReceiveTimestamp": "0"},
        "messageAttributes": {}, "md5OfBody": message["MD5OfBody"], "eventSource": "aws:sqs", "eventSourceARN": arn,
        "awsRegion": REGION}]}
    reply = stage.stack.client("lambda").invoke(
        FunctionName=stage.resources["ChunkWorkerFunction"], Payload=json.dumps(event))
    answer = json.loads(reply["Payload"].read() or b"null")
    expect("FunctionError" not in reply, f"the worker fails: {answer}")
    expect(not (answer or {}).get("batchItemFailures"), f"the worker rejects the message: {answer}")


def an_invalid_message_is_parked(stage: Stage) -> None:
    stage.sqs.send_message(QueueUrl=stage.stack.outputs["TaskQueueUrl"], MessageBody=GARBAGE)
    expect_dead_letter(stage, GARBAGE)


def a_message_delivered_five_times_goes_to_the_dead_letter_queue(stage: Stage) -> None:
    """SQS itself moves the message, because the worker cannot start. The queue's visibility timeout is set to one second."""
    worker, functions = stage.resources["ChunkWorkerFunction"], stage.stack.client("lambda")
    settings = functions.get_function_configuration(FunctionName=worker)["Environment"]["Variables"]
    queue = stage.stack.outputs["TaskQueueUrl"]
    stage.sqs.set_queue_attributes(QueueUrl=queue, Attributes={"VisibilityTimeout": "1"})
    functions.update_function_configuration(FunctionName=worker, Environment={"Variables": {**settings, "HEADRACE_TABLE": ""}})
    try:
        stage.sqs.send_message(QueueUrl=queue, MessageBody=stage.lost_message)
        expect_dead_letter(stage, stage.lost_message)
    finally:
        functions.update_function_configuration(FunctionName=worker, Environment={"Variables": settings})
        stage.sqs.set_queue_attributes(QueueUrl=queue, Attributes={"VisibilityTimeout": "5400"})


def expect_dead_letter(stage: Stage, words: str) -> None:
    """Receives one message with these words from the dead-letter queue and deletes it."""
    dead = stage.stack.outputs["DeadLetterQueueUrl"]
    message = stage.receive(dead, seconds=60)
    expect(words in message["Body"], f"'{words}', not: {message['Body']}")
    stage.sqs.delete_message(QueueUrl=dead, ReceiptHandle=message["ReceiptHandle"])
    more = stage.sqs.receive_message(QueueUrl=dead).get("Messages", [])
    expect(not more, f"there is no other message: {more}")


def other_exports_still_work(stage: Stage) -> None:
    expect_export(stage, stage.poll(stage.kick_off()))


def the_reaper_recovers_the_lost_job(stage: Stage) -> None:
    """The reaper runs on its schedule; the test does not call it."""
    started = time.monotonic()
    expect_export(stage, stage.poll(stage.lost, RECOVERY_SECONDS))
    print(f"     after another {time.monotonic() - started:.0f} s of waiting", flush=True)


def a_worker_panics(stage: Stage) -> None:
    """Runs an export with a worker that panics while it reads the lake. Then the worker is the real one again."""
    worker, functions = stage.resources["ChunkWorkerFunction"], stage.stack.client("lambda")
    functions.update_function_code(FunctionName=worker, ZipFile=zipped(stage.binaries / "panicking-chunk-worker", stage.cloud.folder))
    try:
        stage.interrupted = stage.kick_off()
        deadline = time.monotonic() + EXPORT_SECONDS
        while "the process panicked" not in stage.stack.logs("ChunkWorker"):
            expect(time.monotonic() < deadline, "no panic is in the log of the worker")
            time.sleep(1)
    finally:
        functions.update_function_code(FunctionName=worker, ZipFile=zipped(stage.binaries / "chunk-worker", stage.cloud.folder))
    expect(stage.ask("GET", stage.interrupted).status == 202, "the export goes on")
    expect_absent(stage.stack.logs("ChunkWorker"), "message of a panic")


def a_panic_of_a_worker_delays_the_export(stage: Stage) -> None:
    """The lease of the attempt ends, and the reaper announces the task again."""
    started = time.monotonic()
    expect_export(stage, stage.poll(stage.interrupted, RECOVERY_SECONDS))
    print(f"     after another {time.monotonic() - started:.0f} s of waiting", flush=True)


def audit_records_are_sealed(stage: Stage) -> None:
    for action in ("kick-off", "complete", "download", "cancel"):
        expect_record(stage, action, "succeeded", "--job", job_id(stage.finished))
    expect_sound_records(stage)


def the_event_bus_gets_the_moves_of_an_export_in_order(stage: Stage) -> None:
    """Reads the events that a rule has sent to a queue until the deletion of the first export is among them."""
    details: list[dict] = []
    job = job_id(stage.finished)
    deadline = time.monotonic() + EVENT_SECONDS
    while not any(detail["job"] == job and detail["state"] == "cancelled" for detail in details):
        expect(time.monotonic() < deadline, f"the events of the export arrive: {details}")
        received = stage.sqs.receive_message(QueueUrl=stage.events_url, MaxNumberOfMessages=10, WaitTimeSeconds=1)
        for message in received.get("Messages", []):
            event = json.loads(message["Body"])
            expect((event["source"], event["detail-type"]) == ("headrace", "Export State Change"), f"an event of this service: {event}")
            details.append(event["detail"])
            stage.sqs.delete_message(QueueUrl=stage.events_url, ReceiptHandle=message["ReceiptHandle"])
    states = [detail["state"] for detail in details if detail["job"] == job]
    expect(list(dict.fromkeys(states)) == ["accepted", "running", "complete", "cancelled"], f"the moves in order: {states}")
    expect(all(detail["id"] == f"{detail['job']}-{detail['state']}" for detail in details), f"stable ids: {details}")


def the_policies_suffice_and_the_logs_contain_no_secrets(stage: Stage) -> None:
    logs = stage.stack.logs()
    expect(bool(logs), "the functions have logged")
    for word in ("AccessDenied", "not authorized to perform"):
        expect_absent(logs, word)
    # No download URL, no signature and no patient data. The first line of the lake represents all data.
    line = next(iter(stage.lines)).decode()
    for secret in ("X-Amz-Signature", "X-Amz-Credential", line, line[:200]):
        expect_absent(logs, secret)


def own_bucket_keys_and_domain(stage: Stage) -> None:
    """Deploys a second stack with the other choice for every parameter."""
    stage.s3.create_bucket(Bucket="own-bucket")
    keys = [stage.stack.client("kms").create_key()["KeyMetadata"]["Arn"] for _ in range(2)]
    topic = stage.stack.client("sns").create_topic(Name="alarms")["TopicArn"]
    base = "https://fhir.example.org/bulk"
    stack = Deployment(stage.cloud, stage.packaged, "headrace-own", {
        "SourceBucketName": LAKE_BUCKET, "SourcePrefix": LAKE_PREFIX, "SourceKmsKeyArn": keys[0], "AccessMode": "iam",
        "DestinationBucketName": "own-bucket", "KmsKeyArn": keys[1], "BaseUrl": base, "AlarmTopicArn": topic})
    expect(not [name for name in stack.resources if name.startswith("DestinationBucket")], "no bucket is created")
    expect(stack.outputs["BaseUrl"] == base, f"BaseUrl: {stack.outputs['BaseUrl']}")
    root = Credentials("test", "test")
    reply = stage.http.send("GET", stack.endpoint + "/$export", KICK_OFF_HEADERS, root)
    expect(reply.status == 202, f"kick-off answers 202, not {reply}")
    location = reply.headers["Content-Location"]
    expect(location.startswith(f"{base}/_operations/export/"), f"Content-Location begins with BaseUrl: {location}")
    deadline = time.monotonic() + EXPORT_SECONDS
    while (reply := stage.http.send("GET", stack.endpoint + location.removeprefix(base), {}, root)).status == 202:
        expect(time.monotonic() < deadline, "finishes")
        time.sleep(0.3)
    expect(reply.status == 200, f"the manifest: {reply}")
    output = reply.json()["output"]
    expect(sum(item["count"] for item in output) == stage.lines.total(), "it has every line")
    expect(all(item["url"].startswith(f"{base}/_operations/files/") for item in output), "file URLs begin with BaseUrl")
    expect("Contents" in stage.s3.list_objects_v2(Bucket="own-bucket"), "the files are in the own bucket")


TESTS: list[Callable[[Stage], None]] = [
    the_whole_template_is_deployed,
    a_stack_creates_its_lake_and_synchronizes_it,
    unsigned_requests_are_rejected,
    capabilities_are_public,
    a_wrong_signature_or_a_missing_policy_is_rejected,
    an_invalid_request_is_rejected_with_an_outcome,
    a_client_finds_the_group_to_export,
    the_message_of_a_job_is_lost,
    an_export_has_every_line_once,
    a_client_lists_its_own_exports,
    a_deidentified_export_keeps_references_and_no_ids,
    head_redirects_to_the_file,
    a_finished_export_is_deleted,
    a_running_export_is_cancelled,
    a_changed_source_object_fails_the_job,
    an_invalid_message_is_parked,
    a_message_delivered_five_times_goes_to_the_dead_letter_queue,
    an_export_equals_the_fhir_server,
    other_exports_still_work,
    a_worker_panics,
    own_bucket_keys_and_domain,
    the_reaper_recovers_the_lost_job,
    a_panic_of_a_worker_delays_the_export,
    an_export_equals_the_fhir_server_after_a_change,
    the_credential_is_read_by_its_function_alone_and_never_logged,
    audit_records_are_sealed,
    the_event_bus_gets_the_moves_of_an_export_in_order,
    the_policies_suffice_and_the_logs_contain_no_secrets,
]


def main() -> int:
    parser = argparse.ArgumentParser(description="Deploys template.yaml to MiniStack and exports a lake through it.")
    parser.add_argument("--binaries", type=Path, required=True, help="folder with the functions' binaries, such as target/debug")
    parser.add_argument("--lake", type=Path, required=True, help="folder of NDJSON files, one version of each resource")
    parser.add_argument("--keep-log", type=Path, help="where to leave MiniStack's log")
    arguments = parser.parse_args()
    with MiniStack() as cloud:
        try:
            print(f"MiniStack at {cloud.url}; sam deploy ...", flush=True)
            stage = Stage(cloud, arguments.binaries.resolve(), arguments.lake.resolve())
            print(f"AccessMode iam: {stage.base}", flush=True)
            failed = run(TESTS, stage)
            with Smart(stage) as smart:
                print(f"AccessMode smart: {smart.base}", flush=True)
                failed += run(SMART_TESTS, smart)
            if failed:
                print(f"the end of MiniStack's log:\n{cloud.last_lines(60)}", flush=True)
        finally:
            if arguments.keep_log:
                arguments.keep_log.write_bytes(cloud.log.read_bytes())
    print(f"{len(TESTS) + len(SMART_TESTS) - failed} passed, {failed} failed")
    return 1 if failed else 0


def run(tests: list[Callable[[AnyStage], None]], stage: AnyStage) -> int:
    """Runs the tests. Returns the number of failures."""
    failed = 0
    for test in tests:
        name = test.__name__.replace("_", " ")
        try:
            test(stage)
            print(f"ok   {name}", flush=True)
        except Exception:  # a failing test must not stop the others
            failed += 1
            print(f"FAIL {name}\n{traceback.format_exc()}", flush=True)
    return failed


if __name__ == "__main__":
    sys.exit(main())
