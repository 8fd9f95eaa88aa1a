//! The configuration as a command sees it: file, this process's environment, flags.

use super::{
    Global,
    exit::{Failure, Outcome},
};
use crate::config::{self, Flag, Loaded};

pub fn load(global: &Global, flags: &[Flag]) -> Outcome<Loaded> {
    let env = std::env::vars_os().filter_map(|(k, v)| Some((k.into_string().ok()?, v.into_string().ok()?)));
    config::load(global.config.as_deref(), env, flags).map_err(|e| {
        Failure::failed(e.to_string()).next("correct the values above; config/default.toml describes every key")
    })
}
