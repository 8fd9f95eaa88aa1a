//! `campanile version`.

use super::output::Output;
use serde_json::json;

pub fn run(out: Output) {
    let version = env!("CARGO_PKG_VERSION");
    if out.json {
        out.show(&json!({ "version": version }), |_| {});
    } else {
        out.answer(format!("campanile {version}"));
    }
}
