//! marking.
