//! Finished files for a client in the process of the server: their paths, after the same checks as before a download.

use std::collections::HashMap;

use files::handler::LocalFile;
use lambda_http::{Body, Request, RequestExt as _};

use crate::server::service::Service;

impl Service {
    /// Requests a file like a client does. Returns `None` if the server does not grant it.
    pub(crate) async fn finished_file(&self, job: &str, name: &str) -> Option<LocalFile> {
        let parameters = [("job", job), ("name", name)].map(|(key, value)| (key.to_owned(), value.to_owned()));
        let request = Request::new(Body::Empty).with_path_parameters(HashMap::from(parameters));
        let response = self.files.handle(request).await;
        response.extensions().get().cloned()
    }
}
