//! collapsing.
