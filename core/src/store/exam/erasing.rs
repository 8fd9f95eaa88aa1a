//! erasing.
