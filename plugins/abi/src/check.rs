//! Whether a plugin's table may be used.

use crate::{flags, BadStruct, Plugin, View};
use core::fmt;

/// Why a table may not be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Refusal {
    /// The table isn't one.
    Struct(BadStruct),
    /// A function that every plugin has is NULL.
    Missing(&'static str),
    /// It sets flags that must be understood and aren't.
    UnknownFlags(u32),
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Struct(BadStruct::Null) => f.write_str("campanile_plugin_v1() returned NULL"),
            Self::Struct(bad) => write!(f, "the plugin's table is not usable: {bad}"),
            Self::Missing(name) => write!(f, "the plugin's table has no {name}()"),
            Self::UnknownFlags(bits) => {
                write!(f, "the plugin sets flags {bits:#x}, which this host does not know and must not ignore")
            }
        }
    }
}

impl View<'_, Plugin> {
    /// The table behind `ptr`, if a host may use it.
    ///
    /// # Safety
    ///
    /// As [`View::new`].
    pub unsafe fn table(ptr: *const Plugin) -> Result<Self, Refusal> {
        // SAFETY: the caller's promise.
        let table = unsafe { Self::new(ptr) }.map_err(Refusal::Struct)?;
        table.check()?;
        Ok(table)
    }

    /// Whether a host may use it.
    pub fn check(self) -> Result<(), Refusal> {
        let present = [
            ("describe", self.describe().is_some()),
            ("start", self.start().is_some()),
            ("deliver", self.deliver().is_some()),
            ("destroy", self.destroy().is_some()),
        ];
        for (name, there) in present {
            if !there {
                return Err(Refusal::Missing(name));
            }
        }
        match self.flags() & flags::MANDATORY & !flags::KNOWN {
            0 => Ok(()),
            unknown => Err(Refusal::UnknownFlags(unknown)),
        }
    }
}
