"""`sam deploy` of the repository's template with ready-made binaries.

`sam build` would compile for Lambda; here the binaries of an ordinary `cargo build` on this machine are put where
`sam build` leaves its own (one folder per function beside a template whose CodeUri names it), and the real `sam deploy`
takes it from there: zip, upload, change set, outputs.
"""

import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import boto3
from samcli.yamlhelper import yaml_dump, yaml_parse

from emulator import REGION, MiniStack, architecture

ARTIFACTS = "headrace-artifacts"


class Deployment:
    """One deployed stack: clients as the account's root, its outputs, its resources."""

    def __init__(self, cloud: MiniStack, packaged: Path, stack: str, parameters: dict[str, str]) -> None:
        self.cloud, self.stack = cloud, stack
        self.deploy(packaged, {"Architecture": architecture(), **parameters})
        described = self.client("cloudformation").describe_stacks(StackName=stack)["Stacks"][0]
        self.status = described["StackStatus"]
        self.outputs = {output["OutputKey"]: output["OutputValue"] for output in described.get("Outputs", [])}
        self.resources = self.find_resources()
        # Where the API answers, whatever BaseUrl says.
        self.endpoint = self.client("apigatewayv2").get_api(ApiId=self.resources["HttpApi"])["ApiEndpoint"]

    def client(self, service: str):
        return root_client(self.cloud, service)

    def deploy(self, template: Path, parameters: dict[str, str]) -> None:
        command = [
            Path(sys.executable).parent / "sam", "deploy", "--template-file", template, "--stack-name", self.stack,
            "--s3-bucket", ARTIFACTS, "--region", REGION, "--capabilities", "CAPABILITY_IAM",
            "--no-confirm-changeset", "--no-progressbar", "--parameter-overrides",
            *(f"ParameterKey={name},ParameterValue={value}" for name, value in parameters.items()),
        ]
        result = subprocess.run(
            command, cwd=self.cloud.folder, capture_output=True, text=True, timeout=300,
            env={**self.cloud.env, "SAM_CLI_TELEMETRY": "0", "SAM_CLI_POLL_DELAY": "1"})
        if result.returncode != 0:
            raise RuntimeError(
                f"sam deploy failed\n{result.stdout[-6000:]}\n{result.stderr[-3000:]}\n{self.cloud.last_lines(20)}")

    def find_resources(self) -> dict[str, str]:
        """Logical id to physical id."""
        pages = self.client("cloudformation").get_paginator("list_stack_resources").paginate(StackName=self.stack)
        return {
            resource["LogicalResourceId"]: resource.get("PhysicalResourceId", "")
            for page in pages for resource in page["StackResourceSummaries"]}

    def logs(self, which: str = "") -> str:
        """All that the functions and the access log have written, or one of them."""
        client = self.client("logs")
        groups = [name for logical, name in self.resources.items() if logical.endswith(f"{which}Log")]
        events = (
            event["message"]
            for group in groups
            for page in client.get_paginator("filter_log_events").paginate(logGroupName=group)
            for event in page["events"])
        return "\n".join(events)


def root_client(cloud: MiniStack, service: str):
    return boto3.client(service, aws_access_key_id="test", aws_secret_access_key="test", region_name=REGION,
                        endpoint_url=cloud.url, verify=str(cloud.certificate))


def lay_out(cloud: MiniStack, template: Path, binaries: Path) -> Path:
    """Lays out what `sam build` would: `<Function>/bootstrap` and a template that points there."""
    root_client(cloud, "s3").create_bucket(Bucket=ARTIFACTS)
    folder = cloud.folder / "build"
    document = yaml_parse(template.read_text())
    for name, resource in document["Resources"].items():
        if resource["Type"] != "AWS::Serverless::Function":
            continue
        source = binaries / resource["Metadata"]["BuildProperties"]["Binary"]
        bootstrap = folder / name / "bootstrap"
        bootstrap.parent.mkdir(parents=True)
        # Without symbols, as a release build is: zipping and uploading them would take longer than the tests.
        subprocess.run(["strip", "-o", bootstrap, source], check=True)
        bootstrap.chmod(bootstrap.stat().st_mode | stat.S_IXUSR | stat.S_IXGRP | stat.S_IXOTH)
        resource["Properties"]["CodeUri"] = name
    work_around_gaps(document)
    packaged = folder / "template.yaml"
    packaged.write_text(yaml_dump(document))
    return packaged


def work_around_gaps(document: dict) -> None:
    """Changes what MiniStack 1.5.33 refuses or trips over; the rest of the template is deployed as it is written.

    What it takes without a word and leaves out, so that only `sam validate --lint` has looked at it: a bucket's
    LifecycleConfiguration and BucketEncryption; a table's time to live, point-in-time recovery and encryption; an API's
    access log and throttling; a function's RecursiveLoop; which partitions of a table a role may reach
    (dynamodb:LeadingKeys); and whether DynamoDB and S3 may use a KMS key. A key that a function itself calls is protected.
    """
    for resource in document["Resources"].values():
        properties = resource.get("Properties", {})
        # "Properties.Metrics (metric math) is not supported": such an alarm is deployed on its first metric alone.
        if resource["Type"] == "AWS::CloudWatch::Alarm" and "Metrics" in properties:
            first = properties.pop("Metrics")[0]["MetricStat"]
            properties.update(first["Metric"], Statistic=first["Stat"], Period=first["Period"])
        # It asks for sqs:SendMessageBatch, an action that AWS does not have: there sqs:SendMessage covers the batch.
        for statement in statements(properties):
            if statement.get("Action") == "sqs:SendMessage":
                statement["Action"] = ["sqs:SendMessage", "sqs:SendMessageBatch"]
            # It does not tell a policy what a call of KMS is about (kms:SigningAlgorithm, kms:EncryptionContext:...), so such
            # a condition would refuse every call. kms:ViaService stays: it is for keys that no function calls itself.
            for keys in statement.get("Condition", {}).values():
                for key in [key for key in keys if key.startswith("kms:") and key != "kms:ViaService"]:
                    del keys[key]
        # A number that comes from a parameter stays text, and its poller then fails to compare it with one.
        for event in properties.get("Events", {}).values():
            scaling = event["Properties"].get("ScalingConfig", {})
            if "Ref" in scaling.get("MaximumConcurrency", {}):
                parameter = scaling["MaximumConcurrency"]["Ref"]
                scaling["MaximumConcurrency"] = document["Parameters"][parameter]["Default"]


def statements(properties: dict) -> Iterator[dict]:
    """The statements of a role's policies, those under a condition of the template too."""
    for policy in properties.get("Policies", []):
        for statement in policy["PolicyDocument"]["Statement"]:
            yield from (choice for choice in statement.get("Fn::If", [statement]) if isinstance(choice, dict))
