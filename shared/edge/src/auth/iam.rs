//! AWS IAM: API Gateway verifies the request's signature and passes the identity on.

use headrace_core::request::RequestError;
use headrace_core::vocab::ids::Caller;
use headrace_core::vocab::outcome::IssueCode;
use lambda_http::request::RequestContext;
use lambda_http::{Request, RequestExt as _};

/// Returns the identity that API Gateway verified. Fails if there is none, so that a route that lost its authorizer stays
/// closed.
pub(super) fn verified_caller(request: &Request) -> Result<Caller, RequestError> {
    let arn = match request.request_context_ref() {
        Some(RequestContext::ApiGatewayV2(context)) => {
            context.authorizer.as_ref().and_then(|authorizer| authorizer.iam.as_ref()).and_then(|iam| iam.user_arn.as_deref())
        }
        Some(_) | None => None,
    };
    arn.map(|arn| Caller(without_session(arn))).ok_or_else(|| {
        let text = "the request carries no identity: sign it with AWS Signature Version 4";
        RequestError::new(401, IssueCode::Login, "Authorization", text)
    })
}

/// Removes the session from `arn:aws:sts::1:assumed-role/Role/session`: every session of a role owns the role's jobs.
fn without_session(arn: &str) -> String {
    match arn.split_once(":assumed-role/") {
        Some((account, rest)) => format!("{account}:assumed-role/{}", rest.split('/').next().unwrap_or(rest)),
        None => arn.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_role_owns_its_jobs_over_all_its_sessions() {
        assert_eq!(
            without_session("arn:aws:sts::1:assumed-role/Export/monday"),
            without_session("arn:aws:sts::1:assumed-role/Export/tuesday")
        );
        assert_ne!(without_session("arn:aws:sts::1:assumed-role/Export/x"), without_session("arn:aws:sts::1:assumed-role/Other/x"));
        assert_eq!(without_session("arn:aws:iam::1:user/ann"), "arn:aws:iam::1:user/ann");
    }
}
