//! A form that came when its session had ended, from a page that only a form draws: nothing leads back to such a page, so
//! what was written in it goes along through the sign-in, and is asked about behind it.
//!
//! Nothing is carried out by signing in: the answer to an ask is left behind, so what is dangerous is asked once more.
//! Absent on purpose: passwords, and the forms of channels and plugins, which may hold a provider's secrets.

use super::{gate::Entry, session::safe_back};
use axum::{
    body::{Body, to_bytes},
    http::{header, request::Parts},
};
use campanile_admin_ui::pages::sign_in::Kept;

/// The longest form that goes along.
const MOST: usize = 256 * 1024;
/// Whose forms stay behind.
const SECRET_PAGES: [&str; 2] = ["/admin/channels", "/admin/plugins"];
/// Fields that stay behind: of the session that has ended, answers to an ask, passwords.
const LEFT: [&str; 6] = ["csrf", "sure", "word", "password", "present", "again"];

/// What this form takes along; none: it leads back to its page, as any does.
pub async fn of(entries: &[Entry], parts: &Parts, body: Body) -> Option<Kept> {
    let page = parts.headers.get(header::REFERER)?.to_str().ok().and_then(|v| url::Url::parse(v).ok())?;
    let to = parts.uri.path();
    if super::gate::drawn(entries, page.path()) || !page.path().starts_with("/admin/") || !may_go_along(entries, to) {
        return None;
    }
    let kind = parts.headers.get(header::CONTENT_TYPE)?.to_str().ok()?;
    if !kind.starts_with("application/x-www-form-urlencoded") {
        return None;
    }
    let body = to_bytes(body, MOST).await.ok()?;
    let fields = url::form_urlencoded::parse(&body).into_owned().filter(|(name, _)| !LEFT.contains(&name.as_str()));
    Some(Kept { to: to.to_owned(), form: written(fields) })
}

/// Whether a form with this target may be asked about behind a sign-in.
fn may_go_along(entries: &[Entry], to: &str) -> bool {
    safe_back(to) == to
        && !SECRET_PAGES.iter().any(|page| to.starts_with(page))
        && super::gate::takes_form(entries, to)
        && !["/admin/sign-out", "/admin/sign-in", "/admin/welcome"].contains(&to)
}

fn written(fields: impl Iterator<Item = (String, String)>) -> String {
    url::form_urlencoded::Serializer::new(String::new()).extend_pairs(fields).finish()
}

/// What came back from the sign-in page: somebody's browser wrote it, so it is judged anew.
pub fn read(entries: &[Entry], to: &str, form: &str) -> Option<Vec<(String, String)>> {
    if form.len() > 2 * MOST || !may_go_along(entries, to) {
        return None;
    }
    let fields = url::form_urlencoded::parse(form.as_bytes()).into_owned();
    Some(fields.filter(|(name, _)| !LEFT.contains(&name.as_str())).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_forms_of_ours_without_secrets_go_along() {
        let routes = crate::http::admin::console();
        let read = |to: &str| read(routes.entries(), to, "email=a%26b&csrf=t&sure=1&word=erase&password=p");
        assert_eq!(read("/admin/users/ada/edit"), Some(vec![("email".to_owned(), "a&b".to_owned())]));
        for to in [
            "/admin/users/ada",
            "/admin/sign-out",
            "/admin/channels/email/config",
            "//evil.example/admin",
            "https://evil.example/",
            "",
        ] {
            assert_eq!(read(to), None, "{to}");
        }
    }
}
