//! The settings of a deployment, named by their environment variables. Errors name the setting that must be corrected.

use std::fmt;

/// Declares [`Setting`]: one variant per environment variable.
macro_rules! settings {
    ($($(#[$doc:meta])* $variant:ident = $name:literal,)*) => {
        /// A setting of a deployment: an environment variable of its functions.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub enum Setting {
            $($(#[$doc])* $variant,)*
        }

        impl Setting {
            /// Returns the name of the environment variable.
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$variant => $name,)*
                }
            }
        }
    };
}

settings! {
    /// The remarks about anonymization configurations that do not stop an export.
    AcceptRemarks = "HEADRACE_ACCEPT_REMARKS",
    /// The access mode: `smart`, `iam` or `external`.
    Access = "HEADRACE_ACCESS",
    /// The API's own address.
    ApiUrl = "HEADRACE_API_URL",
    /// The expected claim `aud` of an identity provider's tokens.
    Audience = "HEADRACE_AUDIENCE",
    /// The bucket of the sealed audit files.
    AuditBucket = "HEADRACE_AUDIT_BUCKET",
    /// The key prefix of the sealed audit files.
    AuditPrefix = "HEADRACE_AUDIT_PREFIX",
    /// The public FHIR base URL.
    BaseUrl = "HEADRACE_BASE_URL",
    /// The buckets that clients may have destinations in.
    ClientBuckets = "HEADRACE_CLIENT_BUCKETS",
    /// The containers that clients may name.
    Containers = "HEADRACE_CONTAINERS",
    /// The hours after which an unfinished export fails.
    DeadlineHours = "HEADRACE_DEADLINE_HOURS",
    /// The bucket of exported files.
    DestinationBucket = "HEADRACE_DESTINATION_BUCKET",
    /// The key prefix of exported files.
    DestinationPrefix = "HEADRACE_DESTINATION_PREFIX",
    /// The URL of the dead-letter queue.
    DeadLetterQueueUrl = "HEADRACE_DLQ_URL",
    /// The event bus that gets the events of all exports: its name or ARN.
    EventBusName = "HEADRACE_EVENT_BUS_NAME",
    /// The switch that makes events of the moves of exports.
    Events = "HEADRACE_EVENTS",
    /// The secret that signs events for a webhook, encrypted with the KMS key of job secrets.
    EventWebhookSecret = "HEADRACE_EVENT_WEBHOOK_SECRET",
    /// The URL that gets events by POST.
    EventWebhookUrl = "HEADRACE_EVENT_WEBHOOK_URL",
    /// The version of FHIR of the lake's resources.
    FhirVersion = "HEADRACE_FHIR_VERSION",
    /// The size, in MB, at which an exported file is closed.
    FileSizeMb = "HEADRACE_FILE_SIZE_MB",
    /// The folder layouts that `_format` may name.
    FolderLayouts = "HEADRACE_FOLDER_LAYOUTS",
    /// The function's memory in MB, set by Lambda.
    FunctionMemory = "AWS_LAMBDA_FUNCTION_MEMORY_SIZE",
    /// The function's name in AWS, set by Lambda.
    FunctionName = "AWS_LAMBDA_FUNCTION_NAME",
    /// The switch that ignores `_since` for members who joined a group after it.
    GroupNewMembers = "HEADRACE_GROUP_NEW_MEMBERS",
    /// The switch that exports resources that exported ones refer to.
    IncludeReferencedResources = "HEADRACE_INCLUDE_REFERENCED_RESOURCES",
    /// The expected claim `iss` of an identity provider's tokens.
    Issuer = "HEADRACE_ISSUER",
    /// The KMS key that encrypts the secrets of de-identified exports.
    JobSecretKmsKey = "HEADRACE_JOB_SECRET_KMS_KEY",
    /// The URL of an identity provider's key set.
    JwksUrl = "HEADRACE_JWKS_URL",
    /// The number of versions per resource in the lake: `auto`, `one` or `many`.
    LakeVersions = "HEADRACE_LAKE_VERSIONS",
    /// The moment up to which the lake is complete: `auto`, `now`, `object`, `arrival`, or a delay such as `PT15M`.
    LakeWatermark = "HEADRACE_LAKE_WATERMARK",
    /// The seconds after which a silent worker's lease ends.
    LeaseSeconds = "HEADRACE_LEASE_SECONDS",
    /// The log filter.
    Log = "HEADRACE_LOG",
    /// The maximum number of exports that run at once, of all clients together.
    MaxConcurrentExports = "HEADRACE_MAX_CONCURRENT_EXPORTS",
    /// The maximum number of exports of one client that run at once.
    MaxExportsPerClient = "HEADRACE_MAX_EXPORTS_PER_CLIENT",
    /// Other base URLs by which the FHIR server names itself in its links.
    OriginAliases = "HEADRACE_ORIGIN_ALIASES",
    /// The HealthLake data store that is the FHIR server. With it, requests are signed (Signature Version 4).
    OriginDatastore = "HEADRACE_ORIGIN_DATASTORE",
    /// The secret with the credential of the FHIR server.
    OriginSecret = "HEADRACE_ORIGIN_SECRET",
    /// The base URL of the FHIR server that the lake is filled from.
    OriginUrl = "HEADRACE_ORIGIN_URL",
    /// The KMS keys that `_encryptionKey` may name.
    OutputKmsKeys = "HEADRACE_OUTPUT_KMS_KEYS",
    /// The URL of the task queue.
    QueueUrl = "HEADRACE_QUEUE_URL",
    /// The switch that queues exports beyond the limits instead of rejecting them.
    QueueWhenFull = "HEADRACE_QUEUE_WHEN_FULL",
    /// The hours for which a finished export can be downloaded.
    RetentionHours = "HEADRACE_RETENTION_HOURS",
    /// The claim that holds an identity provider's scopes.
    ScopeClaim = "HEADRACE_SCOPE_CLAIM",
    /// The KMS key that signs access tokens.
    SigningKey = "HEADRACE_SIGNING_KEY",
    /// The base URLs of the lake's own absolute references.
    SourceBaseUrls = "HEADRACE_SOURCE_BASE_URLS",
    /// The bucket of the lake.
    SourceBucket = "HEADRACE_SOURCE_BUCKET",
    /// The key prefix of the lake.
    SourcePrefix = "HEADRACE_SOURCE_PREFIX",
    /// The largest number of workers that an export starts at once, beside those that the queue starts. 0 starts none.
    StartedWorkers = "HEADRACE_STARTED_WORKERS",
    /// The switch that does not compare what a synchronization fetches with the totals of the FHIR server.
    SyncIgnoreTotals = "HEADRACE_SYNC_IGNORE_TOTALS",
    /// The seconds before its start up to which a synchronization fetches everything.
    SyncLagSeconds = "HEADRACE_SYNC_LAG_SECONDS",
    /// The URL of the queue with the tasks of synchronizations.
    SyncQueueUrl = "HEADRACE_SYNC_QUEUE_URL",
    /// The times at which the lake is synchronized with the FHIR server.
    SyncSchedule = "HEADRACE_SYNC_SCHEDULE",
    /// The types that synchronizations fetch.
    SyncTypes = "HEADRACE_SYNC_TYPES",
    /// The job table.
    Table = "HEADRACE_TABLE",
    /// The number of attempts without progress after which a task is parked.
    TaskMaxAttempts = "HEADRACE_TASK_MAX_ATTEMPTS",
    /// The URL of an identity provider's token endpoint.
    TokenUrl = "HEADRACE_TOKEN_URL",
    /// The switch that trusts object names about resource types.
    TrustObjectNames = "HEADRACE_TRUST_OBJECT_NAMES",
    /// The seconds after which the lake's watermark is too old. 0 does not watch it.
    WatermarkMaxAgeSeconds = "HEADRACE_WATERMARK_MAX_AGE_SECONDS",
    /// The most workers that the queue runs at the same time, for estimates.
    WorkerConcurrency = "HEADRACE_WORKER_CONCURRENCY",
    /// The memory of a worker in MB, for estimates.
    WorkerMemoryMb = "HEADRACE_WORKER_MEMORY_MB",
}

impl fmt::Display for Setting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
