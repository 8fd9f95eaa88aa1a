//! retaining.
