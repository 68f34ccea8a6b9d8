//! Errors of stores and of the lake. Each variant tells the caller how to proceed.

use super::clock::Millis;

/// The cause of an error. It is logged and never shown to a client.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// An error of a store. The variant tells whether the write may have been applied.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The store rejected the call, or the call was never sent. Nothing was written.
    #[error("{store} rejected the call; nothing was written")]
    NotApplied {
        /// The store.
        store: &'static str,
        /// The cause.
        #[source]
        cause: BoxError,
    },
    /// The store has rejected the call because it gets too many, or because another call was using the same item. Nothing was written.
    /// The fault lies neither in the call nor in what it is about.
    #[error("{store} is overloaded; nothing was written")]
    Overloaded {
        /// The store.
        store: &'static str,
        /// The cause.
        #[source]
        cause: BoxError,
    },
    /// The store did not answer. The write may have been applied: read before writing again.
    #[error("{store} did not answer; the write may have been applied")]
    Unknown {
        /// The store.
        store: &'static str,
        /// The cause.
        #[source]
        cause: BoxError,
    },
    /// Another process changed the item first, or the lease has ended. Nothing was written.
    #[error("the item was changed by another process, or the lease has ended")]
    Stale,
    /// A setting or a permission is wrong, so that no retry can succeed. Nothing was written.
    #[error("{remedy}")]
    Misconfigured {
        /// The setting that is wrong and how to correct it. Shown to clients.
        remedy: String,
        /// The store's own error.
        #[source]
        cause: BoxError,
    },
    /// The store has no space left, so that no retry can succeed until space is freed. Nothing was written.
    #[error("no space left in {place}; free space there and try again")]
    OutOfSpace {
        /// The place that is full. Shown to clients.
        place: String,
        /// The store's own error.
        #[source]
        cause: BoxError,
    },
    /// A stored item or file is malformed.
    #[error("{store} holds an unreadable item: {detail}")]
    Unreadable {
        /// The store.
        store: &'static str,
        /// The fault.
        detail: String,
    },
}

impl StoreError {
    /// Names the object that the error is about, in its text or in that of its cause.
    #[must_use]
    pub fn about_object(self, object: &str) -> Self {
        match self {
            Self::NotApplied { store, cause } => Self::NotApplied { store, cause: cause_about(object, &cause) },
            Self::Overloaded { store, cause } => Self::Overloaded { store, cause: cause_about(object, &cause) },
            Self::Unknown { store, cause } => Self::Unknown { store, cause: cause_about(object, &cause) },
            Self::Misconfigured { remedy, cause } => Self::Misconfigured { remedy: text_about(object, &remedy), cause },
            Self::OutOfSpace { place, cause } => Self::OutOfSpace { place, cause: cause_about(object, &cause) },
            Self::Stale | Self::Unreadable { .. } => self,
        }
    }
}

impl SourceError {
    /// Names the object that the error is about, in its text or in that of its cause.
    #[must_use]
    pub fn about_object(self, object: &str) -> Self {
        match self {
            Self::Misconfigured { remedy, cause } => Self::Misconfigured { remedy: text_about(object, &remedy), cause },
            Self::Overloaded(cause) => Self::Overloaded(cause_about(object, &cause)),
            Self::Unavailable(cause) => Self::Unavailable(cause_about(object, &cause)),
            Self::Changed { .. }
            | Self::Unreadable { .. }
            | Self::Archived { .. }
            | Self::OriginUnavailable(_)
            | Self::OriginBusy { .. } => self,
        }
    }
}

/// Returns a text about an object that names it.
fn text_about(object: &str, text: &str) -> String {
    format!("the object `{object}`: {text}")
}

/// Returns a cause with its own causes, which names the object.
fn cause_about(object: &str, cause: &BoxError) -> BoxError {
    text_about(object, &error_chain(&**cause)).into()
}

/// An error of the lake.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// A pinned object has changed. To continue would mix two states of the lake in one export.
    #[error("the object `{object}` of the lake was changed or removed after the export had pinned it; start a new export")]
    Changed {
        /// The object.
        object: String,
    },
    /// An object cannot be read or decompressed, or a folder cannot be listed, and no retry can succeed.
    #[error("the object `{object}` of the lake cannot be read: {detail}; correct or replace it and start a new export")]
    Unreadable {
        /// The object.
        object: String,
        /// The fault.
        detail: &'static str,
    },
    /// A setting or a permission is wrong.
    #[error("{remedy}")]
    Misconfigured {
        /// The setting that is wrong and how to correct it. Shown to clients.
        remedy: String,
        /// The lake's own error.
        #[source]
        cause: BoxError,
    },
    /// An object is in an archive, from which it cannot be read.
    #[error("the object `{object}` of the lake is archived ({storage_class}) and cannot be read; restore it and start a new export")]
    Archived {
        /// The object.
        object: String,
        /// The storage class.
        storage_class: String,
    },
    /// The lake has rejected the call because it gets too many.
    #[error("the lake is overloaded")]
    Overloaded(#[source] BoxError),
    /// The FHIR server that the lake is filled from did not answer. A retry may succeed.
    #[error("the FHIR server did not answer")]
    OriginUnavailable(#[source] BoxError),
    /// The FHIR server that the lake is filled from demands a pause.
    #[error("the FHIR server demands a pause until {until}")]
    OriginBusy {
        /// The end of the pause.
        until: Millis,
    },
    /// The lake did not answer. A retry may succeed.
    #[error("the lake did not answer")]
    Unavailable(#[source] BoxError),
}

/// Formats an error and its causes in one line.
pub fn error_chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let message = error.to_string();
        // Some messages contain that of their cause.
        if !text.contains(&message) {
            text = format!("{text}: {message}");
        }
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_about_an_object_names_it() {
        let cause = || BoxError::from("connection reset");
        let misconfigured = |remedy: &str| StoreError::Misconfigured { remedy: remedy.to_owned(), cause: cause() };
        for error in [
            StoreError::NotApplied { store: "the lake", cause: cause() },
            StoreError::Unknown { store: "the lake", cause: cause() },
            misconfigured("extend the policy"),
        ] {
            let text = error_chain(&error.about_object("_headrace/watermark.json"));
            assert!(text.contains("the object `_headrace/watermark.json`: ") && text.contains("connection reset"), "{text}");
        }
        let text = error_chain(&SourceError::Unavailable(cause()).about_object("_headrace/sync.json"));
        assert_eq!(text, "the lake did not answer: the object `_headrace/sync.json`: connection reset");
    }

    #[test]
    fn an_error_is_formatted_with_its_causes_and_repeats_none() {
        let unavailable = |cause: &str| SourceError::Unavailable(BoxError::from(cause));
        assert_eq!(error_chain(&unavailable("connection reset")), "the lake did not answer: connection reset");
        assert_eq!(error_chain(&unavailable("did not answer")), "the lake did not answer");
        let error = SourceError::Misconfigured { remedy: "the object is empty: write one".to_owned(), cause: "is empty".into() };
        assert_eq!(error_chain(&error), "the object is empty: write one");
    }
}
