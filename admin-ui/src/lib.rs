//! Server-rendered pages: console, demo, caught mail. A page is a struct that renders to text.
//!
//! Owns: markup, styles, scripts and their names. Absent on purpose: HTTP, the store and every other part of the host;
//! what a page shows arrives as its fields.

pub mod assets;
pub mod chart;
pub mod form;
pub mod format;
pub mod pages;
pub mod pieces;
pub mod sentence;

/// For every page: nothing inline, nothing from elsewhere. `frame-src` is for the caught mail's own sandboxed frame.
pub const CSP: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; font-src 'self'; \
                       connect-src 'self'; frame-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'";

/// For a caught mail's HTML: it may lay itself out, and nothing else. Pictures from elsewhere stay unfetched, so that
/// reading a mail tells nobody.
pub const MAIL_CSP: &str =
    "sandbox; default-src 'none'; style-src 'unsafe-inline'; img-src data:; frame-ancestors 'self'";
