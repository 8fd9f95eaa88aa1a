//! Sets up tracing.
