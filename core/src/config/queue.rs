//! `[queue]`: The work queue.

use serde::Deserialize;

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Queue {
    /// `embedded`: in process, over the same tables.
    pub url: String,
    /// Ids the embedded queue holds per channel; the rest waits in the table.
    pub capacity: usize,
}
