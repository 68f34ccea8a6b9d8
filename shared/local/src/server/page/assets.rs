//! The files of the page.

use axum::body::Body;
use axum::response::Response;
use http::HeaderValue;
use http::header::CONTENT_TYPE;

/// Media type of a page.
const HTML: &str = "text/html; charset=utf-8";

/// Media type of a module.
const JAVASCRIPT: &str = "text/javascript; charset=utf-8";

/// Name, media type and content of a file.
type Asset = (&'static str, &'static str, &'static [u8]);

/// The document.
const INDEX: Asset = ("index.html", HTML, include_bytes!("assets/index.html"));

/// The files that the document loads.
const FILES: [Asset; 22] = [
    ("style.css", "text/css; charset=utf-8", include_bytes!("assets/style.css")),
    ("icon.svg", "image/svg+xml", include_bytes!("assets/icon.svg")),
    ("api.js", JAVASCRIPT, include_bytes!("assets/api.js")),
    ("app.js", JAVASCRIPT, include_bytes!("assets/app.js")),
    ("dom.js", JAVASCRIPT, include_bytes!("assets/dom.js")),
    ("errors.js", JAVASCRIPT, include_bytes!("assets/errors.js")),
    ("estimate.js", JAVASCRIPT, include_bytes!("assets/estimate.js")),
    ("events.js", JAVASCRIPT, include_bytes!("assets/events.js")),
    ("export.js", JAVASCRIPT, include_bytes!("assets/export.js")),
    ("filters.js", JAVASCRIPT, include_bytes!("assets/filters.js")),
    ("format.js", JAVASCRIPT, include_bytes!("assets/format.js")),
    ("groups.js", JAVASCRIPT, include_bytes!("assets/groups.js")),
    ("list.js", JAVASCRIPT, include_bytes!("assets/list.js")),
    ("management.js", JAVASCRIPT, include_bytes!("assets/management.js")),
    ("outcome.js", JAVASCRIPT, include_bytes!("assets/outcome.js")),
    ("pager.js", JAVASCRIPT, include_bytes!("assets/pager.js")),
    ("request.js", JAVASCRIPT, include_bytes!("assets/request.js")),
    ("schedule.js", JAVASCRIPT, include_bytes!("assets/schedule.js")),
    ("schedule_form.js", JAVASCRIPT, include_bytes!("assets/schedule_form.js")),
    ("schedules.js", JAVASCRIPT, include_bytes!("assets/schedules.js")),
    ("start.js", JAVASCRIPT, include_bytes!("assets/start.js")),
    ("usage.js", JAVASCRIPT, include_bytes!("assets/usage.js")),
];

/// Returns the document.
pub(super) fn index() -> Response {
    respond(&INDEX)
}

/// Returns the file with this name.
pub(super) fn find(name: &str) -> Option<Response> {
    FILES.iter().find(|(file, _, _)| *file == name).map(respond)
}

/// Creates the response with a file.
fn respond((_, media_type, content): &Asset) -> Response {
    let mut response = Response::new(Body::from(*content));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(media_type));
    response
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    /// Returns the text of a file.
    fn text(name: &str) -> &'static str {
        let (_, _, content) = FILES.iter().chain([&INDEX]).find(|(file, _, _)| *file == name).unwrap();
        std::str::from_utf8(content).unwrap()
    }

    #[test]
    fn each_file_is_served_and_imports_only_files_that_exist() {
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("src/server/page/assets");
        let names: BTreeSet<String> =
            std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        let served: BTreeSet<String> = FILES.iter().chain([&INDEX]).map(|(name, _, _)| (*name).to_owned()).collect();
        assert_eq!(names, served);
        for (name, media_type, _) in &FILES {
            if *media_type != JAVASCRIPT {
                continue;
            }
            for line in text(name).lines().filter(|line| line.starts_with("import ")) {
                let imported = line.rsplit_once("\"./").and_then(|(_, end)| end.strip_suffix("\";")).unwrap();
                assert!(served.contains(imported), "{name}: {line}");
            }
        }
    }

    #[test]
    fn nothing_is_inline_nothing_is_parsed_as_html_and_no_other_host_is_named() {
        let document = text("index.html");
        assert!(!document.contains("<style") && !document.contains(" style=") && !document.contains(" on"), "{document}");
        assert_eq!(document.matches("<script").count(), document.matches("<script type=\"module\" src=\"ui/").count());
        for (name, _, _) in &FILES {
            let text = text(name);
            for forbidden in
                ["innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "new Function", "https://", "localStorage"]
            {
                assert!(!text.contains(forbidden), "{name} has {forbidden}");
            }
            let urls = text.matches("http://").count() - text.matches("http://www.w3.org/").count();
            assert_eq!(urls, 0, "{name}");
        }
    }
}
