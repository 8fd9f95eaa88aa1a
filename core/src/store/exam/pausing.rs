//! pausing.
