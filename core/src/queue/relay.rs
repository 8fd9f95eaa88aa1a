//! Table → queue. STUB.
