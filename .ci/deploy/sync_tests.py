"""A third stack, which creates its lake and keeps it in sync with a FHIR server. Its tests run between those of the first stack."""

import json
import time
from urllib.parse import urlsplit

from botocore.credentials import Credentials

from deployment import Deployment
from fhir_server import FhirServer
from signed_http import Reply
from stage import EXPORT_SECONDS, KICK_OFF_HEADERS, Stage, expect, expect_absent

TOKEN = "token-of-the-fhir-server"
# The reaper runs every minute and starts a synchronization each minute.
SYNC_SECONDS = 300
ROOT = Credentials("test", "test")


class Synchronized:
    """The stack and its server."""

    def __init__(self, stage: Stage) -> None:
        self.stage, self.server = stage, FhirServer(TOKEN)
        for number in range(40):
            self.server.put("Patient", f"p-{number}", birthDate=f"1980-01-{number % 28 + 1:02}")
            self.server.put("Observation", f"o-{number}", status="final", subject={"reference": f"Patient/p-{number}"})
        secret = stage.stack.client("secretsmanager").create_secret(Name="fhir", SecretString=json.dumps({"token": TOKEN}))
        self.stack = Deployment(stage.cloud, stage.packaged, "headrace-sync", {
            "AccessMode": "iam", "OriginUrl": self.server.base, "OriginSecretArn": secret["ARN"], "SyncSchedule": "PT1M",
            "SyncLagSeconds": "0", "LeaseSeconds": "15", "LogLevel": "debug", "WatermarkMaxAgeSeconds": "3600"})
        self.lake = self.stack.outputs["LakeBucketName"]

    def metadata(self, name: str) -> dict:
        """Returns a JSON object of the lake's folder _headrace, which is empty if there is none."""
        listed = stage_keys(self.stage, self.lake, f"_headrace/{name}")
        return json.loads(self.stage.s3.get_object(Bucket=self.lake, Key=listed[0])["Body"].read()) if listed else {}

    def wait_until_complete_after(self, moment: str) -> None:
        deadline = time.monotonic() + SYNC_SECONDS
        while not (complete := self.metadata("watermark.json").get("completeUpTo", "")) > moment:
            expect(time.monotonic() < deadline, f"complete up to '{complete}', not after {moment}; {self.metadata('sync.json')}")
            time.sleep(1)

    def export(self) -> dict[tuple[str, str], dict]:
        """Exports the lake. Returns the resources by type and id."""
        reply = self.ask("/$export", KICK_OFF_HEADERS)
        expect(reply.status == 202, f"kick-off answers 202, not {reply}")
        status = urlsplit(reply.headers["Content-Location"]).path
        deadline = time.monotonic() + EXPORT_SECONDS
        while (reply := self.ask(status)).status == 202:
            expect(time.monotonic() < deadline, "the export finishes")
            time.sleep(0.3)
        expect(reply.status == 200, f"the manifest: {reply}")
        exported = {}
        for item in reply.json()["output"]:
            redirect = self.ask(urlsplit(item["url"]).path)
            for line in self.stage.http.send("GET", redirect.headers["Location"]).body.splitlines():
                resource = json.loads(line)
                expect((resource["resourceType"], resource["id"]) not in exported, f"once: {line[:100]}")
                exported[resource["resourceType"], resource["id"]] = resource
        return exported

    def ask(self, path: str, headers: dict[str, str] | None = None) -> Reply:
        return self.stage.http.send("GET", self.stack.endpoint + path, headers or {}, ROOT)


def stage_keys(stage: Stage, bucket: str, prefix: str) -> list[str]:
    return [item["Key"] for item in stage.s3.list_objects_v2(Bucket=bucket, Prefix=prefix).get("Contents", [])]


def a_stack_creates_its_lake_and_synchronizes_it(stage: Stage) -> None:
    stage.synchronized = Synchronized(stage)
    resources, lake = stage.synchronized.stack.resources, stage.synchronized.lake
    expect(resources["LakeBucket"] == lake, f"the lake is created: {lake}")
    expect(stage.s3.get_bucket_versioning(Bucket=lake).get("Status") == "Enabled", "its objects keep their versions")
    access = stage.s3.get_public_access_block(Bucket=lake)["PublicAccessBlockConfiguration"]
    expect(len(access) == 4 and all(access.values()), f"it is private: {access}")
    expect({"SyncWorkerFunction", "SyncQueue", "SyncFailedAlarm"} <= set(resources), "what synchronizes is deployed")
    expect("SyncWorkerFunction" not in stage.resources, "and not without a FHIR server")


def an_export_equals_the_fhir_server(stage: Stage) -> None:
    synchronized: Synchronized = stage.synchronized
    server = synchronized.server
    newest = max(version[2] for version in server.versions)
    synchronized.wait_until_complete_after(newest)
    report = synchronized.metadata("sync.json")
    expect(report["isComplete"], f"everything was fetched: {report}")
    expect_equal(synchronized.export(), server.current())
    # For the next test.
    server.put("Patient", "p-1", active=True)
    server.put("Patient", "p-new", active=False)
    server.delete("Observation", "o-2")


def an_export_equals_the_fhir_server_after_a_change(stage: Stage) -> None:
    synchronized: Synchronized = stage.synchronized
    server = synchronized.server
    synchronized.wait_until_complete_after(max(version[2] for version in server.versions))
    exported = synchronized.export()
    expect(("Observation", "o-2") not in exported and exported["Patient", "p-1"]["active"], "what was changed and deleted")
    expect_equal(exported, server.current())
    # What was there before is not fetched again.
    keys = stage_keys(stage, synchronized.lake, "Patient/")
    expect(len(keys) >= 2, f"the second synchronization adds an object: {keys}")


def expect_equal(exported: dict, served: dict) -> None:
    different = [key for key in exported.keys() | served.keys() if exported.get(key) != served.get(key)]
    expect(not different, f"the same resources, not {different[:5]} of {len(served)}")


def the_credential_is_read_by_its_function_alone_and_never_logged(stage: Stage) -> None:
    synchronized: Synchronized = stage.synchronized
    expect(synchronized.server.rejected == 0, "each request has the token")
    logs = synchronized.stack.logs()
    expect("the lake was synchronized" in synchronized.stack.logs("SyncWorker"), "the end of a synchronization is logged")
    for word in (TOKEN, "AccessDenied", "not authorized to perform", "1980-01-"):
        expect_absent(logs, word)
    iam, resources = stage.stack.client("iam"), synchronized.stack.resources
    readers = set()
    for name, role in resources.items():
        if name.endswith("Role"):
            for policy in iam.list_role_policies(RoleName=role)["PolicyNames"]:
                document = json.dumps(iam.get_role_policy(RoleName=role, PolicyName=policy)["PolicyDocument"])
                readers |= {name} if "secretsmanager:GetSecretValue" in document else set()
    expect(readers == {"SyncWorkerRole"}, f"one role may read the secret: {readers}")
    synchronized.server.__exit__()
