"""`sam deploy` of the repository's template with prebuilt binaries.

`sam build` would compile for Lambda. Here the binaries of an ordinary `cargo build` are put where `sam build` puts its own:
one folder per function beside a template whose CodeUri names it. The real `sam deploy` does the rest.
"""

import io
import stat
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import boto3
from samcli.yamlhelper import yaml_dump, yaml_parse

from emulator import REGION, MiniStack, architecture

ARTIFACTS = "headrace-artifacts"


class Deployment:
    """A deployed stack: AWS clients as the root user of the account, outputs and resources."""

    def __init__(self, cloud: MiniStack, packaged: Path, stack: str, parameters: dict[str, str]) -> None:
        self.cloud, self.stack = cloud, stack
        self.deploy(packaged, {"Architecture": architecture(), **parameters})
        described = self.client("cloudformation").describe_stacks(StackName=stack)["Stacks"][0]
        self.status = described["StackStatus"]
        self.outputs = {output["OutputKey"]: output["OutputValue"] for output in described.get("Outputs", [])}
        self.resources = self.find_resources()
        # The API's own address, also if BaseUrl is set.
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
        """Returns the physical ids by logical id."""
        pages = self.client("cloudformation").get_paginator("list_stack_resources").paginate(StackName=self.stack)
        return {
            resource["LogicalResourceId"]: resource.get("PhysicalResourceId", "")
            for page in pages for resource in page["StackResourceSummaries"]}

    def logs(self, which: str = "") -> str:
        """Returns the log lines of all functions and of the API, or of one function."""
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
    """Creates the layout of `sam build`: `<Function>/bootstrap` and a template that points there."""
    root_client(cloud, "s3").create_bucket(Bucket=ARTIFACTS)
    folder = cloud.folder / "build"
    document = yaml_parse(template.read_text())
    for name, resource in document["Resources"].items():
        if resource["Type"] != "AWS::Serverless::Function":
            continue
        source = binaries / resource["Metadata"]["BuildProperties"]["Binary"]
        bootstrap = folder / name / "bootstrap"
        bootstrap.parent.mkdir(parents=True)
        pack(source, bootstrap)
        resource["Properties"]["CodeUri"] = name
    work_around_gaps(document)
    packaged = folder / "template.yaml"
    packaged.write_text(yaml_dump(document))
    return packaged


def pack(source: Path, bootstrap: Path) -> None:
    """Copies a binary without its symbols, like a release build: zipping and uploading them would take longer than the tests."""
    subprocess.run(["strip", "-o", bootstrap, source], check=True)
    bootstrap.chmod(bootstrap.stat().st_mode | stat.S_IXUSR | stat.S_IXGRP | stat.S_IXOTH)


def zipped(source: Path, folder: Path) -> bytes:
    """Returns the code package of a binary."""
    bootstrap = folder / "bootstrap"
    pack(source, bootstrap)
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as package:
        package.write(bootstrap, "bootstrap")
    return content.getvalue()


def work_around_gaps(document: dict) -> None:
    """Changes what MiniStack 1.5.33 rejects or handles wrongly. The rest of the template is deployed unchanged.

    It silently ignores the following, so only `sam validate --lint` checks them: a bucket's
    LifecycleConfiguration and BucketEncryption; a table's time to live, point-in-time recovery and encryption; an API's
    access log, throttling and DisableExecuteApiEndpoint; a function's RecursiveLoop, tracing and reserved concurrency; the partitions of a table that a role may access
    (dynamodb:LeadingKeys); and the permission of DynamoDB and S3 to use a KMS key. Keys that a function itself calls are checked.
    """
    # Its conditions do not evaluate Fn::Split. The tests name the event bus without an ARN.
    document["Conditions"]["EventBusIsArn"] = {"Fn::Equals": ["name", "arn"]}
    for resource in document["Resources"].values():
        properties = resource.get("Properties", {})
        # "Properties.Metrics (metric math) is not supported": such an alarm is deployed with its first metric only.
        if resource["Type"] == "AWS::CloudWatch::Alarm" and "Metrics" in properties:
            first = properties.pop("Metrics")[0]["MetricStat"]
            properties.update(first["Metric"], Statistic=first["Stat"], Period=first["Period"])
        # It requires sqs:SendMessageBatch, an action that AWS does not have: sqs:SendMessage covers batches.
        for statement in statements(properties):
            if statement.get("Action") == "sqs:SendMessage":
                statement["Action"] = ["sqs:SendMessage", "sqs:SendMessageBatch"]
            # It does not evaluate the condition keys of KMS calls (kms:SigningAlgorithm, kms:EncryptionContext:...), so such a
            # condition would deny every call. kms:ViaService stays: it is for keys that no function calls itself.
            # Nor does it know dynamodb:LeadingKeys: ForAllValues is then true, and its guard would deny every call.
            for operator, keys in statement.get("Condition", {}).items():
                if operator == "Null":
                    keys.pop("dynamodb:LeadingKeys", None)
                for key in [key for key in keys if key.startswith("kms:") and key != "kms:ViaService"]:
                    del keys[key]
        # A number from a parameter stays text, and its poller fails to compare it with a number.
        for event in properties.get("Events", {}).values():
            scaling = event["Properties"].get("ScalingConfig", {})
            if "Ref" in scaling.get("MaximumConcurrency", {}):
                parameter = scaling["MaximumConcurrency"]["Ref"]
                scaling["MaximumConcurrency"] = document["Parameters"][parameter]["Default"]


def statements(properties: dict) -> Iterator[dict]:
    """Yields the statements of a role's policies, including conditional ones."""
    for policy in properties.get("Policies", []):
        for statement in policy["PolicyDocument"]["Statement"]:
            yield from (choice for choice in statement.get("Fn::If", [statement]) if isinstance(choice, dict))
