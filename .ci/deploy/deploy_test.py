#!/usr/bin/env python3
"""The deployment test: template.yaml, deployed, with the real binaries, without an AWS account and without Docker.

How to run it, from the repository's root:

    python3 -m venv target/deploy-venv
    target/deploy-venv/bin/pip install -r .ci/deploy/requirements.txt
    cargo build --workspace --bins
    target/deploy-venv/bin/python .ci/deploy/deploy_test.py --binaries target/debug --lake DIR

DIR holds NDJSON files with one version of each resource. Besides Python it needs the `openssl` command. It takes five
minutes, most of them waiting for the reaper's schedule, and ends with a line `N passed, N failed`.

What happens: MiniStack runs on loopback with TLS and with IAM enforced (`emulator.py`, which lists its blind spots),
`sam deploy` puts the stack there (`deployment.py`, which lists what it changes in the template for MiniStack), and each test
is one thing a user or an operator relies on. There are two acts, a stack each, whose tests run in order: those below, where
AWS identities sign (AccessMode iam), then those of `smart_tests.py`, where registered clients show tokens (smart).
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

from deployment import Deployment
from emulator import REGION, MiniStack
from signed_http import Reply
from smart import Smart
from smart_tests import TESTS as SMART_TESTS
from stage import (
    ASKS, DESTINATION_PREFIX, EXPORT_SECONDS, LAKE_BUCKET, LAKE_PREFIX, OPEN, SHUT, Stage, expect, expect_absent,
    expect_outcome, expect_record, expect_sound_records, job_id)

# A lost message is found once its lease has run out, at the next whole minute of the reaper's schedule.
RECOVERY_SECONDS = 240
Place = TypeVar("Place", Stage, Smart)
GARBAGE = "\u00a7 this is no order of ours {"


def the_whole_template_is_deployed(stage: Stage) -> None:
    expect(stage.stack.status == "CREATE_COMPLETE", f"stack status {stage.stack.status}")
    table = stage.stack.client("dynamodb").describe_table(TableName=stage.stack.outputs["JobTableName"])["Table"]
    expect({index["IndexName"] for index in table["GlobalSecondaryIndexes"]} == {"due", "owner"}, "both indexes")
    bucket = stage.stack.outputs["DestinationBucketName"]
    # Not the lifecycle rules: MiniStack's CloudFormation leaves them out.
    expect(stage.s3.get_bucket_versioning(Bucket=bucket).get("Status") is None, "versioning is off")
    records = stage.stack.outputs["AuditBucketName"]
    expect(stage.s3.get_bucket_versioning(Bucket=records).get("Status") == "Enabled", "records keep their versions")
    expect_private(stage, bucket)
    expect_private(stage, records)
    alarms = stage.stack.client("cloudwatch").describe_alarms()["MetricAlarms"]
    watched = {alarm["AlarmName"] for alarm in alarms} & set(stage.resources.values())
    expect(len(watched) == 6, f"six alarms: {watched}")
    expect(not [name for name in stage.resources if "Token" in name], "AWS identities need no tokens, nor a key to sign them")


def expect_private(stage: Stage, bucket: str) -> None:
    access = stage.s3.get_public_access_block(Bucket=bucket)["PublicAccessBlockConfiguration"]
    expect(len(access) == 4 and all(access.values()), f"{bucket} is private: {access}")


def nobody_gets_in_unsigned(stage: Stage) -> None:
    api = stage.stack.client("apigatewayv2")
    deployed = api.get_routes(ApiId=stage.resources["HttpApi"])["Items"]
    shut = [route["RouteKey"] for route in deployed if route["AuthorizationType"] == "AWS_IAM"]
    opened = [route["RouteKey"] for route in deployed if route["AuthorizationType"] != "AWS_IAM"]
    expect(len(shut) == len(SHUT), f"{len(SHUT)} routes are tried, these ask for AWS_IAM: {shut}")
    expect(set(opened) == OPEN, f"only what describes the service is open: {opened}")
    for method, path in SHUT:
        reply = stage.http.send(method, stage.base + path, ASKS)
        expect(reply.status == 403, f"unsigned {method} {path} answers 403, not {reply}")


def anybody_may_read_what_the_service_can_do(stage: Stage) -> None:
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
        expect(stage.http.send("GET", stage.base + path, {}).status == 200, f"{path} is open")
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


def a_caller_sees_the_exports_of_its_own(stage: Stage) -> None:
    reply = stage.ask("GET", stage.base + "/_operations/export")
    expect(reply.status == 200, f"the list of exports: {reply}")
    bundle = reply.json()
    expect(bundle["type"] == "searchset", f"a searchset: {bundle}")
    ids = [entry["resource"]["id"] for entry in bundle.get("entry", [])]
    expect(job_id(stage.finished) in ids, f"the finished export is listed: {ids}")


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
    stage.lost_message = message["Body"]
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


def a_deidentified_export_joins_and_tells_nobody(stage: Stage) -> None:
    """By a configuration in the destination; the worker opens the job's secret with a key of KMS."""
    samples = Path(__file__).resolve().parents[2] / "tests/samples/anonymization"
    configuration = (samples / "study.json").read_bytes()
    bucket, key = stage.stack.outputs["DestinationBucketName"], f"{DESTINATION_PREFIX}anonymization/study.json"
    stage.s3.put_object(Bucket=bucket, Key=key, Body=b'{"fhirPathRules":[{"path":"Patient.nobody(","method":"redact"}]}')
    path = "/$export?_container=study&_anonymizationConfig=study.json"
    refused = stage.ask("GET", stage.base + path, ASKS)
    expect(refused.status == 400 and "rule 1" in expect_outcome(refused), f"a faulty rule is told at kick-off: {refused}")
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
    survivors = sorted(name for name in ids if name.encode() in written)
    expect(not survivors, f"no id of the lake is left: {survivors[:3]}")
    patients = {f"Patient/{resource['id']}" for resource in after if resource["resourceType"] == "Patient"}
    joined = sum(resource.get("subject", {}).get("reference") in patients for resource in after)
    expect(joined > 0, "references lead to the patients under their new ids")
    job = stage.stack.client("dynamodb").get_item(
        TableName=stage.stack.outputs["JobTableName"], Key={"pk": {"S": f"JOB#{job_id(status)}"}, "sk": {"S": "JOB"}})["Item"]
    expect("secret" not in job, "the secret is gone with the end of the job")


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
        reply = stage.poll(status_url, RECOVERY_SECONDS)
        expect(500 <= reply.status <= 599, f"the job fails visibly, not {reply}")
        text = expect_outcome(reply)
        expect(key.removeprefix(LAKE_PREFIX) in text, f"the outcome names {key}: {text}")
        # ... and the operator finds the parked task.
        expect_dead(stage, job_id(status_url))
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
        "awsRegion": REGION}]}
    reply = stage.stack.client("lambda").invoke(
        FunctionName=stage.resources["ChunkWorkerFunction"], Payload=json.dumps(event))
    answer = json.loads(reply["Payload"].read() or b"null")
    expect("FunctionError" not in reply, f"the worker fails: {answer}")
    expect(not (answer or {}).get("batchItemFailures"), f"the worker refuses the message: {answer}")


def a_message_nobody_can_read_is_put_aside(stage: Stage) -> None:
    stage.sqs.send_message(QueueUrl=stage.stack.outputs["TaskQueueUrl"], MessageBody=GARBAGE)
    expect_dead(stage, GARBAGE)


def a_message_delivered_five_times_in_vain_is_put_aside(stage: Stage) -> None:
    """By SQS itself, since the worker cannot even start. For this test the queue's 90 minutes become a second."""
    worker, functions = stage.resources["ChunkWorkerFunction"], stage.stack.client("lambda")
    settings = functions.get_function_configuration(FunctionName=worker)["Environment"]["Variables"]
    queue = stage.stack.outputs["TaskQueueUrl"]
    stage.sqs.set_queue_attributes(QueueUrl=queue, Attributes={"VisibilityTimeout": "1"})
    functions.update_function_configuration(FunctionName=worker, Environment={"Variables": {**settings, "HEADRACE_TABLE": ""}})
    try:
        stage.sqs.send_message(QueueUrl=queue, MessageBody=stage.lost_message)
        expect_dead(stage, stage.lost_message)
    finally:
        functions.update_function_configuration(FunctionName=worker, Environment={"Variables": settings})
        stage.sqs.set_queue_attributes(QueueUrl=queue, Attributes={"VisibilityTimeout": "5400"})


def expect_dead(stage: Stage, words: str) -> None:
    """The dead letter queue gets one message, which holds these words; it is taken out."""
    dead = stage.stack.outputs["DeadLetterQueueUrl"]
    message = stage.receive(dead, seconds=60)
    expect(words in message["Body"], f"'{words}', not: {message['Body']}")
    stage.sqs.delete_message(QueueUrl=dead, ReceiptHandle=message["ReceiptHandle"])
    more = stage.sqs.receive_message(QueueUrl=dead).get("Messages", [])
    expect(not more, f"nothing else is dead: {more}")


def exports_go_on_beside_it(stage: Stage) -> None:
    expect_export(stage, stage.poll(stage.kick_off()))


def the_reaper_finds_the_lost_job(stage: Stage) -> None:
    """On its schedule, not called by us."""
    started = time.monotonic()
    expect_export(stage, stage.poll(stage.lost, RECOVERY_SECONDS))
    print(f"     after another {time.monotonic() - started:.0f} s of waiting", flush=True)


def what_was_done_is_sealed_for_auditors(stage: Stage) -> None:
    for deed in ("kick-off", "complete", "hand-out", "cancel"):
        expect_record(stage, deed, "done", "--job", job_id(stage.finished))
    expect_sound_records(stage)


def the_policies_suffice_and_the_logs_keep_silent(stage: Stage) -> None:
    logs = stage.stack.logs()
    expect(bool(logs), "the functions have logged")
    for word in ("AccessDenied", "not authorized to perform"):
        expect_absent(logs, word)
    # No download URL, no signature, and no patient: the first line of the lake stands for all.
    line = next(iter(stage.lines)).decode()
    for secret in ("X-Amz-Signature", "X-Amz-Credential", line, line[:200]):
        expect_absent(logs, secret)


def the_users_own_bucket_key_and_domain(stage: Stage) -> None:
    """A second stack, with every choice of the template taken the other way."""
    stage.s3.create_bucket(Bucket="their-own")
    keys = [stage.stack.client("kms").create_key()["KeyMetadata"]["Arn"] for _ in range(2)]
    topic = stage.stack.client("sns").create_topic(Name="alarms")["TopicArn"]
    base = "https://fhir.example.org/bulk"
    stack = Deployment(stage.cloud, stage.packaged, "headrace-own", {
        "SourceBucketName": LAKE_BUCKET, "SourcePrefix": LAKE_PREFIX, "SourceKmsKeyArn": keys[0], "AccessMode": "iam",
        "DestinationBucketName": "their-own", "KmsKeyArn": keys[1], "BaseUrl": base, "AlarmTopicArn": topic})
    expect(not [name for name in stack.resources if name.startswith("DestinationBucket")], "no bucket of ours")
    expect(stack.outputs["BaseUrl"] == base, f"BaseUrl: {stack.outputs['BaseUrl']}")
    root = Credentials("test", "test")
    reply = stage.http.send("GET", stack.endpoint + "/$export", ASKS, root)
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
    expect("Contents" in stage.s3.list_objects_v2(Bucket="their-own"), "the files are in their bucket")


TESTS: list[Callable[[Stage], None]] = [
    the_whole_template_is_deployed,
    nobody_gets_in_unsigned,
    anybody_may_read_what_the_service_can_do,
    nobody_gets_in_with_the_wrong_signature_or_without_a_policy,
    a_wrong_request_is_told_so,
    a_client_finds_the_group_to_export,
    a_job_whose_announcement_is_lost,
    an_export_has_every_line_once,
    a_caller_sees_the_exports_of_its_own,
    a_deidentified_export_joins_and_tells_nobody,
    head_tells_where_a_file_is,
    a_finished_export_is_deleted,
    a_running_export_is_cancelled,
    a_snapshot_that_cannot_be_kept_fails_the_job,
    a_message_nobody_can_read_is_put_aside,
    a_message_delivered_five_times_in_vain_is_put_aside,
    exports_go_on_beside_it,
    the_users_own_bucket_key_and_domain,
    the_reaper_finds_the_lost_job,
    what_was_done_is_sealed_for_auditors,
    the_policies_suffice_and_the_logs_keep_silent,
]


def main() -> int:
    parser = argparse.ArgumentParser(description="Deploys template.yaml to MiniStack and exports a lake through it.")
    parser.add_argument("--binaries", type=Path, required=True, help="folder with the functions' binaries, such as target/debug")
    parser.add_argument("--lake", type=Path, required=True, help="folder of NDJSON files, one version of each resource")
    parser.add_argument("--keep-log", type=Path, help="where to leave MiniStack's log")
    choices = parser.parse_args()
    with MiniStack() as cloud:
        try:
            print(f"MiniStack at {cloud.url}; sam deploy ...", flush=True)
            stage = Stage(cloud, choices.binaries.resolve(), choices.lake.resolve())
            print(f"AccessMode iam: {stage.base}", flush=True)
            failed = run(TESTS, stage)
            with Smart(stage) as smart:
                print(f"AccessMode smart: {smart.base}", flush=True)
                failed += run(SMART_TESTS, smart)
            if failed:
                print(f"the end of MiniStack's log:\n{cloud.last_lines(60)}", flush=True)
        finally:
            if choices.keep_log:
                choices.keep_log.write_bytes(cloud.log.read_bytes())
    print(f"{len(TESTS) + len(SMART_TESTS) - failed} passed, {failed} failed")
    return 1 if failed else 0


def run(tests: list[Callable[[Place], None]], place: Place) -> int:
    """How many of them fail."""
    failed = 0
    for test in tests:
        name = test.__name__.replace("_", " ")
        try:
            test(place)
            print(f"ok   {name}", flush=True)
        except Exception:  # one broken test must not hide what the others would say
            failed += 1
            print(f"FAIL {name}\n{traceback.format_exc()}", flush=True)
    return failed


if __name__ == "__main__":
    sys.exit(main())
