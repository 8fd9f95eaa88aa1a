//! A list as a file: CSV or NDJSON, streamed page by page and bounded, so that neither memory nor the database feels it.

use crate::{http::problem::ApiResult, services::Services};
use async_trait::async_trait;
use axum::{
    body::Body,
    http::{HeaderValue, header},
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use std::{convert::Infallible, fmt::Write as _, sync::Arc};

/// Rows of one file.
const MOST: usize = 50_000;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    Csv,
    Ndjson,
}

impl Format {
    pub fn parse(text: &str) -> Option<Self> {
        match text {
            "csv" => Some(Self::Csv),
            "ndjson" => Some(Self::Ndjson),
            _ => None,
        }
    }
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Csv => "csv",
            Self::Ndjson => "ndjson",
        }
    }
}

/// What is written, a page at a time.
#[async_trait]
pub trait Sheet: Send + 'static {
    const COLUMNS: &'static [&'static str];
    /// The next rows; none: it is over.
    async fn next(&mut self, s: &Services) -> ApiResult<Vec<Vec<String>>>;
}

pub fn stream<S: Sheet>(s: &Arc<Services>, format: Format, name: &str, sheet: S) -> Response {
    let stamp = s.clock.now().format("%Y%m%dT%H%M%SZ");
    let (kind, file) = match format {
        Format::Csv => ("text/csv; charset=utf-8", format!("{name}-{stamp}.csv")),
        Format::Ndjson => ("application/x-ndjson", format!("{name}-{stamp}.ndjson")),
    };
    let state = Some((s.clone(), sheet, 0usize));
    let body = futures_util::stream::unfold(state, move |state| async move {
        let (s, mut sheet, written) = state?;
        let mut out = String::new();
        if written == 0 && format == Format::Csv {
            line(&mut out, format, S::COLUMNS, &S::COLUMNS.map_strings());
        }
        // A file that ends early says so in its last line: half a list must not pass for a whole one.
        let (rows, end) = match sheet.next(&s).await {
            Ok(rows) if rows.is_empty() => (rows, Some(String::new())),
            Ok(rows) if written + rows.len() >= MOST => (rows, Some(format!("stopped after {MOST} rows"))),
            Ok(rows) => (rows, None),
            Err(e) => (Vec::new(), Some(format!("ended early: {}", e.detail))),
        };
        for row in rows.iter().take(MOST - written) {
            line(&mut out, format, S::COLUMNS, row);
        }
        let written = written + rows.len();
        let next = match end {
            None => Some((s, sheet, written)),
            Some(why) => {
                if !why.is_empty() {
                    line(&mut out, format, &["note"], &[why]);
                }
                None
            }
        };
        Some((Ok::<_, Infallible>(Bytes::from(out)), next))
    });
    let mut response = Body::from_stream(body).into_response();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    if let Ok(value) = HeaderValue::from_str(&format!("attachment; filename=\"{file}\"")) {
        headers.insert(header::CONTENT_DISPOSITION, value);
    }
    response
}

trait MapStrings {
    fn map_strings(&self) -> Vec<String>;
}
impl MapStrings for [&str] {
    fn map_strings(&self) -> Vec<String> {
        self.iter().map(|s| (*s).to_owned()).collect()
    }
}

fn line(out: &mut String, format: Format, names: &[&str], row: &[String]) {
    match format {
        Format::Csv => {
            for (i, cell) in row.iter().enumerate() {
                let _ = write!(out, "{}{}", if i == 0 { "" } else { "," }, cell_of(cell));
            }
            out.push_str("\r\n");
        }
        Format::Ndjson => {
            let object: serde_json::Map<String, serde_json::Value> =
                names.iter().zip(row).map(|(name, cell)| ((*name).to_owned(), cell.clone().into())).collect();
            let _ = writeln!(out, "{}", serde_json::Value::Object(object));
        }
    }
}

/// Quoted where it must be; what a spreadsheet would run as a formula is text (OWASP, CSV injection).
fn cell_of(text: &str) -> String {
    let risky = text.starts_with(['=', '+', '-', '@', '\t', '\r']);
    let text = if risky { format!("'{text}") } else { text.to_owned() };
    if text.contains(['"', ',', '\r', '\n']) { format!("\"{}\"", text.replace('"', "\"\"")) } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_are_quoted_and_never_a_formula() {
        for (text, cell) in [
            ("plain", "plain"),
            ("a,b", "\"a,b\""),
            ("say \"hi\"", "\"say \"\"hi\"\"\""),
            ("two\nlines", "\"two\nlines\""),
            ("=cmd()", "'=cmd()"),
            ("+49 30, x", "\"'+49 30, x\""),
        ] {
            assert_eq!(cell_of(text), cell);
        }
        let mut out = String::new();
        line(&mut out, Format::Ndjson, &["a", "b"], &["1".into(), "\"".into()]);
        assert_eq!(out, "{\"a\":\"1\",\"b\":\"\\\"\"}\n");
    }
}
