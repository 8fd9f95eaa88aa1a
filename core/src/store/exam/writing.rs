//! writing.
