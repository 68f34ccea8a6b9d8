//! Sorts SDK errors by the one question that matters: can the call have happened?

use std::error::Error;

use aws_smithy_runtime_api::client::orchestrator::HttpResponse;
use aws_smithy_runtime_api::client::result::SdkError;
use aws_smithy_types::error::metadata::ProvideErrorMetadata;
use headrace_core::vocab::error::StoreError;

/// One called service and the setting that says where it is.
#[derive(Clone, Debug)]
pub(crate) struct Called {
    /// For the log: "the job table".
    pub(crate) what: &'static str,
    /// For the client: which setting to look at.
    pub(crate) setting: &'static str,
    /// What the setting says.
    pub(crate) value: String,
    /// The name of the key under which is written, where it is the job's own.
    pub(crate) key: Option<String>,
}

/// What a service's answer means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sorted {
    NotApplied,
    Unknown,
    Stale,
    Absent,
    Denied,
    KeyUnusable,
    Unusable,
}

/// Sorts by error code, then by HTTP status.
pub(crate) fn sort_code(code: &str, status: u16) -> Sorted {
    match code {
        "ConditionalCheckFailedException" | "PreconditionFailed" => Sorted::Stale,
        "ResourceNotFoundException"
        | "NotFoundException"
        | "NoSuchBucket"
        | "AWS.SimpleQueueService.NonExistentQueue"
        | "QueueDoesNotExist" => Sorted::Absent,
        "AccessDenied"
        | "AccessDeniedException"
        | "AllAccessDisabled"
        | "KMSAccessDeniedException"
        | "KmsAccessDenied"
        | "UnrecognizedClientException"
        | "InvalidAccessKeyId"
        | "SignatureDoesNotMatch" => Sorted::Denied,
        "KMS.DisabledException" | "KMS.InvalidKeyUsageException" | "KMS.KMSInvalidStateException" | "KMS.NotFoundException" => {
            Sorted::KeyUnusable
        }
        // KMS itself: above, other services speak of it.
        "DisabledException" | "InvalidKeyUsageException" | "KMSInvalidStateException" | "UnsupportedOperationException" => Sorted::Unusable,
        "ProvisionedThroughputExceededException"
        | "ThrottlingException"
        | "RequestLimitExceeded"
        | "SlowDown"
        | "TransactionConflictException"
        | "TransactionInProgressException"
        | "RequestThrottled" => Sorted::NotApplied,
        _ => match status {
            403 => Sorted::Denied,
            400..=499 => Sorted::NotApplied,
            _ => Sorted::Unknown,
        },
    }
}

impl Called {
    pub(crate) fn new(what: &'static str, setting: &'static str, value: impl Into<String>) -> Self {
        Self { what, setting, value: value.into(), key: None }
    }

    /// As the error that core knows.
    pub(crate) fn store_error<E>(&self, error: SdkError<E, HttpResponse>) -> StoreError
    where
        E: ProvideErrorMetadata + Error + Send + Sync + 'static,
    {
        let what = self.what;
        match self.sort(&error) {
            Sorted::NotApplied => StoreError::NotApplied { what, cause: error.into() },
            Sorted::Unknown => StoreError::Unknown { what, cause: error.into() },
            Sorted::Stale => StoreError::Stale,
            Sorted::Absent => StoreError::Misconfigured { remedy: self.absent(), cause: error.into() },
            Sorted::Denied => StoreError::Misconfigured { remedy: self.denied(), cause: error.into() },
            Sorted::KeyUnusable => StoreError::Misconfigured { remedy: self.key_unusable(), cause: error.into() },
            Sorted::Unusable => StoreError::Misconfigured { remedy: self.unusable(), cause: error.into() },
        }
    }

    pub(crate) fn sort<E: ProvideErrorMetadata>(&self, error: &SdkError<E, HttpResponse>) -> Sorted {
        match error {
            SdkError::ConstructionFailure(_) => Sorted::NotApplied,
            SdkError::ServiceError(service) => sort_code(service.err().code().unwrap_or_default(), service.raw().status().as_u16()),
            SdkError::DispatchFailure(failure) if failure.is_user() => Sorted::NotApplied,
            // Whatever a later SDK adds has an unknown end, too.
            SdkError::TimeoutError(_) | SdkError::DispatchFailure(_) | SdkError::ResponseError(_) | _ => Sorted::Unknown,
        }
    }

    pub(crate) fn absent(&self) -> String {
        format!("{} says `{}`, and there is no such thing; correct the setting or create it", self.setting, self.value)
    }

    pub(crate) fn elsewhere(&self) -> String {
        format!("{} says `{}`, and that lies in another region; name a bucket in the region of this service", self.setting, self.value)
    }

    pub(crate) fn denied(&self) -> String {
        let (setting, value) = (self.setting, &self.value);
        match &self.key {
            None => format!("{setting} says `{value}`, and this service has no permission for it; extend the policy of its role"),
            // S3 gives both the same name.
            Some(key) => format!(
                "{setting} says `{value}`, and this service has no permission for it or for the key `{key}` of HEADRACE_JOB_KEYS; \
                 extend the policies of its role and of the key"
            ),
        }
    }

    pub(crate) fn unusable(&self) -> String {
        format!("{} says `{}`, and that is disabled or of another kind; enable it or name another", self.setting, self.value)
    }

    pub(crate) fn key_unusable(&self) -> String {
        match &self.key {
            None => format!(
                "{} says `{}`, and the key that encrypts it cannot be used; see that it exists and is enabled",
                self.setting, self.value
            ),
            Some(key) => {
                format!(
                    "HEADRACE_JOB_KEYS offers the key `{key}`, and it cannot be used; see that it exists, is symmetric and enabled, or offer it no longer"
                )
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_answers_whether_it_can_have_happened() {
        for (code, status, sorted) in [
            ("ConditionalCheckFailedException", 400, Sorted::Stale),
            ("ProvisionedThroughputExceededException", 400, Sorted::NotApplied),
            ("ThrottlingException", 400, Sorted::NotApplied),
            ("ResourceNotFoundException", 400, Sorted::Absent),
            ("AccessDeniedException", 400, Sorted::Denied),
            ("InternalServerError", 500, Sorted::Unknown),
            ("ValidationException", 400, Sorted::NotApplied),
            ("PreconditionFailed", 412, Sorted::Stale),
            ("ConditionalRequestConflict", 409, Sorted::NotApplied),
            ("NoSuchBucket", 404, Sorted::Absent),
            ("AccessDenied", 403, Sorted::Denied),
            ("SlowDown", 503, Sorted::NotApplied),
            ("InternalError", 500, Sorted::Unknown),
            ("", 403, Sorted::Denied),
            ("", 503, Sorted::Unknown),
            ("AWS.SimpleQueueService.NonExistentQueue", 400, Sorted::Absent),
            ("RequestThrottled", 400, Sorted::NotApplied),
            ("KMS.NotFoundException", 400, Sorted::KeyUnusable),
            ("KMS.DisabledException", 400, Sorted::KeyUnusable),
            ("KMS.KMSInvalidStateException", 400, Sorted::KeyUnusable),
            ("KMS.InvalidKeyUsageException", 400, Sorted::KeyUnusable),
            ("DisabledException", 400, Sorted::Unusable),
            ("KMSInvalidStateException", 400, Sorted::Unusable),
            ("InvalidKeyUsageException", 400, Sorted::Unusable),
            ("UnsupportedOperationException", 400, Sorted::Unusable),
            ("NotFoundException", 400, Sorted::Absent),
            ("KMSInternalException", 500, Sorted::Unknown),
            ("DependencyTimeoutException", 503, Sorted::Unknown),
        ] {
            assert_eq!(sort_code(code, status), sorted, "{code} {status}");
        }
    }
}
