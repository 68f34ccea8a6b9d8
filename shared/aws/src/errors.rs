//! Classification of SDK errors. The main question is whether the call may have been applied.

use std::error::Error;

use aws_smithy_runtime_api::client::orchestrator::HttpResponse;
use aws_smithy_runtime_api::client::result::SdkError;
use aws_smithy_types::error::metadata::ProvideErrorMetadata;
use headrace_core::vocab::error::StoreError;
use headrace_core::vocab::setting::Setting;

/// A resource of an AWS service, and the setting that names it.
#[derive(Clone, Debug)]
pub(crate) struct Service {
    /// The name of the resource in errors, such as "the job table".
    pub(crate) store: &'static str,
    /// The setting, or another place, that names the resource. Shown to clients.
    pub(crate) setting: &'static str,
    /// The value of the setting.
    pub(crate) value: String,
    /// The name of the job's own encryption key, if it has one.
    pub(crate) encryption_key: Option<String>,
}

/// The meaning of a service's error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ErrorClass {
    /// The call was not applied. It may succeed later.
    NotApplied,
    /// The call was not applied, because the service gets too many calls, or because of another call to the same item or object.
    Overloaded,
    /// The call may have been applied.
    Unknown,
    /// A condition of the call did not hold.
    Stale,
    /// The resource does not exist.
    NotFound,
    /// A permission is missing.
    AccessDenied,
    /// The key that encrypts the resource cannot be used.
    KeyUnusable,
    /// The resource, a KMS key, cannot be used.
    Unusable,
    /// The bucket is in another region.
    WrongRegion,
    /// The job table of one machine has no space left.
    OutOfSpace,
    /// The job table of one machine cannot be written.
    StoreUnusable,
    /// The object is in an archive.
    Archived,
}

impl ErrorClass {
    /// Returns the class of a known AWS error code. Classifies other codes by the HTTP status.
    fn from_code(code: &str, status: u16) -> Self {
        match code {
            "ConditionalCheckFailedException" | "PreconditionFailed" => Self::Stale,
            "ResourceNotFoundException"
            | "NotFoundException"
            | "NoSuchBucket"
            | "InvalidBucketName"
            | "AWS.SimpleQueueService.NonExistentQueue"
            | "QueueDoesNotExist" => Self::NotFound,
            "AccessDenied"
            | "AccessDeniedException"
            | "AllAccessDisabled"
            | "KMSAccessDeniedException"
            | "KmsAccessDenied"
            | "UnrecognizedClientException"
            | "InvalidAccessKeyId"
            | "SignatureDoesNotMatch"
            | "NotSignedUp"
            | "OptInRequired"
            | "AccountProblem" => Self::AccessDenied,
            // Not a missing permission, although some of them have the status 403: the clock, or credentials that are being renewed.
            "RequestTimeTooSkewed"
            | "InvalidSignatureException"
            | "RequestInTheFuture"
            | "RequestExpired"
            | "ExpiredToken"
            | "ExpiredTokenException" => Self::NotApplied,
            "InvalidObjectState" => Self::Archived,
            // S3 and SQS report errors of KMS with this prefix, KMS itself without it.
            "KMS.DisabledException"
            | "KMS.InvalidKeyUsageException"
            | "KMS.KMSInvalidStateException"
            | "KMS.NotFoundException"
            // Of Secrets Manager.
            | "DecryptionFailure" => Self::KeyUnusable,
            "DisabledException" | "InvalidKeyUsageException" | "KMSInvalidStateException" | "UnsupportedOperationException" => {
                Self::Unusable
            }
            "PermanentRedirect" | "AuthorizationHeaderMalformed" | "IllegalLocationConstraintException" => Self::WrongRegion,
            // Codes of the job table of one machine. Their messages are made by this service.
            "OutOfSpace" => Self::OutOfSpace,
            "StoreUnusable" => Self::StoreUnusable,
            "ProvisionedThroughputExceededException"
            | "ThrottlingException"
            | "Throttling"
            | "RequestLimitExceeded"
            | "LimitExceededException"
            | "SlowDown"
            | "TransactionConflictException"
            | "ReplicatedWriteConflictException"
            | "ConditionalRequestConflict"
            | "OperationAborted"
            | "RequestThrottled"
            | "OverLimit"
            | "KMS.ThrottlingException"
            | "KmsThrottled" => Self::Overloaded,
            // An earlier call with the same token is still being applied.
            "TransactionInProgressException" => Self::Unknown,
            _ => match status {
                // Responses to HEAD have no code.
                301 => Self::WrongRegion,
                403 => Self::AccessDenied,
                429 => Self::Overloaded,
                400..=499 => Self::NotApplied,
                _ => Self::Unknown,
            },
        }
    }
}

impl Service {
    /// Describes the AWS resource whose name is `value` and is set by `setting`, for error texts.
    pub(crate) fn new(store: &'static str, setting: &'static str, value: impl Into<String>) -> Self {
        Self { store, setting, value: value.into(), encryption_key: None }
    }

    /// Converts an SDK error to a store error. An error of the configuration names the setting to correct.
    pub(crate) fn store_error<E>(&self, error: SdkError<E, HttpResponse>) -> StoreError
    where
        E: ProvideErrorMetadata + Error + Send + Sync + 'static,
    {
        let store = self.store;
        match self.classify(&error) {
            // A store never archives its objects. Another process must have done that.
            ErrorClass::NotApplied | ErrorClass::Archived => StoreError::NotApplied { store, cause: error.into() },
            ErrorClass::Overloaded => StoreError::Overloaded { store, cause: error.into() },
            ErrorClass::Unknown => StoreError::Unknown { store, cause: error.into() },
            ErrorClass::Stale => StoreError::Stale,
            ErrorClass::NotFound => StoreError::Misconfigured { remedy: self.not_found(), cause: error.into() },
            ErrorClass::AccessDenied => StoreError::Misconfigured { remedy: self.access_denied(), cause: error.into() },
            ErrorClass::KeyUnusable => StoreError::Misconfigured { remedy: self.key_unusable(), cause: error.into() },
            ErrorClass::Unusable => StoreError::Misconfigured { remedy: self.unusable(), cause: error.into() },
            ErrorClass::WrongRegion => StoreError::Misconfigured { remedy: self.in_another_region(), cause: error.into() },
            ErrorClass::OutOfSpace => StoreError::OutOfSpace { place: error.message().unwrap_or(store).to_owned(), cause: error.into() },
            ErrorClass::StoreUnusable => {
                StoreError::Misconfigured { remedy: error.message().unwrap_or(store).to_owned(), cause: error.into() }
            }
        }
    }

    /// Converts an error code that came in a response with status 200, for one of several objects, to a store error.
    #[cfg(any(feature = "s3", feature = "events"))]
    pub(crate) fn store_error_from_code(&self, code: &str, cause: headrace_core::vocab::error::BoxError) -> StoreError {
        let store = self.store;
        let misconfigured = |remedy, cause| StoreError::Misconfigured { remedy, cause };
        // Nothing is known of the status. Codes that are not known are tried again.
        match ErrorClass::from_code(code, 400) {
            ErrorClass::NotFound => misconfigured(self.not_found(), cause),
            ErrorClass::AccessDenied => misconfigured(self.access_denied(), cause),
            ErrorClass::KeyUnusable => misconfigured(self.key_unusable(), cause),
            ErrorClass::Unusable => misconfigured(self.unusable(), cause),
            ErrorClass::WrongRegion => misconfigured(self.in_another_region(), cause),
            ErrorClass::Overloaded => StoreError::Overloaded { store, cause },
            ErrorClass::NotApplied
            | ErrorClass::Unknown
            | ErrorClass::Stale
            | ErrorClass::Archived
            | ErrorClass::OutOfSpace
            | ErrorClass::StoreUnusable => StoreError::NotApplied { store, cause },
        }
    }

    /// Returns the class of an SDK error, which determines how it is handled.
    pub(crate) fn classify<E: ProvideErrorMetadata>(&self, error: &SdkError<E, HttpResponse>) -> ErrorClass {
        match error {
            SdkError::ConstructionFailure(_) => ErrorClass::NotApplied,
            SdkError::ServiceError(service) => {
                ErrorClass::from_code(service.err().code().unwrap_or_default(), service.raw().status().as_u16())
            }
            SdkError::DispatchFailure(failure) if failure.is_user() => ErrorClass::NotApplied,
            // The wildcard is for variants that a later SDK adds: their outcome is unknown, too.
            SdkError::TimeoutError(_) | SdkError::DispatchFailure(_) | SdkError::ResponseError(_) | _ => ErrorClass::Unknown,
        }
    }

    /// Returns the remedy for a resource that does not exist.
    pub(crate) fn not_found(&self) -> String {
        format!("{} is `{}`, which does not exist; correct the setting or create it", self.setting, self.value)
    }

    /// Returns the remedy for a bucket in another region.
    pub(crate) fn in_another_region(&self) -> String {
        format!("{} is `{}`, which lies in another region; name a bucket in the region of this service", self.setting, self.value)
    }

    /// Returns the remedy for a bucket with Requester Pays.
    #[cfg(feature = "s3")]
    pub(crate) fn requesters_pay(&self) -> String {
        format!(
            "{} is `{}`, a bucket with Requester Pays, and this service does not accept costs of others; ask its owner to switch that off, or copy \
             the objects to a bucket of your own",
            self.setting, self.value
        )
    }

    /// Returns the remedy for a missing permission.
    pub(crate) fn access_denied(&self) -> String {
        let (setting, value) = (self.setting, &self.value);
        match &self.encryption_key {
            None => format!("{setting} is `{value}`, and this service has no permission for it; extend the policy of its role"),
            // S3 returns the same error code for the bucket and for the key.
            Some(key) => format!(
                "{setting} is `{value}`, and this service has no permission for it or for the key `{key}` of {}; \
                 extend the policies of its role and of the key",
                Setting::OutputKmsKeys.as_str()
            ),
        }
    }

    /// Returns the remedy for a KMS key that is disabled or of another kind.
    pub(crate) fn unusable(&self) -> String {
        format!("{} is `{}`, which is disabled or of another kind; enable it or name another", self.setting, self.value)
    }

    /// Returns the remedy for an encryption key that cannot be used.
    pub(crate) fn key_unusable(&self) -> String {
        match &self.encryption_key {
            None => format!(
                "{} is `{}`, and the key that encrypts it cannot be used; check that the key exists and is enabled",
                self.setting, self.value
            ),
            Some(key) => format!(
                "the key `{key}` of {} cannot be used; check that it exists, is symmetric and enabled, or remove it from the setting",
                Setting::OutputKmsKeys.as_str()
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn error_codes_show_whether_the_call_may_have_been_applied() {
        for (code, status, class) in [
            ("ConditionalCheckFailedException", 400, ErrorClass::Stale),
            ("ProvisionedThroughputExceededException", 400, ErrorClass::Overloaded),
            ("ThrottlingException", 400, ErrorClass::Overloaded),
            ("TransactionConflictException", 400, ErrorClass::Overloaded),
            ("TransactionInProgressException", 400, ErrorClass::Unknown),
            ("RequestLimitExceeded", 400, ErrorClass::Overloaded),
            ("ExpiredTokenException", 400, ErrorClass::NotApplied),
            ("RequestTimeTooSkewed", 403, ErrorClass::NotApplied),
            ("PermanentRedirect", 301, ErrorClass::WrongRegion),
            ("AuthorizationHeaderMalformed", 400, ErrorClass::WrongRegion),
            ("InvalidObjectState", 403, ErrorClass::Archived),
            ("OperationAborted", 409, ErrorClass::Overloaded),
            ("KMS.ThrottlingException", 400, ErrorClass::Overloaded),
            ("ResourceNotFoundException", 400, ErrorClass::NotFound),
            ("AccessDeniedException", 400, ErrorClass::AccessDenied),
            ("InternalServerError", 500, ErrorClass::Unknown),
            ("ValidationException", 400, ErrorClass::NotApplied),
            ("PreconditionFailed", 412, ErrorClass::Stale),
            ("ConditionalRequestConflict", 409, ErrorClass::Overloaded),
            ("NoSuchBucket", 404, ErrorClass::NotFound),
            ("AccessDenied", 403, ErrorClass::AccessDenied),
            ("", 301, ErrorClass::WrongRegion),
            ("AccountProblem", 403, ErrorClass::AccessDenied),
            ("OutOfSpace", 400, ErrorClass::OutOfSpace),
            ("StoreUnusable", 400, ErrorClass::StoreUnusable),
            ("SlowDown", 503, ErrorClass::Overloaded),
            ("InternalError", 500, ErrorClass::Unknown),
            ("", 403, ErrorClass::AccessDenied),
            ("", 503, ErrorClass::Unknown),
            ("AWS.SimpleQueueService.NonExistentQueue", 400, ErrorClass::NotFound),
            ("RequestThrottled", 400, ErrorClass::Overloaded),
            ("KMS.NotFoundException", 400, ErrorClass::KeyUnusable),
            ("KMS.DisabledException", 400, ErrorClass::KeyUnusable),
            ("KMS.KMSInvalidStateException", 400, ErrorClass::KeyUnusable),
            ("KMS.InvalidKeyUsageException", 400, ErrorClass::KeyUnusable),
            ("DecryptionFailure", 400, ErrorClass::KeyUnusable),
            ("DisabledException", 400, ErrorClass::Unusable),
            ("KMSInvalidStateException", 400, ErrorClass::Unusable),
            ("InvalidKeyUsageException", 400, ErrorClass::Unusable),
            ("UnsupportedOperationException", 400, ErrorClass::Unusable),
            ("NotFoundException", 400, ErrorClass::NotFound),
            ("KMSInternalException", 500, ErrorClass::Unknown),
            ("DependencyTimeoutException", 503, ErrorClass::Unknown),
        ] {
            assert_eq!(ErrorClass::from_code(code, status), class, "{code} {status}");
        }
    }

    #[cfg(feature = "s3")]
    #[test]
    fn an_object_that_may_not_be_deleted_is_reported_as_a_missing_permission() {
        let service = Service::new("the destination", "HEADRACE_DESTINATION_BUCKET", "exports");
        let denied = service.store_error_from_code("AccessDenied", "x".into());
        assert!(matches!(&denied, StoreError::Misconfigured { remedy, .. } if remedy.contains("extend the policy")), "{denied:?}");
        let overloaded = service.store_error_from_code("SlowDown", "x".into());
        assert!(matches!(overloaded, StoreError::Overloaded { .. }), "{overloaded:?}");
        for code in ["InternalError", ""] {
            let passing = service.store_error_from_code(code, "x".into());
            assert!(matches!(passing, StoreError::NotApplied { .. }), "{passing:?}");
        }
    }
}
