//! Every close code, in one table.
