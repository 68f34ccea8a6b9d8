//! Who asks.

use headrace_core::ids::Caller;
use headrace_core::outcome::IssueCode;
use headrace_core::request::Refusal;
use lambda_http::request::RequestContext;
use lambda_http::{Request, RequestExt};

/// Who sent the request, and whether access control is on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The owner of what they start.
    pub caller: Caller,
    /// Whether a credential was asked for.
    pub is_authenticated: bool,
}

/// The identity that API Gateway has verified; [`Caller::LOCAL`] where no gateway stands in front.
///
/// A request that came through a gateway without a verified identity is refused: a route that lost its authorizer
/// stays shut.
pub fn identity(request: &Request) -> Result<Identity, Refusal> {
    let Some(RequestContext::ApiGatewayV2(context)) = request.request_context_ref() else {
        return Ok(Identity { caller: Caller(Caller::LOCAL.to_owned()), is_authenticated: false });
    };
    let iam = context.authorizer.as_ref().and_then(|authorizer| authorizer.iam.as_ref());
    match iam.and_then(|iam| iam.user_arn.as_deref()) {
        Some(arn) => Ok(Identity { caller: Caller(without_session(arn)), is_authenticated: true }),
        None => {
            let text = "the request carries no identity: sign it with AWS Signature Version 4";
            Err(Refusal::of(401, IssueCode::Login, "Authorization", text))
        }
    }
}

/// `arn:aws:sts::1:assumed-role/Role/session` without its session: whoever assumes the role again owns the job still.
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
