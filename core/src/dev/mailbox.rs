//! Caught mail, newest last, in memory. STUB.

#[derive(Default)]
pub struct Mailbox {}
