//! The names of callers that AWS IAM or the operator's identity provider authenticates.

use crate::vocab::ids::Caller;

/// Returns true if such a caller can have this name, or if it stands for all of them: the ARN of a user, the ARN of a role in the form of a
/// session without its name, `issuer#subject`, or `*`.
pub fn is_external_name(text: &str) -> bool {
    if text.starts_with("arn:") {
        return is_caller_arn(text);
    }
    let names_subject = text.split_once('#').is_some_and(|(issuer, subject)| !issuer.is_empty() && !subject.is_empty());
    names_subject || text == Caller::UNREGISTERED
}

/// Returns true if a request that AWS IAM authenticates can come from this ARN. It never comes from a role itself, but from a session of it.
fn is_caller_arn(arn: &str) -> bool {
    let Some((service, resource)) = arn_parts(arn) else { return false };
    let (kind, name) = resource.split_once('/').unwrap_or((resource, ""));
    match (service, kind) {
        ("iam", _) => kind != "role" && !resource.is_empty(),
        ("sts", "assumed-role") => !name.is_empty() && !name.contains('/'),
        ("sts", _) => !resource.is_empty(),
        _ => false,
    }
}

/// Returns the service and the resource of `arn:PARTITION:SERVICE:REGION:ACCOUNT:RESOURCE`.
fn arn_parts(arn: &str) -> Option<(&str, &str)> {
    let parts: Vec<&str> = arn.splitn(6, ':').collect();
    let [_, _, service, _, _, resource] = parts.as_slice() else { return None };
    Some((*service, *resource))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_external_name_is_one_that_a_caller_can_have() {
        for name in [
            "*",
            "https://login.example/realm#svc-7",
            "https://login.example/realm#a#b",
            "arn:aws:iam::111122223333:user/team/ann",
            "arn:aws:iam::111122223333:root",
            "arn:aws:sts::111122223333:assumed-role/Export",
            "arn:aws-us-gov:sts::111122223333:federated-user/ann",
        ] {
            assert!(is_external_name(name), "{name}");
        }
        for name in [
            "bob",
            "#bob",
            "https://login.example/realm#",
            "https://login.example/bob",
            "**",
            "arn:",
            "arn:aws:iam::111122223333",
            "arn:aws:iam::111122223333:",
            "arn:aws:iam::111122223333:role/Export",
            "arn:aws:sts::111122223333:assumed-role/",
            "arn:aws:sts::111122223333:assumed-role/Export/session",
            "arn:aws:s3:::bucket",
        ] {
            assert!(!is_external_name(name), "{name}");
        }
    }
}
