//! audiences.
