//! The page by which an owner changes the gallery; it asks by the same paths as programs do.

use std::sync::Arc;

use hyper::header::{self, HeaderValue};

use crate::service::Service;
use crate::service::http::{Call, typed};
use crate::service::problem::{Answered, Kind, Problem};

/// What the page may load and ask.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src blob:; connect-src 'self'; base-uri \
                      'none'; form-action 'none'; frame-ancestors 'none'";

/// A file of the page, where the owner wants one.
fn file(service: &Service, text: &'static str, kind: &'static str) -> Answered {
    if !service.manage {
        let detail = "this service has no page for its owner; start it with --manage";
        return Err(Problem::new(Kind::NotFound, detail));
    }
    Ok(typed(text, kind))
}

/// The page.
pub(crate) async fn page(service: Arc<Service>, _: Call) -> Answered {
    let text = include_str!("../manage/page.html");
    let mut response = file(&service, text, "text/html; charset=utf-8")?;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY));
    headers.insert(header::REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    Ok(response)
}

/// How it looks.
pub(crate) async fn style(service: Arc<Service>, _: Call) -> Answered {
    file(&service, include_str!("../manage/manage.css"), "text/css; charset=utf-8")
}

/// What it shows and does.
pub(crate) async fn script(service: Arc<Service>, _: Call) -> Answered {
    file(&service, include_str!("../manage/manage.js"), "text/javascript; charset=utf-8")
}

/// What it is made of.
pub(crate) async fn parts(service: Arc<Service>, _: Call) -> Answered {
    file(&service, include_str!("../manage/parts.js"), "text/javascript; charset=utf-8")
}

/// Its sentences.
pub(crate) async fn sentences(service: Arc<Service>, _: Call) -> Answered {
    file(&service, include_str!("../manage/sentences.json"), "application/json")
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    /// The names in braces of a sentence.
    fn values(text: &str) -> BTreeSet<&str> {
        text.split('{').skip(1).filter_map(|rest| rest.split('}').next()).collect()
    }

    #[test]
    fn every_sentence_is_there_in_both_languages_and_is_said() {
        let text = include_str!("../manage/sentences.json");
        let all: BTreeMap<String, BTreeMap<String, String>> = serde_json::from_str(text).unwrap();
        let (english, chinese) = (&all["en"], &all["zh"]);
        assert!(english.keys().eq(chinese.keys()));
        let script =
            [include_str!("../manage/manage.js"), include_str!("../manage/parts.js")].concat();
        for (name, sentence) in english {
            assert_eq!(values(sentence), values(&chinese[name]), "{name}");
            // Some are named by what they are of: `number.…`, `adapt.kind.…`.
            let last = name.rsplit('.').next().unwrap_or_default();
            let is_said =
                [name.as_str(), last].iter().any(|name| script.contains(&format!("\"{name}\"")));
            assert!(is_said, "{name} is said nowhere");
        }
        for said in script.split("say(\"").skip(1).filter_map(|rest| rest.split('"').next()) {
            assert!(english.contains_key(said), "{said}");
        }
    }
}
