//! operating.
